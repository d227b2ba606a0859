"""Times the stages of an answer, so that their sum counts everything and waiting for a reader counts nothing."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Milliseconds by stage. Stages are entered one after another, as often as needed; their times add up."""

    def __init__(self, device: torch.device | None = None):
        self._device = device
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the body's time under `name`, on a GPU until its work is done."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if self._device is not None and self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._seconds[name] += time.perf_counter() - start

    def ms(self, name: str) -> float:
        """Time of one stage; 0 where it was never entered."""
        return 1000 * self._seconds[name]

    def total_ms(self, *names: str) -> float:
        """Time of several stages together."""
        return sum(self.ms(name) for name in names)
