"""Bars on standard error while a document is worked on. Knows no command."""

import sys
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from blockrag.progress import Progress


class Bars:
    """One bar for each stage of a document's way into an index.

    Attributes
    ----------
    n_reused : int
        Blocks that the last stage found done.
    """

    def __init__(self, name: str):
        self._name, self._stage, self.n_reused = name, "", 0
        self._bar: tqdm | None = None

    def show(self, step: "Progress") -> None:
        """Draw how far a stage is; that of a new stage goes below."""
        if self._bar is None or step.stage != self._stage:
            self.close()
            self._stage = step.stage
            unit = "char" if step.stage == "segment" else "block"
            self._bar = tqdm(desc=f"{self._name}: {step.stage}", total=step.total, unit=unit, file=sys.stderr)
        self._bar.update(step.done - self._bar.n)
        self.n_reused = step.reused

    def close(self) -> None:
        """Leave the last bar as it is."""
        if self._bar is not None:
            self._bar.close()
