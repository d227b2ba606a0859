"""Times the stages of an answer, without the time the caller takes to read events."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Milliseconds by stage. A stage may be entered several times; its times add up."""

    def __init__(self, device: torch.device | None = None):
        self._device = device
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the body's time to `name`; on a GPU, waits until its work is done."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if self._device is not None and self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._seconds[name] += time.perf_counter() - start

    def ms(self, name: str) -> float:
        """Time of one stage; 0 if it was never entered."""
        return 1000 * self._seconds[name]

    def total_ms(self, *names: str) -> float:
        """Time of several stages together."""
        return sum(self.ms(name) for name in names)
