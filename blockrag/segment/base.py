"""The segmenter interface: scores for the offsets at which a block may begin."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from blockrag.errors import SegmentationError
from blockrag.progress import OnProgress
from blockrag.segment.candidates import find_candidates
from blockrag.segment.layout import read_layout


@dataclass(frozen=True, eq=False)
class Scored:
    """Candidates of one text with their scores.

    Attributes
    ----------
    chars : np.ndarray
        int64 ``(candidates,)``, strictly increasing character offsets inside the text.
    scores : np.ndarray
        float32 ``(candidates,)`` in [0, 1]; a block is likelier to begin at higher ones.

    Raises
    ------
    SegmentationError
        If the arrays are not like this.
    """

    chars: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        chars, scores = np.asarray(self.chars, np.int64), np.asarray(self.scores, np.float32)
        if chars.ndim != 1 or chars.shape != scores.shape:
            raise SegmentationError(
                f"{chars.shape} candidates came with {scores.shape} scores; give one score for each candidate."
            )
        if chars.size and (chars[0] <= 0 or np.any(np.diff(chars) <= 0)):
            raise SegmentationError("Candidates must be strictly increasing character offsets above 0.")
        if not np.all((scores >= 0) & (scores <= 1)):  # also refuses NaN
            raise SegmentationError(
                f"Scores must lie in [0, 1]; these run from {scores.min()} to {scores.max()}: scale them."
            )
        object.__setattr__(self, "chars", chars)
        object.__setattr__(self, "scores", scores)


class Segmenter(ABC):
    """Gives every candidate of a text a score in [0, 1].

    A subclass sets `name` and defines `score`. Sizes, granularity and edits are handled elsewhere.
    """

    name: str
    needs_every_candidate = False
    """Whether it also scores candidates at which no block may begin, since their neighbours' scores depend on them."""

    @abstractmethod
    def score(self, text: str, candidates: np.ndarray, on_progress: OnProgress | None = None) -> np.ndarray:
        """Score how likely a new block begins at each candidate.

        Parameters
        ----------
        text : str
            The whole text.
        candidates : np.ndarray
            int64 ``(candidates,)`` from `find_candidates`; may be empty.
        on_progress : callable, optional
            Called with the stage ``"segment"`` after each batch by segmenters that run a model.

        Returns
        -------
        np.ndarray
            float32 ``(candidates,)`` in [0, 1].
        """

    def boundaries(self, text: str, on_progress: OnProgress | None = None, media_type: str = "") -> Scored:
        """Candidates of `text` and their scores, checked; only those at which its format lets a block begin.

        Raises
        ------
        SegmentationError
            If the scores are of the wrong number or leave [0, 1].
        """
        candidates, layout = find_candidates(text), read_layout(text, media_type)
        if layout.records is not None or not self.needs_every_candidate:
            candidates = candidates[layout.allows(candidates)]
        scored = Scored(candidates, self.score(text, candidates, on_progress))
        allowed = layout.allows(candidates)
        return Scored(scored.chars[allowed], scored.scores[allowed])
