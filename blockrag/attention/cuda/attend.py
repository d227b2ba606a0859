"""Attention of a few queries over a long context on CUDA, split over the keys. Knows tensors, not blocks.

The queries of all heads that share a key/value head stand together, so that keys are read once; each program attends to
one stretch of keys and leaves its result with the logarithm of its weight, and a second kernel joins the stretches
(flash decoding; FlashAttention-2, arXiv 2307.08691, section 3.1). The number of keys is read on the device, so that a
captured graph serves every length.
"""

import torch
import triton
import triton.language as tl

KEYS = 64
"""Keys a step."""


@triton.jit
def _step(
    q, top, total, result, at, keys, values, last, n_keys, scale,
    DIM: tl.constexpr, KEYS: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """Attend to the keys from `at` on; at the `EDGE` some of them are not to be seen."""
    key, dim = at + tl.arange(0, KEYS), tl.arange(0, DIM)
    if EDGE:
        k = tl.load(keys + key[None, :] * DIM + dim[:, None], mask=key[None, :] < n_keys, other=0.0)
        v = tl.load(values + key[:, None] * DIM + dim[None, :], mask=key[:, None] < n_keys, other=0.0)
    else:
        k = tl.load(keys + key[None, :] * DIM + dim[:, None])
        v = tl.load(values + key[:, None] * DIM + dim[None, :])
    score = tl.dot(q, k, input_precision="ieee") * scale
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
def _stretches(
    queries,  # (kv_heads, rows, head_dim): row = head in group * n_queries + query
    keys,  # (kv_heads, capacity, head_dim)
    values,
    n_before,  # () int64: keys before the first query's own
    partial,  # (kv_heads, splits, rows, head_dim) float32
    weights,  # (kv_heads, splits, rows) float32: log2 of the sum of exponentials
    head_stride,
    n_queries,
    n_rows,
    scale,  # includes log2(e)
    DIM: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    SPLITS: tl.constexpr,
):
    row_block, split, head = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    row, dim = row_block * ROWS + tl.arange(0, ROWS), tl.arange(0, DIM)
    before = tl.load(n_before).to(tl.int32)
    n_keys = before + n_queries
    steps = tl.cdiv(tl.cdiv(n_keys, KEYS), SPLITS)
    start, stop = split * steps * KEYS, tl.minimum((split + 1) * steps * KEYS, n_keys)
    last = before + row % n_queries  # the last key that a row may see
    q = tl.load(queries + (head * n_rows + row[:, None]) * DIM + dim[None, :], mask=row[:, None] < n_rows, other=0.0)
    keys += head * head_stride
    values += head * head_stride
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    result = tl.zeros([ROWS, DIM], tl.float32)
    edge = tl.minimum(tl.maximum(start, before // KEYS * KEYS), stop)  # keys before it are seen by every row
    for at in range(start, edge, KEYS):
        top, total, result = _step(q, top, total, result, at, keys, values, last, n_keys, scale, DIM, KEYS, False)
    for at in range(edge, stop, KEYS):
        top, total, result = _step(q, top, total, result, at, keys, values, last, n_keys, scale, DIM, KEYS, True)
    out = (head * SPLITS + split) * n_rows + row
    none = total == 0.0
    tl.store(weights + out, tl.where(none, float("-inf"), top + tl.log2(total)), mask=row < n_rows)
    mean = result / tl.where(none, 1.0, total)[:, None]
    tl.store(partial + out[:, None] * DIM + dim[None, :], mean, mask=row[:, None] < n_rows)


@triton.jit
def _join(
    partial,
    weights,
    output,  # (rows, kv_heads * DIM) by query and head: see below
    n_queries,
    n_rows,
    n_heads,
    group,
    DIM: tl.constexpr,
    SPLITS: tl.constexpr,
):
    row, head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    split, dim = tl.arange(0, SPLITS), tl.arange(0, DIM)
    place = (head * SPLITS + split) * n_rows + row
    weight = tl.load(weights + place)
    share = tl.exp2(weight - tl.max(weight, 0))
    part = tl.load(partial + place[:, None] * DIM + dim[None, :])
    joined = tl.sum(part * share[:, None], 0) / tl.sum(share, 0)
    query, query_head = row % n_queries, head * group + row // n_queries
    tl.store(output + (query * n_heads + query_head) * DIM + dim, joined.to(output.dtype.element_ty))


def attend_split(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, n_before: torch.Tensor, scale: float, splits: int
) -> torch.Tensor:
    """Causal attention of the newest tokens over all.

    Parameters
    ----------
    query : torch.Tensor
        Shape ``(1, heads, n_queries, head_dim)``.
    keys, values : torch.Tensor
        Shape ``(1, kv_heads, capacity, head_dim)``; those of the queries themselves are written already.
    n_before : torch.Tensor
        int64 scalar on the device: keys before the first query's own.
    scale : float
        Of the dot products.
    splits : int
        Stretches of keys, a power of two; together with the heads they are to fill the GPU.

    Returns
    -------
    torch.Tensor
        Shape ``(1, n_queries, heads, head_dim)``.
    """
    _, heads, n_queries, dim = query.shape
    _, kv_heads, capacity, _ = keys.shape
    group = heads // kv_heads
    n_rows = group * n_queries
    q = query.reshape(kv_heads, n_rows, dim)
    partial = torch.empty(kv_heads, splits, n_rows, dim, dtype=torch.float32, device=query.device)
    weights = torch.empty(kv_heads, splits, n_rows, dtype=torch.float32, device=query.device)
    output = torch.empty(1, n_queries, heads, dim, dtype=query.dtype, device=query.device)
    rows = max(16, min(128 if query.itemsize == 2 else 32, triton.next_power_of_2(n_rows)))
    _stretches[(triton.cdiv(n_rows, rows), splits, kv_heads)](
        q, keys, values, n_before, partial, weights, capacity * dim, n_queries, n_rows, scale * 1.4426950408889634,
        DIM=dim, ROWS=rows, KEYS=KEYS, SPLITS=splits, num_warps=4, num_stages=2,
    )  # fmt: skip
    _join[(n_rows, kv_heads)](
        partial, weights, output, n_queries, n_rows, heads, group, DIM=dim, SPLITS=splits, num_warps=4
    )
    return output
