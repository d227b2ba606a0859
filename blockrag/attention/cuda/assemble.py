"""Assemble on CUDA: one kernel gathers and rotates every block. Same result as `blockrag.attention.assemble`.

Each key and value is read once from its block and written once to the joined storage. A program moves `TILE` tokens of
one key/value head of one block; the kernel gets the blocks' addresses.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from blockrag.attention.kv_cache import PreallocatedCache
from blockrag.attention.rope import Rope
from blockrag.kv.block_kv import BlockKV

TILE = 16


@triton.jit
def _gather(
    blocks,  # (n_blocks, 4) int64: address of keys, address of values, tokens, position of the first token
    rotations,  # (n_blocks, 2, half) float32: cosine and sine of the block's rotation
    keys,  # (planes, capacity, head_dim)
    values,
    plane_stride,
    HALF: tl.constexpr,
    TILE: tl.constexpr,
):
    first, plane, block = tl.program_id(0) * TILE, tl.program_id(1).to(tl.int64), tl.program_id(2)
    n_tokens = tl.load(blocks + block * 4 + 2)
    if first >= n_tokens:
        return
    # Without the promise of alignment each element would be loaded alone.
    from_keys = tl.multiple_of(tl.load(blocks + block * 4).to(tl.pointer_type(keys.dtype.element_ty)), 16)
    from_values = tl.multiple_of(tl.load(blocks + block * 4 + 1).to(tl.pointer_type(keys.dtype.element_ty)), 16)
    start_token = tl.load(blocks + block * 4 + 3)
    token, dim = tl.arange(0, TILE)[:, None], tl.arange(0, HALF)[None, :]
    inside = first + token < n_tokens
    source = (plane * n_tokens + first + token) * 2 * HALF + dim
    target = plane * plane_stride + (start_token + first + token) * 2 * HALF + dim
    cos = tl.load(rotations + block * 2 * HALF + dim)
    sin = tl.load(rotations + block * 2 * HALF + HALF + dim)
    low = tl.load(from_keys + source, mask=inside).to(tl.float32)
    high = tl.load(from_keys + source + HALF, mask=inside).to(tl.float32)
    value_low = tl.load(from_values + source, mask=inside)
    value_high = tl.load(from_values + source + HALF, mask=inside)
    tl.store(keys + target, (low * cos - high * sin).to(keys.dtype.element_ty), mask=inside)
    tl.store(keys + target + HALF, (high * cos + low * sin).to(keys.dtype.element_ty), mask=inside)
    tl.store(values + target, value_low, mask=inside)
    tl.store(values + target + HALF, value_high, mask=inside)


def assemble_cuda(parts: Sequence[BlockKV], rope: Rope, storage: torch.Tensor) -> PreallocatedCache:
    """See `blockrag.attention.assemble.assemble`; parts and storage are on the same GPU, heads are rotated whole."""
    rows, offsets, start = [], [], 0
    for part in parts:
        rows.append([part.keys.data_ptr(), part.values.data_ptr(), part.n_tokens, start])
        offsets.append(start - part.first_position)
        start += part.n_tokens
    _, layers, _, kv_heads, capacity, head_dim = storage.shape
    blocks = torch.tensor([[*row, offset] for row, offset in zip(rows, offsets, strict=True)]).pin_memory()
    blocks = blocks.to(storage.device, non_blocking=True)
    angles = blocks[:, 4:] * rope.inv_freq.to(storage.device)  # (n_blocks, half) float64
    keys, values = storage
    longest = max(part.n_tokens for part in parts)
    _gather[(triton.cdiv(longest, TILE), layers * kv_heads, len(parts))](
        blocks[:, :4].contiguous(),
        torch.stack([angles.cos(), angles.sin()], dim=1).float(),
        keys,
        values,
        capacity * head_dim,
        HALF=head_dim // 2,
        TILE=TILE,
    )
    return PreallocatedCache(storage, n_tokens=start)
