"""Long work: stopping it at shutdown, and streaming its progress to a page. No gradio."""

import contextvars
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

from blockrag.errors import Stopped
from blockrag.progress import OnProgress, Progress, ignore
from ui import strings

T = TypeVar("T")

SHUTDOWN_WAIT_S = 10.0
"""Longest wait for steps in progress."""


class Shutdown:
    """Stops long work at its next step when the application shuts down, and waits for steps in progress: a process that
    exits while a thread is inside the models is aborted. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n_steps, self._has_begun = 0, False

    def begin(self, wait_s: float = SHUTDOWN_WAIT_S) -> None:
        """Start no more steps, and return when those in progress are done, or after `wait_s`."""
        with self._changed:
            self._has_begun = True
            self._changed.wait_for(lambda: not self._n_steps, wait_s)

    @contextmanager
    def guarding(self, on_progress: OnProgress | None) -> Iterator[OnProgress]:
        """Yield the callback to pass to long work; it calls `on_progress`.

        Raises
        ------
        Stopped
            At the start and from the callback, once shutdown has begun.
        """

        def report(step: Progress) -> None:
            self._count(-1)  # a callback may wait for a page, which is not a step
            try:
                (on_progress or ignore)(step)
            finally:
                self._count(1)
            self._check()

        self._count(1)
        try:
            self._check()
            yield report
        finally:
            self._count(-1)

    def _check(self) -> None:
        with self._changed:
            if self._has_begun:
                raise Stopped(strings.SHUTTING_DOWN)

    def _count(self, change: int) -> None:
        with self._changed:
            self._n_steps += change
            self._changed.notify_all()


def stream_progress(work: Callable[[OnProgress], T]) -> Generator[Progress, None, T]:
    """Run ``work(on_progress)`` in its own thread and yield its progress; return its result.

    The work waits in its callback until the next step is requested. Closing the generator stops it there with `Stopped`
    and waits for it to end. Any other error of the work is raised.
    """
    steps: SimpleQueue[Progress | None] = SimpleQueue()
    resume, is_closed = threading.Semaphore(0), threading.Event()

    def on_progress(step: Progress) -> None:
        steps.put(step)
        resume.acquire()
        if is_closed.is_set():
            raise Stopped("the page that showed this work is closed")

    with ThreadPoolExecutor(1) as pool:
        done: Future[T] = pool.submit(contextvars.copy_context().run, work, on_progress)
        done.add_done_callback(lambda _: steps.put(None))
        try:
            while (step := steps.get()) is not None:
                yield step
                resume.release()
        except GeneratorExit:
            is_closed.set()
            resume.release()
            error = done.exception()
            if error is not None and not isinstance(error, Stopped):
                raise error from None
            raise
        return done.result()
