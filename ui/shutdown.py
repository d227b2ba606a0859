"""Lets long work end with the application. Knows no collection and no page."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from blockrag.errors import Stopped
from blockrag.progress import OnProgress, Progress, ignore

STEP_S = 10.0
"""Longest wait for steps that are under way."""


class Shutdown:
    """Stops long work at its next step once the application is to end, and waits for steps under way: a process that
    ends while a thread is inside the models is aborted. Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n_under_way, self._is_wanted = 0, False

    def want(self, wait_s: float = STEP_S) -> None:
        """Begin no step any more; returns when all are done, or after `wait_s`."""
        with self._changed:
            self._is_wanted = True
            self._changed.wait_for(lambda: not self._n_under_way, wait_s)

    @contextmanager
    def guarding(self, on_progress: OnProgress | None) -> Iterator[OnProgress]:
        """For the duration of long work: gives the callback to pass to it, which calls `on_progress`.

        Raises
        ------
        Stopped
            At the beginning and from the callback, once the end is wanted.
        """

        def tell(step: Progress) -> None:
            self._count(-1)  # a callback may wait for a page: that is no step
            try:
                (on_progress or ignore)(step)
            finally:
                self._count(1)
            self._check()

        self._count(1)
        try:
            self._check()
            yield tell
        finally:
            self._count(-1)

    def _check(self) -> None:
        with self._changed:
            if self._is_wanted:
                raise Stopped("the application is ending; start it again and try once more")

    def _count(self, change: int) -> None:
        with self._changed:
            self._n_under_way += change
            self._changed.notify_all()
