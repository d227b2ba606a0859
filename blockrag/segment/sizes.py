"""Token counts of the spans of one text, and the bounds on block sizes."""

from dataclasses import dataclass

import numpy as np

from blockrag.errors import SegmentationError
from blockrag.segment.tokens import TokenCounter


@dataclass(frozen=True)
class SizeBounds:
    """Fewest and most tokens of a block, each block tokenised alone.

    Attributes
    ----------
    minimum : int
        At least 1. Only a document smaller than this has a smaller block.
    maximum : int
        At least 16, so that any character fits, and at least twice the minimum, so that spans above it can be split.
        If single characters have so many tokens that both cannot hold, the maximum does.

    Raises
    ------
    SegmentationError
        If a bound violates this.
    """

    minimum: int = 32
    maximum: int = 512

    def __post_init__(self) -> None:
        if self.minimum < 1 or self.maximum < 16 or self.maximum < 2 * self.minimum:
            raise SegmentationError(
                f"Block sizes from {self.minimum} to {self.maximum} tokens are impossible: the minimum must "
                "be at least 1, the maximum at least 16 and at least twice the minimum."
            )


class SpanSizes:
    """Token counts of the spans of one text: estimated from the whole text's tokens, exact near a bound.

    A span tokenised alone differs from its share of the whole text's tokens only at its two ends, so the estimate is
    off by a few tokens. Comparisons with a bound use the exact count if the estimate is nearer to the bound than
    `slack`. Exact counts are cached.

    Parameters
    ----------
    text : str
        The whole text.
    counter : TokenCounter
        Counts the tokens.
    """

    def __init__(self, text: str, counter: TokenCounter):
        self._text = text
        self._counter = counter
        self._starts = counter.starts(text)
        self._exact: dict[tuple[int, int], int] = {}

    def n_before(self, chars: np.ndarray) -> np.ndarray:
        """Tokens of the whole text that begin before each offset, int64 of the same shape."""
        return np.searchsorted(self._starts, chars)

    def estimate(self, start: int, end: int) -> int:
        """Tokens of the whole text that begin in ``[start, end)``."""
        first, last = np.searchsorted(self._starts, (start, end))
        return int(last - first)

    def count(self, start: int, end: int) -> int:
        """Tokens of ``text[start:end]`` tokenised alone."""
        key = (start, end)
        if key not in self._exact:
            self._exact[key] = self._counter.count(self._text[start:end])
        return self._exact[key]

    def fewer_than(self, start: int, end: int, bound: int) -> bool:
        """Whether the span has fewer than `bound` tokens."""
        return self._estimate_or_count(start, end, bound) < bound

    def more_than(self, start: int, end: int, bound: int) -> bool:
        """Whether the span has more than `bound` tokens."""
        return self._estimate_or_count(start, end, bound) > bound

    def middle(self, start: int, end: int) -> int:
        """Start of the span's middle token; the middle character if the span has at most one token."""
        first, last = np.searchsorted(self._starts, (start, end))
        char = int(self._starts[(first + last) // 2]) if last - first > 1 else start
        return char if start < char < end else (start + end) // 2

    def _estimate_or_count(self, start: int, end: int, bound: int) -> int:
        n = self.estimate(start, end)
        return n if abs(n - bound) > slack(bound) else self.count(start, end)


def slack(bound: int) -> int:
    """Largest expected error, in tokens, of an estimate near `bound`."""
    return 16 + bound // 8
