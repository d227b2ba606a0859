"""Token counts of the spans of one text, and the bounds on block sizes."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from blockrag.documents.document import without_surrogates
from blockrag.errors import SegmentationError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PIECE_CHARS = 1 << 16
_PIECES_AT_ONCE = 16


class TokenCounter(Protocol):
    """Measures the size of blocks."""

    def starts(self, text: str) -> np.ndarray:
        """Estimate of the offsets at which the tokens of the whole text begin. Needs little memory beside the result.

        Returns
        -------
        np.ndarray
            int64 ``(tokens,)``, character offsets, not decreasing.
        """

    def count(self, text: str) -> int:
        """Tokens of `text` tokenised alone: exact."""


class HFTokenCounter:
    """Counts with a fast Hugging Face tokenizer, special tokens not added.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer. It is copied, so that its later padding and truncation settings have no effect.

    Raises
    ------
    SegmentationError
        If the tokenizer is not a fast one, since it gives no offsets.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        if not tokenizer.is_fast:
            raise SegmentationError(f"{type(tokenizer).__name__} gives no offsets; load it with use_fast=True.")
        self._core = copy.deepcopy(tokenizer.backend_tokenizer)
        self._core.no_truncation()
        self._core.no_padding()
        self._core.encode_special_tokens = True  # a control token written in a document is text, as in the prompt

    def starts(self, text: str) -> np.ndarray:
        """See `TokenCounter`; tokens that would span two pieces of 65,536 characters are cut there."""
        pieces = list(_pieces(text))
        found = [np.empty(0, np.int64)]
        for i in range(0, len(pieces), _PIECES_AT_ONCE):
            group = pieces[i : i + _PIECES_AT_ONCE]
            encodings = self._core.encode_batch(
                [without_surrogates(text[a:b]) for a, b in group], add_special_tokens=False
            )
            for (first, _), encoding in zip(group, encodings, strict=True):
                offsets = np.fromiter((begin for begin, _ in encoding.offsets), np.int64, len(encoding))
                found.append(offsets + first)
        return np.concatenate(found)

    def count(self, text: str) -> int:
        """Tokens of `text` alone."""
        return len(self._core.encode(without_surrogates(text), add_special_tokens=False))


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
        sizes = (self.minimum, self.maximum)
        whole = all(hasattr(size, "__index__") and not isinstance(size, bool) for size in sizes)
        if not whole or self.minimum < 1 or self.maximum < 16 or self.maximum < 2 * self.minimum:
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


def dyadic_rank(positions: np.ndarray) -> np.ndarray:
    """For each position, the largest k such that a multiple of ``2**(k - 1)`` is at most it and above the one before.

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


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Spans that tile `text`, ending after a line if possible, so that few words are cut."""
    start = 0
    while start < len(text):
        stop = start + _PIECE_CHARS
        if stop < len(text):
            stop = text.rfind("\n", start, stop) + 1 or stop
        yield start, min(stop, len(text))
        start = stop
