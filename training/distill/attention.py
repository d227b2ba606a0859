"""Attention of a layout while it trains: by the dense mask, or without one on CUDA. Knows layouts, no examples.

Both go through the seam that `blockrag.attention.packed` gives: a mask, or an `attend` of the caller's own.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from blockrag.attention.packed import UNMASKED
from training.distill.layout import Layout, visible

Flash = Callable[..., torch.Tensor]
"""(query, key, value, query ends, key ends, most queries, most keys, scale) -> output; see `flash`."""


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
    """Each part's queries over the keys that they see, laid one behind the other; nothing else is computed.

    Bottom-right causal attention (FlashAttention-2, arXiv 2307.08691): the last query of a part sees all its keys.

    Parameters
    ----------
    layout : Layout
    device : torch.device
    run : Flash
    """

    def __init__(self, layout: Layout, device: torch.device, run: Flash):
        keys = list(_keys(layout))
        n_queries, n_keys = [part.n_tokens for part in layout.parts], [len(rows) for rows in keys]
        rows = torch.from_numpy(np.concatenate(keys))
        self._rows = None if len(rows) == layout.n_tokens else rows.to(device, non_blocking=True)
        self._query_ends, self._key_ends = _ends(n_queries).to(device), _ends(n_keys).to(device)
        self._most_queries, self._most_keys = max(n_queries), max(n_keys)
        self._run = run

    def __call__(
        self, module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))  # (tokens, heads, head_dim)
        if self._rows is not None:
            k, v = k.index_select(0, self._rows), v.index_select(0, self._rows)
        ends = (self._query_ends, self._key_ends, self._most_queries, self._most_keys)
        return self._run(q, k, v, *ends, scaling)[None]


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
    output, *_ = torch.ops.aten._flash_attention_forward(
        q, k, v, query_ends, key_ends, most_queries, most_keys, 0.0, True, False, scale=scale
    )
    return output


def n_pairs(layout: Layout) -> int:
    """Pairs of query and key that see each other."""
    n_keys = map(len, _keys(layout))
    return sum(part.n_tokens * (2 * n - part.n_tokens + 1) // 2 for part, n in zip(layout.parts, n_keys, strict=True))


def _keys(layout: Layout) -> Iterator[np.ndarray]:
    """Rows of each part's keys: of a closed one its own, of an open one all of its example up to its end."""
    before: list[np.ndarray] = []
    example = -1
    for part in layout.parts:
        before = before if part.example == example else []
        example = part.example
        rows = np.arange(part.start, part.start + part.n_tokens)
        yield np.concatenate([*before, rows]) if part.open else rows
        before.append(rows[part.n_copied :])


def _ends(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
