"""Metrics of a segmentation: F1, Pk and WindowDiff by `nltk`, boundary similarity by `segeval`.

`segeval` 2.0.11 also has Pk and WindowDiff, but its own assertion fails for windows over 256 units.
"""

from dataclasses import dataclass

import numpy as np
import segeval
from nltk.metrics.segmentation import pk, windowdiff

from training.corpus import first_visible

NAMES = ("f1", "f1_tolerant", "precision", "recall", "pk", "windowdiff", "boundary_similarity")

_TOLERANCE = 1


@dataclass(frozen=True, eq=False)
class Units:
    """Sentences and lines of a text: units of Pk, WindowDiff and the tolerance of F1.

    Attributes
    ----------
    chars : np.ndarray
        int64 ``(units,)``, start of each; the first is 0. Includes all gold boundaries.
    """

    chars: np.ndarray

    @classmethod
    def of(cls, candidates: np.ndarray, gold: np.ndarray) -> "Units":
        """Units from a text's candidates and gold boundaries."""
        return cls(np.union1d(np.concatenate(([0], candidates)), gold))

    def index(self, chars: np.ndarray) -> np.ndarray:
        """Indices of the nearest unit of each character, unique, without the first unit."""
        if not len(chars):
            return np.empty(0, np.int64)
        right = np.clip(np.searchsorted(self.chars, chars), 1, max(1, len(self.chars) - 1))
        right = np.minimum(right, len(self.chars) - 1)
        left = np.maximum(right - 1, 0)
        nearest = np.where(chars - self.chars[left] < self.chars[right] - chars, left, right)
        return np.setdiff1d(nearest, [0])

    def masses(self, index: np.ndarray) -> tuple[int, ...]:
        """Number of units of each block."""
        return tuple(np.diff(np.concatenate(([0], index, [len(self.chars)]))).tolist())

    def gaps(self, index: np.ndarray) -> str:
        """A digit for each gap between units: 1 if a block begins after it."""
        digits = np.zeros(len(self.chars), np.uint8)
        digits[index] = 1
        return "".join(map(str, digits[1:]))


def normalise(text: str, chars: np.ndarray) -> np.ndarray:
    """Move boundaries to the next visible character; drop duplicates and those at the ends of the text."""
    found = {first_visible(text, char) for char in chars.tolist()}
    return np.array(sorted(char for char in found if 0 < char < len(text)), np.int64)


def measure(units: Units, gold: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """All metrics in `NAMES` of boundaries `found` against `gold`. The window is half a mean gold block.

    Exact F1 compares characters; tolerant F1 matches boundaries at most one unit apart, one to one.
    """
    n_right = len(np.intersect1d(gold, found))
    wanted, given = units.index(gold), units.index(found)
    reference, hypothesis = units.gaps(wanted), units.gaps(given)
    window = max(1, round(len(units.chars) / (len(wanted) + 1) / 2))
    return {
        "f1": _f1(n_right, len(found), len(gold)),
        "f1_tolerant": _f1(_pairs(wanted, given), len(given), len(wanted)),
        "precision": n_right / len(found) if len(found) else 0.0,
        "recall": n_right / len(gold),
        "pk": pk(reference, hypothesis, window),
        "windowdiff": windowdiff(reference, hypothesis, window),
        "boundary_similarity": float(segeval.boundary_similarity(units.masses(given), units.masses(wanted), n_t=2)),
    }


def _f1(n_right: int, n_found: int, n_gold: int) -> float:
    return 2 * n_right / (n_found + n_gold) if n_found + n_gold else 0.0


def _pairs(wanted: np.ndarray, given: np.ndarray) -> int:
    """Maximum one-to-one matching of units at most `_TOLERANCE` apart, greedily from the start."""
    n, j = 0, 0
    for unit in wanted:
        while j < len(given) and given[j] < unit - _TOLERANCE:
            j += 1
        if j < len(given) and given[j] <= unit + _TOLERANCE:
            n, j = n + 1, j + 1
    return n
