"""Segmenter that reads the layout: headings, paragraphs, turns, clauses, definitions. Knows no meaning."""

import numpy as np

from blockrag.progress import OnProgress
from blockrag.segment.base import Segmenter
from blockrag.segment.grade import grade_code
from blockrag.segment.lines import looks_like_code
from blockrag.segment.prose import grade_prose


class Structural(Segmenter):
    """Scores a candidate by the kind of line that begins there; the numbers are in `blockrag.segment.grade`.

    A heading belongs to the text below it: it scores, and what follows it scores 0. A definition in code
    takes along its decorators and the comments right above it. Inside tables and fenced code hardly anything
    scores.
    """

    name = "structural"

    def score(self, text: str, candidates: np.ndarray, on_progress: OnProgress | None = None) -> np.ndarray:
        """See `Segmenter`."""
        graded = list(grade_code(text)) if looks_like_code(text) else grade_prose(text)
        if not graded:
            return np.zeros(len(candidates), np.float32)
        starts = np.array([grade.start for grade in graded])
        line = np.searchsorted(starts, candidates, "right") - 1  # of each candidate; -1 before the first
        is_start = starts[line] == candidates
        at_start = np.array([grade.at_start for grade in graded], np.float32)[line]
        inside = np.array([grade.inside for grade in graded], np.float32)[line]
        return np.where(is_start, at_start, inside)
