"""What a segmenter is: it scores the places where a block may begin. Knows no tokens and no granularity."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from blockrag.errors import SegmentationError
from blockrag.segment.candidates import find_candidates

T = TypeVar("T")


def finished(steps: Generator[Any, None, T], tell: Callable[[Any], object] | None = None) -> T:
    """What a generator returns when all its steps are taken; `tell` is called with what each yields."""
    with closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                return end.value
            if tell is not None:
                tell(step)


@dataclass(frozen=True, eq=False)
class Scored:
    """Candidates of one text with their scores.

    Attributes
    ----------
    chars : np.ndarray
        int64 ``(candidates,)``, strictly increasing character offsets inside the text.
    scores : np.ndarray
        float32 ``(candidates,)`` in [0, 1]; higher where a block should rather begin.

    Raises
    ------
    SegmentationError
        If the arrays are not as above.
    """

    chars: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        chars, scores = np.asarray(self.chars, np.int64), np.asarray(self.scores, np.float32)
        if chars.ndim != 1 or chars.shape != scores.shape:
            raise SegmentationError(
                f"{chars.shape} candidates came with {scores.shape} scores; give one score a candidate."
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

    A subclass sets `name` and writes `score`, and, where that takes long, `scoring`; sizes, granularity and edits are
    not its concern.
    """

    name: str

    @abstractmethod
    def score(self, text: str, candidates: np.ndarray) -> np.ndarray:
        """How much a new block should begin at each candidate.

        Parameters
        ----------
        text : str
            The whole text.
        candidates : np.ndarray
            int64 ``(candidates,)`` from `find_candidates`; may be empty.

        Returns
        -------
        np.ndarray
            float32 ``(candidates,)`` in [0, 1].
        """

    def scoring(self, text: str, candidates: np.ndarray) -> Generator[float, None, np.ndarray]:
        """`score` step by step: what can be told of, and stopped by closing it.

        Yields
        ------
        float
            The share that is done, above 0 and at most 1; nothing where it is done at once.

        Returns
        -------
        np.ndarray
            The same as `score`.
        """
        yield from ()
        return self.score(text, candidates)

    def boundaries(self, text: str) -> Scored:
        """Candidates of `text` and their scores, checked.

        Raises
        ------
        SegmentationError
            If the scores are of the wrong number or leave [0, 1].
        """
        return finished(self.finding(text))

    def finding(self, text: str) -> Generator[float, None, Scored]:
        """`boundaries`, step by step; yields what `scoring` does."""
        candidates = find_candidates(text)
        return Scored(candidates, (yield from self.scoring(text, candidates)))
