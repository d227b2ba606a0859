"""Progress of long work, reported to a callback, which may stop the work."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes
    ----------
    stage : str
        ``"segment"``, ``"embed"`` or ``"encode"``.
    done, total : int
        Blocks; in the stage ``"segment"``, characters.
    reused : int
        Of the blocks that are done, how many were there before.
    """

    stage: str
    done: int
    total: int
    reused: int = 0


OnProgress = Callable[[Progress], None]
"""Called after each step. Raise `blockrag.errors.Stopped` from it to stop the work."""


def ignore(progress: Progress) -> None:
    """The callback of callers who want no progress."""
