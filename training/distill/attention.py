"""Attention of a layout in training: FlashAttention on CUDA, a dense mask elsewhere.

Both use the interface of `blockrag.attention.gqa`: an additive mask, or an `attend` function.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention

from blockrag.attention.gqa import UNMASKED
from training.distill.layout import Layout, Part, dense_mask

VarlenKernel = Callable[..., torch.Tensor]
"""(query, key, value, query ends, key ends, max queries, max keys, scale) -> output; see `flash_varlen`."""

LENGTH_STEP = 512
"""A single sequence is padded to a multiple of this: cuDNN plans 0.1 s for every new length."""

_Spans = tuple[torch.Tensor, torch.Tensor, int, int]
"""Ends of each sequence's queries and keys, and the maximum number of each: arguments of a `VarlenKernel`."""


def attention_arguments(layout: Layout, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Keyword arguments for the network: FlashAttention on CUDA in 16 bits, a dense mask elsewhere."""
    if device.type == "cuda" and dtype.itemsize == 2:
        return {"attention_mask": UNMASKED, "attend": Varlen(layout, device, flash_varlen)}
    return {"attention_mask": _additive_mask(layout, dtype).to(device)}


def _additive_mask(layout: Layout, dtype: torch.dtype) -> torch.Tensor:
    """`dense_mask` as an additive mask ``(1, 1, tokens, tokens)``."""
    seen = dense_mask(layout)
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[None, None]


class Varlen:
    """Attention of a layout in two varlen calls: every part over itself, then open parts over all that they attend to.

    The kernel's causal mask is aligned bottom-right (FlashAttention-2, arXiv 2307.08691): the last query of a sequence
    attends to all its keys.

    Parameters
    ----------
    layout : Layout
    device : torch.device
    kernel : VarlenKernel
    """

    def __init__(self, layout: Layout, device: torch.device, kernel: VarlenKernel):
        self._kernel = kernel
        lengths = [part.n_tokens for part in layout.parts]
        self._own = _spans(lengths, lengths, device)
        further = [(part, rows) for part, rows in _keys_of_parts(layout) if len(rows) > part.n_tokens]
        self._open: _Spans | None = None
        if further:
            self._open = _spans([part.n_tokens for part, _ in further], [len(rows) for _, rows in further], device)
            queries = np.concatenate([np.arange(part.start, part.start + part.n_tokens) for part, _ in further])
            keys = np.concatenate([rows for _, rows in further])
            self._queries, self._keys = (torch.from_numpy(rows).to(device) for rows in (queries, keys))

    def __call__(
        self, module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))  # (tokens, heads, head_dim)
        output = self._kernel(q, k, v, *self._own, scaling)
        if self._open is not None:
            q, k, v = (t.index_select(0, rows) for t, rows in ((q, self._queries), (k, self._keys), (v, self._keys)))
            output = output.index_copy(0, self._queries, self._kernel(q, k, v, *self._open, scaling))
        return output[None]


def _spans(n_queries: list[int], n_keys: list[int], device: torch.device) -> _Spans:
    return _ends(n_queries).to(device), _ends(n_keys).to(device), max(n_queries), max(n_keys)


def flash_varlen(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    query_ends: torch.Tensor,
    key_ends: torch.Tensor,
    max_queries: int,
    max_keys: int,
    scale: float,
) -> torch.Tensor:
    """PyTorch's FlashAttention over concatenated sequences, ``(tokens, heads, head_dim)``; on CUDA in 16 bits."""
    if len(query_ends) == 2 and max_queries == max_keys:
        return flash_single(q, k, v, scale)
    output, *_ = torch.ops.aten._flash_attention_forward(
        q, k, v, query_ends, key_ends, max_queries, max_keys, 0.0, True, False, scale=scale
    )
    return output


def flash_single(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """Causal attention of one sequence, by cuDNN if available. The padding at its end is attended to by no query."""
    n_tokens = len(q)
    q, k, v = (pad(t, (0, 0, 0, 0, 0, -n_tokens % LENGTH_STEP)).transpose(0, 1)[None] for t in (q, k, v))
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH], set_priority=True):
        output = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    return output[0, :, :n_tokens].transpose(0, 1)


def count_pairs(layout: Layout) -> int:
    """Number of (query, key) pairs that are not masked."""
    return sum(part.n_tokens * (2 * len(rows) - part.n_tokens + 1) // 2 for part, rows in _keys_of_parts(layout))


def _keys_of_parts(layout: Layout) -> Iterator[tuple[Part, np.ndarray]]:
    """Each part with the rows of its keys: its own if closed, all of its example up to its end if open."""
    before: list[np.ndarray] = []
    example = -1
    for part in layout.parts:
        before = before if part.example == example else []
        example = part.example
        rows = np.arange(part.start, part.start + part.n_tokens)
        yield part, np.concatenate([*before, rows]) if part.open else rows
        before.append(rows[part.n_copied :])


def _ends(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
