"""Between block KV and the pages of a serving engine, of which each rank holds some heads. Pure torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from blockrag.attention.rope import Rope
from blockrag.kv.block_kv import BlockKV

Write = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]
"""(keys, values, slots): writes tokens ``(tokens, kv_heads, head_dim)`` to the slots ``(tokens,)`` of a layer."""

_BASE = 128
"""Numbers below it are exact in every float type of 16 bits."""


def slots_of(pages: torch.Tensor, lo: int, hi: int, page_size: int) -> torch.Tensor:
    """Slots of tokens ``[lo, hi)`` of a request whose pages are `pages` ``(pages,)``."""
    tokens = torch.arange(lo, hi, device=pages.device)
    return pages[tokens // page_size] * page_size + tokens % page_size


def heads_of(rank: int, n_ranks: int, n_heads: int) -> slice:
    """The KV heads of one rank of tensor parallelism; with fewer heads than ranks, neighbours share one."""
    if n_heads >= n_ranks:
        each = n_heads // n_ranks
        return slice(rank * each, (rank + 1) * each)
    head = rank // (n_ranks // n_heads)
    return slice(head, head + 1)


def joined(
    parts: Sequence[tuple[int, BlockKV]], rope: Rope, lo: int, hi: int, heads: slice
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys, rotated to their positions, and values of tokens ``[lo, hi)`` of a prompt.

    Parameters
    ----------
    parts : sequence of (int, BlockKV)
        Each with the position of its first token; together they cover ``[lo, hi)``. They are not modified (rule 5).
    rope : Rope
    lo, hi : int
    heads : slice
        KV heads to return.

    Returns
    -------
    tuple of torch.Tensor
        ``(layers, tokens, kv_heads, head_dim)`` each.
    """
    first = parts[0][1].keys[:, heads]
    n_layers, n_heads, _, head_dim = first.shape
    keys, values = first.new_empty(2, n_layers, hi - lo, n_heads, head_dim)
    for start, kv in parts:
        here, there = max(lo, start), min(hi, start + kv.n_tokens)
        if here >= there:
            continue
        source, target = slice(here - start, there - start), slice(here - lo, there - lo)
        values[:, target] = kv.values[:, heads, source].transpose(1, 2)
        rotation = rope.rotation(start - kv.first_position)
        for layer in range(n_layers):
            out = keys[layer, target].transpose(0, 1)
            rope.rotate(kv.keys[layer, heads, source], rotation if rope.rotates(layer) else None, out=out)
    return keys, values


@dataclass(frozen=True)
class PageLayout:
    """Where a page holds each number, learned from what a layer writes, since backends order them differently.

    Attributes
    ----------
    index : torch.Tensor
        ``(2, kv_heads, page_size, head_dim)``: offsets in a flattened page, of keys and of values.
    """

    index: torch.Tensor

    @classmethod
    def learn(cls, cache: torch.Tensor, write: Write, shape: tuple[int, int, int], page: int = 0) -> "PageLayout":
        """Write numbered tokens to one page, look where they are, and restore the page.

        Parameters
        ----------
        cache : torch.Tensor
            A layer's pages along the first dimension.
        write : Write
        shape : tuple of int
            ``(page_size, kv_heads, head_dim)``.
        page : int
            Number of the page; vLLM keeps page 0 unused.

        Raises
        ------
        ValueError
            If a page does not hold each number once.
        """
        n = 2 * torch.Size(shape).numel()
        slots = torch.arange(page * shape[0], (page + 1) * shape[0], device=cache.device)
        before, found = cache[page].clone(), torch.zeros(cache[page].numel(), dtype=torch.long, device=cache.device)
        try:
            place = 1
            while place <= n:
                digits = (torch.arange(1, n + 1, device=cache.device) // place % _BASE).to(cache.dtype)
                keys, values = digits.view(2, *shape)
                write(keys.contiguous(), values.contiguous(), slots)
                found += cache[page].reshape(-1).long() * place
                place *= _BASE
        finally:
            cache[page] = before
        offsets = found.argsort()[-n:]
        if not torch.equal(found[offsets], torch.arange(1, n + 1, device=cache.device)):
            raise ValueError(f"a page of shape {tuple(cache[page].shape)} does not hold {n} numbers once each")
        return cls(offsets.view(2, *shape).permute(0, 2, 1, 3).contiguous())

    def read(self, cache: torch.Tensor, pages: torch.Tensor, lo: int, hi: int) -> torch.Tensor:
        """Keys and values ``(2, kv_heads, tokens, head_dim)`` of tokens ``[lo, hi)`` of a request whose pages are
        `pages`."""
        _, n_heads, page_size, head_dim = self.index.shape
        first = lo // page_size
        held = cache[pages[first : -(-hi // page_size)]]
        got = held.reshape(len(held), -1)[:, self.index]  # (pages, 2, kv_heads, page_size, head_dim)
        flat = got.permute(1, 2, 0, 3, 4).reshape(2, n_heads, -1, head_dim)
        return flat[:, :, lo - first * page_size : hi - first * page_size].contiguous()
