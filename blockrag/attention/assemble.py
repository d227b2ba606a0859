"""Assemble: join block KVs into the KV of one prompt. Knows where blocks go, not what they say."""

from collections.abc import Sequence

import torch

from blockrag.attention.cache import PreallocatedCache
from blockrag.attention.rope import Rope
from blockrag.kv.block_kv import BlockKV


def assemble(parts: Sequence[BlockKV], rope: Rope, storage: torch.Tensor) -> PreallocatedCache:
    """Copy `parts` one behind another, each part's keys rotated from its local to its joined positions.

    Parameters
    ----------
    parts : sequence of BlockKV
        Prefix first, then the blocks, in prompt order. They are read, never written (rule 5).
    rope : Rope
        The model's rotary positions.
    storage : torch.Tensor
        Shape ``(2, layers, 1, kv_heads, capacity, head_dim)``; capacity beyond the parts is room for the final block
        and the answer.

    Returns
    -------
    PreallocatedCache
        Over `storage`, holding the parts' tokens.
    """
    keys, values = storage[:, :, 0]
    start = 0
    for part in parts:
        end = start + part.n_tokens
        rope.rotate(part.keys, start - part.first_position, out=keys[:, :, start:end])
        values[:, :, start:end] = part.values
        start = end
    return PreallocatedCache(storage, n_tokens=start)
