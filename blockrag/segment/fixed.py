"""Baseline segmenter: pieces of equal size, whatever the text says."""

import numpy as np

from blockrag.errors import SegmentationError
from blockrag.progress import OnProgress
from blockrag.segment.base import Segmenter
from blockrag.segment.sizes import SpanSizes, TokenCounter, dyadic_rank

_RANKS = 4


class FixedSize(Segmenter):
    """Boundaries at the first candidate after each multiple of `size` tokens.

    Multiples of 2, 4 and 8 times `size` score higher, so that a coarser granularity doubles the pieces.

    Parameters
    ----------
    counter : TokenCounter
        Measures the pieces.
    size : int
        Tokens of the finest piece; candidates in between score 0.

    Raises
    ------
    SegmentationError
        If `size` is below 1.
    """

    name = "fixed"

    def __init__(self, counter: TokenCounter, size: int = 64):
        if size < 1:
            raise SegmentationError(f"Pieces of {size} tokens are impossible; give a size of at least 1.")
        self._counter = counter
        self._size = size

    def score(self, text: str, candidates: np.ndarray, on_progress: OnProgress | None = None) -> np.ndarray:
        """See `Segmenter`."""
        n_before = SpanSizes(text, self._counter).n_before(candidates)
        rank = dyadic_rank(n_before // self._size)
        return (np.minimum(rank, _RANKS) / _RANKS).astype(np.float32)
