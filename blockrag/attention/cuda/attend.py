"""Attention of a few queries over cached blocks in place, on CUDA.

Nothing is copied and no key is moved: a block's keys keep their local positions, and the queries are rotated back when
a program comes to the block, q R(offset) k = (R(-offset) q) k. (LazyAttention and MiniPIC make the same choice on the
side of the keys; queries are fewer, and rotated once a block.) The queries of all heads that share a key/value head are
processed together, so that keys are read once; each program attends to one split of the tokens and stores its result
with the logarithm of its weight, and a second kernel combines the splits (flash decoding; FlashAttention-2, arXiv
2307.08691, section 3.1). The numbers of tokens are read on the device, so that a captured graph serves every set of
blocks.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

LOG2_E = 1.4426950408889634


@dataclass(frozen=True)
class Tiling:
    """How the work is divided: rows of queries, keys a step, warps, pipeline stages, splits of the tokens."""

    rows: int
    keys: int
    warps: int
    stages: int
    splits: int


@dataclass(frozen=True)
class BlockTableView:
    """Where the blocks are, on the device; see `blockrag.attention.cuda.block_table`.

    Attributes
    ----------
    blocks : torch.Tensor
        int64 ``(capacity, 3)``: address of the keys, address of the values, tokens.
    rotations : torch.Tensor
        float32 ``(capacity, 2, rotary_dim / 2)``: cosine and sine of each block's offset.
    splits : torch.Tensor
        int64 ``(splits, 3)``: first block of a split, first token in that block, tokens of the split.
    interleaved : bool
        Whether neighbouring components are rotated together; see `Rope`.
    """

    blocks: torch.Tensor
    rotations: torch.Tensor
    splits: torch.Tensor
    interleaved: bool = False


@triton.jit
def _rotated_back(
    queries, row, in_row, cos_at, sin_at, DIM: tl.constexpr, HALF: tl.constexpr, NEIGHBOURS: tl.constexpr
):  # fmt: skip
    """Queries ``(ROWS, DIM)``, rotated back by the angles at `cos_at`, `sin_at`; components from 2 HALF on stay."""
    dim = tl.arange(0, DIM)
    rotated = dim < 2 * HALF
    if NEIGHBOURS:
        low, other, angle = dim % 2 == 0, dim ^ 1, dim // 2
    else:
        low = dim < HALF
        other = tl.where(low, dim + HALF, tl.where(rotated, dim - HALF, dim))
        angle = tl.where(low, dim, dim - HALF)
    cos = tl.load(cos_at + angle, mask=rotated, other=1.0)
    sin = tl.load(sin_at + angle, mask=rotated, other=0.0)
    sin = tl.where(low, sin, -sin)
    q = tl.load(queries + row[:, None] * DIM + dim[None, :], mask=in_row[:, None], other=0.0)
    swapped = tl.load(queries + row[:, None] * DIM + other[None, :], mask=in_row[:, None], other=0.0)
    return (q.to(tl.float32) * cos[None, :] + swapped.to(tl.float32) * sin[None, :]).to(q.dtype)


@triton.jit
def _step(
    q, top, total, result, at, keys, values, last, n_keys, scale,
    DIM: tl.constexpr, KEYS: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """Attend to the keys from `at` on; at the `EDGE` a row sees only those up to its `last`."""
    key, dim = at + tl.arange(0, KEYS), tl.arange(0, DIM)
    offset = key[:, None] * DIM + dim[None, :]
    if EDGE:
        k = tl.load(keys + offset, mask=key[:, None] < n_keys, other=0.0)
        v = tl.load(values + offset, mask=key[:, None] < n_keys, other=0.0)
    else:
        k = tl.load(keys + offset)
        v = tl.load(values + offset)
    score = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    if EDGE:
        score = tl.where(key[None, :] <= last[:, None], score, float("-inf"))
    new_top = tl.maximum(top, tl.max(score, 1))
    safe = tl.where(new_top == float("-inf"), 0.0, new_top) if EDGE else new_top
    p = tl.exp2(score - safe[:, None])
    shrink = tl.exp2(top - safe)
    result = result * shrink[:, None]
    result = tl.dot(p.to(v.dtype), v, result, input_precision="ieee")
    return new_top, total * shrink + tl.sum(p, 1), result


@triton.jit
def _attend_split(
    queries,  # (kv_heads, rows, DIM): row = head in group * n_queries + query
    blocks, rotations, splits,  # the table
    tail_keys, tail_values,  # (kv_heads, capacity, DIM): the final block's own, at their positions in the prompt
    counts,  # int64 (2,): tokens in the blocks, tokens in the tail before the queries'
    partial,  # (kv_heads, SPLITS + 1, rows, DIM) float32
    weights,  # (kv_heads, SPLITS + 1, rows) float32: log2 of the sum of exponentials
    layer, tail_stride, n_queries, n_rows,
    scale,  # includes log2(e)
    ROTATE: tl.constexpr, NEIGHBOURS: tl.constexpr, DIM: tl.constexpr, HALF: tl.constexpr,
    ROWS: tl.constexpr, KEYS: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    split, row_block, head = SPLITS - tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    row, dim = row_block * ROWS + tl.arange(0, ROWS), tl.arange(0, DIM)
    in_row = row < n_rows
    queries += head * n_rows * DIM
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    result = tl.zeros([ROWS, DIM], tl.float32)
    if split == SPLITS:
        before = tl.load(counts + 1).to(tl.int32)
        n_keys = before + n_queries
        last = before + row % n_queries
        q = tl.load(queries + row[:, None] * DIM + dim[None, :], mask=in_row[:, None], other=0.0)
        keys, values = tail_keys + head * tail_stride, tail_values + head * tail_stride
        for at in range(0, n_keys, KEYS):
            top, total, result = _step(q, top, total, result, at, keys, values, last, n_keys, scale, DIM, KEYS, True)
    else:
        block = tl.load(splits + split * 3)
        token = tl.load(splits + split * 3 + 1)
        left = tl.load(splits + split * 3 + 2)
        plane = layer * tl.num_programs(2) + head
        while left > 0:
            n_tokens = tl.load(blocks + block * 3 + 2)
            n_keys = tl.minimum(left, n_tokens - token).to(tl.int32)
            # Without the promise of alignment each element would be loaded alone.
            start = (plane * n_tokens + token) * DIM
            kind = tl.pointer_type(queries.dtype.element_ty)
            keys = tl.multiple_of(tl.load(blocks + block * 3).to(kind), 16) + start
            values = tl.multiple_of(tl.load(blocks + block * 3 + 1).to(kind), 16) + start
            if ROTATE:
                at_rotation = rotations + block * 2 * HALF
                q = _rotated_back(queries, row, in_row, at_rotation, at_rotation + HALF, DIM, HALF, NEIGHBOURS)
            else:
                q = tl.load(queries + row[:, None] * DIM + dim[None, :], mask=in_row[:, None], other=0.0)
            last = tl.zeros([ROWS], tl.int32) + n_keys - 1
            whole = n_keys // KEYS * KEYS
            for at in range(0, whole, KEYS):
                top, total, result = _step(
                    q, top, total, result, at, keys, values, last, n_keys, scale, DIM, KEYS, False
                )
            if whole < n_keys:
                top, total, result = _step(
                    q, top, total, result, whole, keys, values, last, n_keys, scale, DIM, KEYS, True
                )
            left -= n_keys
            token = token * 0
            block += 1
    out = (head * (SPLITS + 1) + split) * n_rows + row
    none = total == 0.0
    tl.store(weights + out, tl.where(none, float("-inf"), top + tl.log2(total)), mask=in_row)
    mean = result / tl.where(none, 1.0, total)[:, None]
    tl.store(partial + out[:, None] * DIM + dim[None, :], mean, mask=in_row[:, None])


@triton.jit
def _join(
    partial, weights,
    output,  # (n_queries, heads, DIM)
    n_queries, n_rows, n_heads, group,
    DIM: tl.constexpr, PARTS: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    part, dim = tl.arange(0, ROOM), tl.arange(0, DIM)
    offset = (head * PARTS + part) * n_rows + row
    weight = tl.load(weights + offset, mask=part < PARTS, other=float("-inf"))
    share = tl.exp2(weight - tl.max(weight, 0))
    mean = tl.load(partial + offset[:, None] * DIM + dim[None, :], mask=part[:, None] < PARTS, other=0.0)
    joined = tl.sum(mean * share[:, None], 0) / tl.sum(share, 0)
    query, query_head = row % n_queries, head * group + row // n_queries
    tl.store(output + (query * n_heads + query_head) * DIM + dim, joined.to(output.dtype.element_ty))


def tiling_for(n_rows: int, kv_heads: int, dim: int, itemsize: int) -> Tiling:
    """A tiling that fills a GPU of about 130 multiprocessors with `n_rows` rows for each of `kv_heads` heads."""
    widest = (128 if dim <= 128 else 64) if itemsize == 2 else 32
    rows = max(16, min(widest, triton.next_power_of_2(n_rows)))
    n_programs = triton.cdiv(n_rows, rows) * kv_heads
    splits = max(1, min(32, triton.next_power_of_2(132 // n_programs)))
    if rows == 16 and itemsize == 2:  # decoding: the rate of memory counts, not that of products
        return Tiling(rows, keys=32, warps=2, stages=3, splits=2 * splits)
    if itemsize == 4:
        return Tiling(rows, keys=32, warps=4, stages=1, splits=splits)
    return Tiling(rows, keys=64, warps=8 if rows == 128 else 4, stages=3 if dim <= 128 else 2, splits=splits)


def attend_blocks(
    query: torch.Tensor,
    tail_keys: torch.Tensor,
    tail_values: torch.Tensor,
    table: BlockTableView,
    counts: torch.Tensor,
    *,
    layer: int,
    rotate: bool,
    scale: float,
    tiling: Tiling,
) -> torch.Tensor:
    """Attention of the newest tokens over all blocks of the table and, causally, over the tail.

    Parameters
    ----------
    query : torch.Tensor
        Shape ``(1, heads, n_queries, head_dim)``, rotated to their positions in the prompt.
    tail_keys, tail_values : torch.Tensor
        Shape ``(1, kv_heads, capacity, head_dim)``: of the final block and the answer, the queries' own included.
    table : BlockTableView
    counts : torch.Tensor
        int64 ``(2,)`` on the device: tokens in the blocks, and tokens in the tail before the queries' own.
    layer : int
        Index of the layer, in the blocks' keys and values.
    rotate : bool
        Whether this layer's keys are rotated.
    scale : float
        Of the dot products.
    tiling : Tiling

    Returns
    -------
    torch.Tensor
        Shape ``(1, n_queries, heads, head_dim)``.
    """
    _, heads, n_queries, dim = query.shape
    _, kv_heads, capacity, _ = tail_keys.shape
    group, parts = heads // kv_heads, tiling.splits + 1
    n_rows = group * n_queries
    q = query.reshape(kv_heads, n_rows, dim).contiguous()
    partial = torch.empty(kv_heads, parts, n_rows, dim, dtype=torch.float32, device=query.device)
    weights = torch.empty(kv_heads, parts, n_rows, dtype=torch.float32, device=query.device)
    output = torch.empty(1, n_queries, heads, dim, dtype=query.dtype, device=query.device)
    _attend_split[(parts, triton.cdiv(n_rows, tiling.rows), kv_heads)](
        q, table.blocks, table.rotations, table.splits, tail_keys, tail_values, counts, partial, weights,
        layer, capacity * dim, n_queries, n_rows, scale * LOG2_E,
        ROTATE=rotate, NEIGHBOURS=table.interleaved, DIM=dim, HALF=table.rotations.shape[-1],
        ROWS=tiling.rows, KEYS=tiling.keys, SPLITS=tiling.splits,
        num_warps=tiling.warps, num_stages=tiling.stages,
    )  # fmt: skip
    _join[(n_rows, kv_heads)](
        partial, weights, output, n_queries, n_rows, heads, group,
        DIM=dim, PARTS=parts, ROOM=triton.next_power_of_2(parts), num_warps=4,
    )  # fmt: skip
    return output
