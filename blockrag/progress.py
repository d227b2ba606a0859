"""Progress of long work, reported to a callback, which may stop the work."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm.auto import tqdm


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes
    ----------
    stage : str
        ``"segment"``, ``"embed"``, ``"encode"``, or ``"import"`` of a collection.
    done, total : int
        Blocks; in the stage ``"segment"``, characters, and in ``"import"``, documents.
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
    """Do nothing: the default callback."""


class ProgressBars:
    """A callback that shows a bar for each stage, on standard error or in a notebook.

    Attributes
    ----------
    n_reused : int
        Blocks of the last stage that were there before.
    """

    def __init__(self, name: str):
        self._name, self._stage, self.n_reused = name, "", 0
        self._bar: tqdm | None = None

    def __call__(self, step: Progress) -> None:
        """Update the bar; a new stage gets a new bar below."""
        if self._bar is None or step.stage != self._stage:
            self.close()
            self._stage = step.stage
            unit = "char" if step.stage == "segment" else "block"
            self._bar = tqdm(desc=f"{self._name}: {step.stage}", total=step.total, unit=unit)
        self._bar.update(step.done - self._bar.n)
        self.n_reused = step.reused

    def close(self) -> None:
        """Leave the last bar on the screen."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def progress_bars(name: str) -> Iterator[OnProgress]:
    """`ProgressBars` in a terminal or a notebook; elsewhere `ignore`."""
    if not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield ignore
        return
    bars = ProgressBars(name)
    try:
        yield bars
    finally:
        bars.close()
