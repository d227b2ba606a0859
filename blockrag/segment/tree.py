"""Splits a text at its best candidates into a tree, and gives every split the level at which it appears.

Knows scores, sizes and the user's edits; knows no granularity, no tokenizer and no segmenter.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log

import numpy as np

from blockrag.segment.base import Scored
from blockrag.segment.graphemes import is_grapheme_boundary
from blockrag.segment.range_max import RangeMax
from blockrag.segment.sizes import SizeBounds, SpanSizes, slack

FORCED = 1.0
"""Level of the boundaries that every granularity has: demanded by the maximum, or added by the user."""

_BELOW_FORCED = 1 - 2**-20
_SCORE_SHARE = 0.9
_TIE_BONUS = 1e-3
_REACH_CHARS = 128


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


def build_tree(
    text: str,
    scored: Scored,
    sizes: SpanSizes,
    bounds: SizeBounds,
    added: Sequence[int],
    removed: Collection[int],
) -> Tree:
    """Split `text` until no part can be split within `bounds`.

    A span is split at its best candidate that leaves both parts the minimum. Its level is ``0.9 * score + 0.1
    * size``, where size grows from 0 to 1 with the logarithm of the span's tokens, from twice the minimum to
    the maximum: where scores tie, larger spans are split first. A span above the maximum is always split, at
    any character if need be.

    Parameters
    ----------
    text : str
        The whole text.
    scored : Scored
        Its candidates.
    sizes : SpanSizes
        Of the same text.
    bounds : SizeBounds
        Kept by every block of every granularity.
    added : Sequence[int]
        Offsets, increasing, where a block always begins; the spans between them are split one by one.
    removed : Collection[int]
        Offsets where no block begins. The best candidate of a span may be among them: if the span fits in one
        block, it is split there all the same and the boundary left out, so that all others keep their levels.
    """
    splitter = _Splitter(text, scored, sizes, bounds, removed)
    found = [(char, FORCED) for char in added]
    stack = [(start, end, FORCED) for start, end in pairwise((0, *added, len(text)))]
    while stack:
        start, end, ceiling = stack.pop()
        split = splitter.split(start, end, ceiling)
        if split is None:
            continue
        char, level = split
        if char not in removed:
            found.append(split)
        stack += [(start, char, level), (char, end, level)]
    found.sort()
    chars = np.array([char for char, _ in found], np.int64)
    return Tree(chars, np.array([level for _, level in found], np.float64))


def dyadic_rank(positions: np.ndarray) -> np.ndarray:
    """Largest k such that a multiple of ``2**(k - 1)`` lies after the position before, up to each position.

    Splitting at the highest rank first halves a row of positions again and again.

    Parameters
    ----------
    positions : np.ndarray
        int64 ``(n,)``, not decreasing, not negative.

    Returns
    -------
    np.ndarray
        int64 ``(n,)``; 0 where the position equals the one before (0 for the first).
    """
    before = np.concatenate(([0], positions[:-1])).astype(np.int64)[: len(positions)]
    return np.frexp(positions ^ before)[1].astype(np.int64)  # the exponent of an integer is its bit length


class _Splitter:
    """Chooses where one span is split, and at which level."""

    def __init__(self, text: str, scored: Scored, sizes: SpanSizes, bounds: SizeBounds, removed: Collection[int]):
        self._text = text
        self._scored = scored
        self._sizes = sizes
        self._bounds = bounds
        self._removed = removed
        self._n_before = sizes.n_before(scored.chars)
        rank = dyadic_rank(self._n_before)
        self._ranges = RangeMax(scored.scores + _TIE_BONUS * rank / max(1, rank.max(initial=0)))

    def split(self, start: int, end: int, ceiling: float) -> tuple[int, float] | None:
        """Offset and level of the split of ``[start, end)``, or None where it stays whole."""
        forced = ceiling == FORCED and self._sizes.more_than(start, end, self._bounds.maximum)
        i = self._best_candidate(start, end, forced)
        if forced:
            char = int(self._scored.chars[i]) if i is not None else self._cut_anywhere(start, end)
            return (char, FORCED) if char is not None else None
        if i is None:
            return None
        level = _SCORE_SHARE * float(self._scored.scores[i]) + (1 - _SCORE_SHARE) * self._relative_size(start, end)
        return int(self._scored.chars[i]), min(ceiling, level, _BELOW_FORCED)

    def _best_candidate(self, start: int, end: int, forced: bool) -> int | None:
        """Index of the best candidate that may split ``[start, end)``."""
        n_before_start, n_before_end = self._sizes.n_before(np.array((start, end)))
        minimum, maximum = self._bounds.minimum, self._bounds.maximum
        first = int(np.searchsorted(self._n_before, n_before_start + minimum, "left"))
        last = int(np.searchsorted(self._n_before, n_before_end - minimum, "right"))
        fits_when_joined = n_before_end - n_before_start + slack(maximum) < maximum
        for i in self._ranges.descending(first, last):
            char = int(self._scored.chars[i])
            if char in self._removed and not fits_when_joined:
                continue
            if self._parts_fit(start, char, end, forced):
                return i
        return None

    def _parts_fit(self, start: int, char: int, end: int, forced: bool) -> bool:
        """Whether both parts have the minimum, and neither more than a maximum that the whole keeps.

        (A part can have more tokens than the whole: the last word loses the space that was one token with the
        next.)
        """
        for a, b in ((start, char), (char, end)):
            if self._sizes.fewer_than(a, b, self._bounds.minimum):
                return False
            if not forced and self._sizes.more_than(a, b, self._bounds.maximum):
                return False
        return True

    def _cut_anywhere(self, start: int, end: int) -> int | None:
        """Where to cut a span that has no candidate, or None for a single character.

        The minimum gives way only where no cut within reach leaves it to both parts.
        """
        preferred = next(self._cuts_by_preference(start, end), None)
        cuts = self._cuts_by_preference(start, end)
        return next((cut for cut in cuts if self._parts_fit(start, cut, end, forced=True)), preferred)

    def _cuts_by_preference(self, start: int, end: int) -> Iterator[int]:
        """Offsets around the middle: beginnings of words, then graphemes, then any; nearest of each first."""
        middle = self._sizes.middle(start, end)
        near = range(max(start + 1, middle - _REACH_CHARS), min(end, middle + _REACH_CHARS))
        outward = sorted((c for c in near if c not in self._removed), key=lambda c: abs(c - middle))
        yield from (c for c in outward if _begins_word(self._text, c))
        yield from (c for c in outward if is_grapheme_boundary(self._text, c))
        yield from outward

    def _relative_size(self, start: int, end: int) -> float:
        """Size of the span between twice the minimum (0) and the maximum (1), on a logarithmic scale."""
        smallest, largest = 2 * self._bounds.minimum, self._bounds.maximum
        n_tokens = min(max(self._sizes.estimate(start, end), smallest), largest)
        return log(n_tokens / smallest) / log(largest / smallest) if largest > smallest else 1.0


def _begins_word(text: str, char: int) -> bool:
    """Whether a visible character stands at `char` after white space."""
    return text[char - 1].isspace() and not text[char].isspace() and is_grapheme_boundary(text, char)
