"""Chooses where one span of a text is split, within the bounds."""

from collections.abc import Collection, Iterator
from math import log

import numpy as np

from blockrag.segment.base import Scored
from blockrag.segment.candidates import is_grapheme_boundary
from blockrag.segment.sizes import SizeBounds, SpanSizes, slack

_TIE_BONUS = 1e-3
_REACH_CHARS = 128


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
    """

    def __init__(self, text: str, scored: Scored, sizes: SpanSizes, bounds: SizeBounds):
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
        """Violate the minimum only if no offset within reach keeps it in both parts."""
        preferred = next(self._near_middle(start, end, avoided), None)
        fitting = (
            char for char in self._near_middle(start, end, avoided) if self._parts_keep_minimum(start, char, end)
        )
        return next(fitting, preferred)

    def _near_middle(self, start: int, end: int, avoided: Collection[int]) -> Iterator[int]:
        """Offsets near the middle: beginnings of words, then of graphemes, then any; nearest of each first."""
        middle = self._sizes.middle(start, end)
        near = range(max(start + 1, middle - _REACH_CHARS), min(end, middle + _REACH_CHARS))
        outward = sorted((char for char in near if char not in avoided), key=lambda char: abs(char - middle))
        yield from (char for char in outward if _begins_word(self._text, char))
        yield from (char for char in outward if is_grapheme_boundary(self._text, char))
        yield from outward


def dyadic_rank(positions: np.ndarray) -> np.ndarray:
    """For each position, the largest k such that a multiple of ``2**(k - 1)`` is above the position before it.

    Splitting at the highest rank first bisects the positions.

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


def _begins_word(text: str, char: int) -> bool:
    """Whether a visible character stands at `char` after white space."""
    return text[char - 1].isspace() and not text[char].isspace() and is_grapheme_boundary(text, char)
