"""Splits a text into a tree of ever smaller spans, and gives every split the level at which it appears."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from blockrag.segment.splitter import Splitter

FORCED = 1.0
"""Level of boundaries that every granularity has: required by the maximum, or added by the user."""

_BELOW_FORCED = 1 - 2**-20
_SCORE_SHARE = 0.9


@dataclass(frozen=True, eq=False)
class Tree:
    """The tree, flattened: a block at granularity g begins wherever the level is at least 1 - g.

    Attributes
    ----------
    chars : np.ndarray
        int64 ``(boundaries,)``, increasing offsets; the start of the text is not among them.
    levels : np.ndarray
        float64 ``(boundaries,)`` in [0, 1]. A split has at most the level of the split around it, so that the
        blocks of every granularity are spans of the tree.
    """

    chars: np.ndarray
    levels: np.ndarray


def build_tree(splitter: Splitter, added: Sequence[int], removed: Collection[int]) -> Tree:
    """Split a text until no part can be split within the bounds.

    A span is split at its best candidate that leaves both parts the minimum. Its level is ``0.9 * score + 0.1 *
    size``, where size grows from 0 to 1 with the logarithm of the span's tokens, from twice the minimum to the maximum:
    with equal scores, larger spans are split first. A span above the maximum is always split, at any character if
    necessary.

    Parameters
    ----------
    splitter : Splitter
        Of the text, with its candidates and bounds.
    added : Sequence[int]
        Offsets, increasing, where a block always begins; the spans between them are split one by one.
    removed : Collection[int]
        Offsets where no block begins; a span that they join is split elsewhere if it exceeds the maximum.
    """
    edges = _split_demanded(splitter, [0, *added, splitter.n_chars], avoided=())
    edges = _split_demanded(splitter, [edge for edge in edges if edge not in removed], removed)
    levels = {char: FORCED for char in edges[1:-1]}
    for start, end in pairwise(edges):
        levels.update(_split_optional(splitter, start, end, removed))
    chars = sorted(char for char in levels if char not in removed)
    return Tree(np.array(chars, np.int64), np.array([levels[char] for char in chars], np.float64))


def _split_demanded(splitter: Splitter, edges: list[int], avoided: Collection[int]) -> list[int]:
    """`edges`, and as many more as needed so that no span between two of them exceeds the maximum; in order."""
    found = list(edges)
    stack = list(pairwise(edges))
    while stack:
        start, end = stack.pop()
        char = splitter.split_demanded(start, end, avoided) if splitter.must_split(start, end) else None
        if char is not None:
            found.append(char)
            stack += [(start, char), (char, end)]
    return sorted(found)


def _split_optional(splitter: Splitter, start: int, end: int, removed: Collection[int]) -> Iterator[tuple[int, float]]:
    """Offsets and levels of all splits inside a span within the maximum."""
    stack = [(start, end, _BELOW_FORCED)]
    while stack:
        start, end, ceiling = stack.pop()
        split = splitter.split_optional(start, end, removed)
        if split is not None:
            char, score = split
            level = _SCORE_SHARE * score + (1 - _SCORE_SHARE) * splitter.relative_size(start, end)
            level = min(level, ceiling)
            yield char, level
            stack += [(start, char, level), (char, end, level)]
