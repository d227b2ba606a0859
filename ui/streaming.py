"""Turns progress callbacks into a generator, for handlers that redraw the page while work goes on."""

import contextvars
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from blockrag.errors import Stopped
from blockrag.progress import OnProgress, Progress

T = TypeVar("T")


def stream_progress(work: Callable[[OnProgress], T]) -> Generator[Progress, None, T]:
    """Run ``work(on_progress)`` in a thread of its own.

    The work waits in its callback until the next step is asked for. Closing the generator stops it there with
    `Stopped` and waits for its end; any other error of the work is raised.

    Yields
    ------
    Progress

    Returns
    -------
    T
        What the work returns.
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
