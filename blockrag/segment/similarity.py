"""Baseline segmenter: boundaries where the text's embedding changes.

After TextTiling (Hearst, Computational Linguistics 23(1), 1997), with sentence embeddings instead of word counts.
"""

from collections.abc import Callable

import numpy as np

from blockrag.errors import SegmentationError
from blockrag.progress import OnProgress, Progress, ignore
from blockrag.segment.base import Segmenter

Embed = Callable[[list[str]], np.ndarray]
"""Sentences to unit vectors, float ``(sentences, dimension)``."""

_BATCH = 256
_ROWS_AT_ONCE = 8192
_HORIZON = 10


class Similarity(Segmenter):
    """Scores a candidate by how much less similar its two sides are than the sides of its neighbours.

    Similarity is the cosine of the mean embeddings of the `window` sentences before and after, smoothed over three
    candidates. Depth (Hearst's depth score, with peaks up to 10 candidates away) is how far it is below the peaks on
    both sides; the score is the share of the document's candidates that are less deep.

    Parameters
    ----------
    embed : Embed
        Called with at most 256 sentences at a time, each sentence once.
    window : int
        Sentences on each side.

    Raises
    ------
    SegmentationError
        If `window` is below 1.
    """

    name = "similarity"

    def __init__(self, embed: Embed, window: int = 3):
        if window < 1:
            raise SegmentationError(f"A window of {window} sentences is empty; give at least 1.")
        self._embed = embed
        self._window = window

    def score(self, text: str, candidates: np.ndarray, on_progress: OnProgress | None = None) -> np.ndarray:
        """See `Segmenter`; a step is a batch of sentences."""
        if not len(candidates):
            return np.empty(0, np.float32)
        edges = [0, *candidates.tolist(), len(text)]
        sentences = [text[a:b].strip() for a, b in zip(edges, edges[1:], strict=False)]
        batches = []
        for i in range(0, len(sentences), _BATCH):
            batches.append(self._embed(sentences[i : i + _BATCH]))
            done = edges[min(i + _BATCH, len(sentences))]
            (on_progress or ignore)(Progress("segment", done, len(text)))
        depths = _depth(_smooth(_similarities(np.concatenate(batches), self._window)))
        return (np.searchsorted(np.sort(depths), depths) / len(depths)).astype(np.float32)


def _similarities(vectors: np.ndarray, window: int) -> np.ndarray:
    """Cosine of the mean vectors on both sides of each gap.

    Parameters
    ----------
    vectors : np.ndarray
        ``(sentences, dimension)``.
    window : int
        Sentences on each side; fewer at the ends.

    Returns
    -------
    np.ndarray
        float64 ``(sentences - 1,)``.
    """
    gaps = np.arange(1, len(vectors))
    found = np.empty(len(gaps))
    for i in range(0, len(gaps), _ROWS_AT_ONCE):  # bounds the memory of the means
        some = gaps[i : i + _ROWS_AT_ONCE]
        before = sum(vectors[np.maximum(some - k, 0)] * (some >= k)[:, None] for k in range(1, window + 1))
        last = len(vectors) - 1
        after = sum(vectors[np.minimum(some + k, last)] * (some + k <= last)[:, None] for k in range(window))
        norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        found[i : i + len(some)] = np.einsum("nd,nd->n", before, after) / np.maximum(norms, 1e-12)
    return found


def _smooth(values: np.ndarray) -> np.ndarray:
    """Weighted mean with both neighbours; the ends count themselves for the missing one."""
    padded = np.pad(values, 1, mode="edge")
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def _depth(similarities: np.ndarray) -> np.ndarray:
    """How far each value is below the peaks within the horizon on both sides; float64 of the same shape."""
    padded = np.pad(similarities, _HORIZON, mode="edge")
    peaks = np.lib.stride_tricks.sliding_window_view(padded, _HORIZON + 1).max(axis=1)  # from each value onwards
    return peaks[: len(similarities)] + peaks[_HORIZON:] - 2 * similarities
