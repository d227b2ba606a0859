"""Small steps of a network as one kernel each.

A normalisation is six kernels in plain PyTorch and a rotation ten; for the few tokens of a question each takes longer
to launch than to run. All kernels compute in float32 and round once.
"""

import torch
import triton
import triton.language as tl

MANY_ROWS = 256
"""From so many tokens on, a program of the rotation handles several."""


@triton.jit
def _rotate(
    query, key,  # (heads, n_queries, DIM), strided
    cos, sin,  # (n_queries, ROTARY)
    query_out, key_out,  # (heads, n_queries, DIM), contiguous
    heads, n_queries, query_head, query_row, key_head, key_row,
    DIM: tl.constexpr, ROTARY: tl.constexpr, NEIGHBOURS: tl.constexpr, REPEAT_EACH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row, head = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None], tl.program_id(1).to(tl.int64)
    inside, dim = row < n_queries, tl.arange(0, DIM)[None, :]
    rotated = dim < ROTARY
    if NEIGHBOURS:
        low, other = dim % 2 == 0, dim ^ 1
    else:
        low = dim < ROTARY // 2
        other = tl.where(low, dim + ROTARY // 2, tl.where(rotated, dim - ROTARY // 2, dim))
    angle = dim // 2 if NEIGHBOURS and not REPEAT_EACH else dim
    c = tl.load(cos + row * ROTARY + angle, mask=inside & rotated, other=1.0).to(tl.float32)
    s = tl.load(sin + row * ROTARY + angle, mask=inside & rotated, other=0.0).to(tl.float32)
    s = tl.where(low, -s, s)
    if head < heads:
        source, target = query + head * query_head + row * query_row, query_out + (head * n_queries + row) * DIM
    else:
        at = head - heads
        source, target = key + at * key_head + row * key_row, key_out + (at * n_queries + row) * DIM
    x = tl.load(source + dim, mask=inside).to(tl.float32)
    swapped = tl.load(source + other, mask=inside).to(tl.float32)
    tl.store(target + dim, (x * c + swapped * s).to(query_out.dtype.element_ty), mask=inside)


@triton.jit
def _normalise(source, weight, target, epsilon, n, WIDTH: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
    inside = column < n
    x = tl.load(source + row * n + column, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(x * x, 0) / n + epsilon)
    tl.store(target + row * n + column, (x * scale * w).to(target.dtype.element_ty), mask=inside)


@triton.jit
def _gate(source, target, n, WIDTH: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = column < n
    gate = tl.load(source + row * 2 * n + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(source + row * 2 * n + n + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(target + row * n + column, (gate * tl.sigmoid(gate) * up).to(target.dtype.element_ty), mask=inside)


@triton.jit
def _write(
    keys, values,  # (kv_heads, n, DIM), strided
    tail_keys, tail_values,  # (kv_heads, capacity, DIM)
    counts,  # int64 (2,)
    key_head, key_row, value_head, value_row, tail_head,
    DIM: tl.constexpr,
):  # fmt: skip
    row, head, dim = tl.program_id(0), tl.program_id(1), tl.arange(0, DIM)
    target = head * tail_head + (tl.load(counts + 1) + row) * DIM + dim
    tl.store(tail_keys + target, tl.load(keys + head * key_head + row * key_row + dim))
    tl.store(tail_values + target, tl.load(values + head * value_head + row * value_row + dim))


@triton.jit
def _row_product(
    hidden, weight, bias, out, n_out, n_in,
    BIAS: tl.constexpr, GATED: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < n_out
    at_row = tl.where(inside, row, 0).to(tl.int64)[:, None] * n_in
    total = tl.zeros([ROWS, WIDTH], tl.float32)
    up = tl.zeros([ROWS, WIDTH], tl.float32)
    for start in range(0, n_in, WIDTH):
        column = start + tl.arange(0, WIDTH)
        there = column < n_in
        h = tl.load(hidden + column, mask=there, other=0.0).to(tl.float32)[None, :]
        total += tl.load(weight + at_row + column[None, :], mask=there[None, :], other=0.0).to(tl.float32) * h
        if GATED:
            lower = weight + n_out.to(tl.int64) * n_in
            up += tl.load(lower + at_row + column[None, :], mask=there[None, :], other=0.0).to(tl.float32) * h
    result = tl.sum(total, 1)
    if BIAS:
        result += tl.load(bias + row, mask=inside, other=0.0).to(tl.float32)
    if GATED:
        result = result * tl.sigmoid(result) * tl.sum(up, 1)
    tl.store(out + row, result.to(out.dtype.element_ty), mask=inside)


def row_product(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, gate: bool = False
) -> torch.Tensor:
    """`torch.nn.functional.linear` of one row ``(..., n_in)`` at the rate of memory; most of decoding is this.

    With `gate`, the upper half of `weight` is the gate's and the lower half ``up``'s: ``silu(gate) * up``.
    """
    n_out, n_in = weight.shape[0] // (2 if gate else 1), weight.shape[1]
    out = torch.empty(*hidden.shape[:-1], n_out, dtype=hidden.dtype, device=hidden.device)
    rows, width = 2 if n_out <= 8192 else 4, 1024 if n_in % 1024 == 0 else 512
    _row_product[(triton.cdiv(n_out, rows),)](
        hidden, weight, bias if bias is not None else weight, out, n_out, n_in,
        BIAS=bias is not None, GATED=gate, ROWS=rows, WIDTH=width, num_warps=4 if width == 1024 else 2,
    )  # fmt: skip
    return out


def rotate_both(
    query: torch.Tensor,
    key: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    unsqueeze_dim: int = 1,
    *,
    neighbours: bool = False,
    repeat_each: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`apply_rotary_pos_emb` of `transformers`, for batches of one.

    Parameters
    ----------
    query, key : torch.Tensor
        Shape ``(1, heads, n, dim)``, the last dimension contiguous.
    cos, sin : torch.Tensor
        Shape ``(1, n, rotary_dim)``, each angle twice; components from `rotary_dim` on stay.
    unsqueeze_dim : int
        Always 1.
    neighbours : bool
        Whether components 2 i and 2 i + 1 are rotated together; else i and i + rotary_dim / 2.
    repeat_each : bool
        For neighbours: whether each angle is repeated directly; else all angles are followed by all again.
    """
    _, heads, n_queries, dim = query.shape
    if cos.shape[-1] > dim:
        raise ValueError(f"heads of {dim} components are rotated by at most as many cosines; {cos.shape[-1]} given")
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    key_out = torch.empty(key.shape, dtype=key.dtype, device=key.device)
    n_rows = 1 if n_queries < MANY_ROWS else 16  # of a program: a few tokens want many small ones, thousands do not
    _rotate[(triton.cdiv(n_queries, n_rows), heads + key.shape[1])](
        query, key, cos.contiguous(), sin.contiguous(), out, key_out,
        heads, n_queries, query.stride(1), query.stride(2), key.stride(1), key.stride(2),
        DIM=dim, ROTARY=cos.shape[-1], NEIGHBOURS=neighbours, REPEAT_EACH=repeat_each,
        ROWS=n_rows, num_warps=1 if n_rows == 1 else 4,
    )  # fmt: skip
    return out, key_out


def normalise(hidden: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Root-mean-square normalisation over the last dimension, computed in float32."""
    n = hidden.shape[-1]
    hidden = hidden.contiguous()
    out, width = torch.empty_like(hidden), triton.next_power_of_2(n)
    _normalise[(hidden.numel() // n,)](
        hidden, weight, out, epsilon, n, WIDTH=width, num_warps=max(1, min(16, width // 512))
    )
    return out


def gated(gate_and_up: torch.Tensor) -> torch.Tensor:
    """``silu(gate) * up`` of ``(..., 2 n)``, gate first; shape ``(..., n)``."""
    n = gate_and_up.shape[-1] // 2
    out = torch.empty(*gate_and_up.shape[:-1], n, dtype=gate_and_up.dtype, device=gate_and_up.device)
    _gate[(out.numel() // n, triton.cdiv(n, 1024))](gate_and_up, out, n, WIDTH=1024, num_warps=4)
    return out


def write_tail(
    keys: torch.Tensor, values: torch.Tensor, tail_keys: torch.Tensor, tail_values: torch.Tensor, counts: torch.Tensor
) -> None:
    """Write ``(1, kv_heads, n, head_dim)`` after the ``counts[1]`` tokens of the tails; the count is read on the
    device."""
    _, kv_heads, n, dim = keys.shape
    _write[(n, kv_heads)](
        keys, values, tail_keys, tail_values, counts,
        keys.stride(1), keys.stride(2), values.stride(1), values.stride(2), tail_keys.stride(1), DIM=dim, num_warps=1,
    )  # fmt: skip
