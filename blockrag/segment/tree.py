"""Splits a text into a tree of ever smaller spans, and gives every split the level at which it appears."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log

import numpy as np

from blockrag.segment.base import Scored
from blockrag.segment.forced import forced_cuts
from blockrag.segment.sizes import SizeBounds, SpanSizes, dyadic_rank, slack

FORCED = 1.0
"""Level of boundaries that every granularity has: required by the maximum, or added by the user."""

_BELOW_FORCED = 1 - 2**-20
_SCORE_SHARE = 0.9
_TIE_BONUS = 1e-3


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


class Splitter:
    """The candidates of one text by score; ties go to the one that halves the text more evenly.

    Parameters
    ----------
    text : str
        The whole text.
    scored : Scored
        Its candidates.
    sizes : SpanSizes
        Token counts of the same text.
    bounds : SizeBounds
        Bounds on every part.
    parts_heading : callable, optional
        Whether a boundary at an offset would leave a heading at the end of a block; such a one is only forced where the
        maximum leaves no other.
    """

    def __init__(
        self,
        text: str,
        scored: Scored,
        sizes: SpanSizes,
        bounds: SizeBounds,
        parts_heading: Callable[[int], bool] = lambda char: False,
    ):
        self._parts_heading = parts_heading
        self._text = text
        self._scored = scored
        self._sizes = sizes
        self._bounds = bounds
        self._n_before = sizes.n_before(scored.chars)
        rank = dyadic_rank(self._n_before)
        self._ranked = scored.scores + _TIE_BONUS * rank / max(1, rank.max(initial=0))

    @property
    def n_chars(self) -> int:
        """Length of the text."""
        return len(self._text)

    def must_split(self, start: int, end: int) -> bool:
        """Whether the span has more tokens than the maximum."""
        return self._sizes.more_than(start, end, self._bounds.maximum)

    def split_demanded(self, start: int, end: int, avoided: Collection[int]) -> int | None:
        """Where to split a span above the maximum: at its best candidate, or anywhere without one.

        Returns
        -------
        int or None
            An offset that is not `avoided`; None for a single character.
        """
        for i in self._candidates(start, end):
            char = int(self._scored.chars[i])
            if char not in avoided and self._parts_keep_minimum(start, char, end):
                return char
        return self._split_anywhere(start, end, avoided)

    def split_optional(self, start: int, end: int, removed: Collection[int]) -> tuple[int, float] | None:
        """Where to split a span within the maximum, and the score there; None if no candidate fits.

        The offset may be among the `removed`, which are skipped when boundaries are shown: all others then stay as they
        were. Blocks joined across it are parts of this span, so they keep the maximum too, unless the span is so near
        to it that a part, tokenised alone, could have more tokens than the whole.
        """
        may_join = self._sizes.estimate(start, end) + slack(self._bounds.maximum) <= self._bounds.maximum
        for i in self._candidates(start, end):
            char = int(self._scored.chars[i])
            is_allowed = may_join or char not in removed
            if is_allowed and self._parts_keep_minimum(start, char, end) and self._parts_keep_maximum(start, char, end):
                return char, float(self._scored.scores[i])
        return None

    def relative_size(self, start: int, end: int) -> float:
        """Tokens of the span between twice the minimum (0) and the maximum (1), on a logarithmic scale."""
        smallest, largest = 2 * self._bounds.minimum, self._bounds.maximum
        if smallest == largest:
            return 1.0
        n_tokens = min(max(self._sizes.estimate(start, end), smallest), largest)
        return log(n_tokens / smallest) / log(largest / smallest)

    def _candidates(self, start: int, end: int) -> Iterator[int]:
        """Indices of the candidates that leave both parts the minimum by estimate, best first."""
        first_token, last_token = self._sizes.n_before(np.array((start, end)))
        first = np.searchsorted(self._n_before, first_token + self._bounds.minimum, "left")
        last = np.searchsorted(self._n_before, last_token - self._bounds.minimum, "right")
        ranked = self._ranked[first:last]
        if len(ranked):
            yield int(first + ranked.argmax())  # nearly always accepted, so sorting is rare
            yield from first + np.argsort(-ranked, kind="stable")[1:]

    def _parts_keep_minimum(self, start: int, char: int, end: int) -> bool:
        minimum = self._bounds.minimum
        return not (self._sizes.fewer_than(start, char, minimum) or self._sizes.fewer_than(char, end, minimum))

    def _parts_keep_maximum(self, start: int, char: int, end: int) -> bool:
        return not (self.must_split(start, char) or self.must_split(char, end))

    def _split_anywhere(self, start: int, end: int, avoided: Collection[int]) -> int | None:
        """Part a heading from its text, or violate the minimum, only if no offset within reach prevents it."""
        middle = self._sizes.middle(start, end)
        fallback: list[tuple[bool, int]] = []
        for char in forced_cuts(self._text, start, end, middle):
            if char in avoided:
                continue
            keeps_minimum = self._parts_keep_minimum(start, char, end)
            if keeps_minimum and not self._parts_heading(char):
                return char
            fallback.append((not keeps_minimum, char))
        return min(fallback, key=lambda found: found[0])[1] if fallback else None


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
