"""Attention of a layout while it trains: by the dense mask, or without one on CUDA. Knows layouts, no examples.

Both go through the seam that `blockrag.attention.gqa` gives: a mask, or an `attend` of the caller's own.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention

from blockrag.attention.gqa import UNMASKED
from training.distill.layout import Layout, Part, visible

Flash = Callable[..., torch.Tensor]
"""(query, key, value, query ends, key ends, most queries, most keys, scale) -> output; see `flash`."""

PLANNED = 512
"""A sequence alone is as long as a multiple of this: cuDNN takes a tenth of a second to plan for a new length."""

Spans = tuple[torch.Tensor, torch.Tensor, int, int]
"""Where each sequence's queries and keys end, and the most of each: what `Flash` wants of them."""


def attention_of(layout: Layout, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What to call the network with: FlashAttention on CUDA in 16 bits, the dense mask elsewhere."""
    if device.type == "cuda" and dtype.itemsize == 2:
        return {"attention_mask": UNMASKED, "attend": Varlen(layout, device, flash)}
    return {"attention_mask": dense(layout, dtype).to(device)}


def dense(layout: Layout, dtype: torch.dtype) -> torch.Tensor:
    """Additive mask ``(1, 1, tokens, tokens)``."""
    seen = visible(layout)
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[None, None]


class Varlen:
    """Each part's queries over their own part, laid one behind the other, and then those of open parts over all that
    they see; hardly anything else is computed.

    Bottom-right causal attention (FlashAttention-2, arXiv 2307.08691): the last query of a part sees all its keys.

    Parameters
    ----------
    layout : Layout
    device : torch.device
    run : Flash
    """

    def __init__(self, layout: Layout, device: torch.device, run: Flash):
        self._run = run
        lengths = [part.n_tokens for part in layout.parts]
        self._own = _spans(lengths, lengths, device)
        further = [(part, rows) for part, rows in _seen(layout) if len(rows) > part.n_tokens]
        self._open: Spans | None = None
        if further:
            self._open = _spans([part.n_tokens for part, _ in further], [len(rows) for _, rows in further], device)
            queries = np.concatenate([np.arange(part.start, part.start + part.n_tokens) for part, _ in further])
            keys = np.concatenate([rows for _, rows in further])
            self._queries, self._keys = (torch.from_numpy(rows).to(device) for rows in (queries, keys))

    def __call__(
        self, module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))  # (tokens, heads, head_dim)
        output = self._run(q, k, v, *self._own, scaling)
        if self._open is not None:
            q, k, v = (t.index_select(0, rows) for t, rows in ((q, self._queries), (k, self._keys), (v, self._keys)))
            output = output.index_copy(0, self._queries, self._run(q, k, v, *self._open, scaling))
        return output[None]


def _spans(n_queries: list[int], n_keys: list[int], device: torch.device) -> Spans:
    return _ends(n_queries).to(device), _ends(n_keys).to(device), max(n_queries), max(n_keys)


def flash(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    query_ends: torch.Tensor,
    key_ends: torch.Tensor,
    most_queries: int,
    most_keys: int,
    scale: float,
) -> torch.Tensor:
    """PyTorch's FlashAttention over several sequences, ``(tokens, heads, head_dim)``; on CUDA in 16 bits."""
    if len(query_ends) == 2 and most_queries == most_keys:
        return alone(q, k, v, scale)
    output, *_ = torch.ops.aten._flash_attention_forward(
        q, k, v, query_ends, key_ends, most_queries, most_keys, 0.0, True, False, scale=scale
    )
    return output


def alone(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """The same over one sequence, by cuDNN where it can: its kernels are made for the GPU at hand.

    What is laid behind it, up to a length that is planned for, is seen by none of it.
    """
    n_tokens = len(q)
    q, k, v = (pad(t, (0, 0, 0, 0, 0, -n_tokens % PLANNED)).transpose(0, 1)[None] for t in (q, k, v))
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH], set_priority=True):
        output = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    return output[0, :, :n_tokens].transpose(0, 1)


def n_pairs(layout: Layout) -> int:
    """Pairs of query and key that see each other."""
    return sum(part.n_tokens * (2 * len(rows) - part.n_tokens + 1) // 2 for part, rows in _seen(layout))


def _seen(layout: Layout) -> Iterator[tuple[Part, np.ndarray]]:
    """Rows of each part's keys: of a closed one its own, of an open one all of its example up to its end."""
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
