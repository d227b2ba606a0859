"""Lets long work end with the application. Knows no collection and no page."""

import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from blockrag.errors import BlockRAGError

T = TypeVar("T")

STEP_S = 10.0
"""Longest wait for steps that are under way."""


class StoppedError(BlockRAGError):
    """The application is ending."""


class Shutdown:
    """Work goes on in steps: once the end is wanted none begins, and those under way are waited for, since a process
    that ends while a thread is inside the models is aborted. Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n_under_way, self._is_wanted = 0, False

    def want(self, wait_s: float = STEP_S) -> None:
        """Begin no step any more; returns when all are done, or after `wait_s`."""
        with self._changed:
            self._is_wanted = True
            self._changed.wait_for(lambda: not self._n_under_way, wait_s)

    def until(self, steps: Generator[Any, None, T]) -> Generator[Any, None, T]:
        """The same steps.

        Raises
        ------
        StoppedError
            Instead of the next one, when the end is wanted.
        """
        with closing(steps):
            while True:
                try:
                    with self._step():
                        step = next(steps)
                except StopIteration as end:
                    return end.value
                yield step

    @contextmanager
    def _step(self) -> Iterator[None]:
        with self._changed:
            if self._is_wanted:
                raise StoppedError("the application is ending; start it again and try once more")
            self._n_under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._n_under_way -= 1
                self._changed.notify_all()
