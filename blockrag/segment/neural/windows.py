"""Divides tokens into overlapping windows, and chooses the window in which each marker is read."""

from dataclasses import dataclass

import numpy as np

from blockrag.segment.neural.encoding import Encoded

PAD, CLS, SEP = 0, 101, 102
"""BERT's ids."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows over one text.

    Attributes
    ----------
    ids, cases : np.ndarray
        int64 ``(windows, size)``; each row begins with CLS, ends with SEP, and is padded where the text is short.
    rows, columns : np.ndarray
        int64 ``(markers,)``: window and column in which each marker is read.
    """

    ids: np.ndarray
    cases: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


def lay(encoded: Encoded, size: int, overlap: int) -> Windows:
    """Windows of `size` tokens, neighbours sharing `overlap`; a marker is read in the window whose middle is nearest.

    So at least ``overlap / 2`` tokens are visible on both sides of every marker, except at the ends of the text.
    """
    room, n_tokens = size - 2, len(encoded.ids)
    step = room - overlap
    n_windows = 1 + max(0, -(-(n_tokens - room) // step))
    size = min(size, n_tokens + 2)
    starts = np.arange(n_windows) * step
    starts[-1] = max(0, n_tokens - room)  # the last one is full
    index = starts[:, None] + np.arange(size - 2)
    ids = np.full((n_windows, size), CLS, np.int64)
    ids[:, 1:-1] = encoded.ids[index]
    ids[:, -1] = SEP
    cases = np.zeros_like(ids)
    cases[:, 1:-1] = encoded.cases[index]
    rows = _nearest(starts + (size - 2) / 2, encoded.markers)
    return Windows(ids, cases, rows, encoded.markers - starts[rows] + 1)


def _nearest(middles: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Index of the middle nearest to each position; middles increase."""
    return np.searchsorted((middles[1:] + middles[:-1]) / 2, positions, "right")
