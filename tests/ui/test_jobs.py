"""Shutdown and streamed progress."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from blockrag.errors import Stopped
from blockrag.progress import Progress
from ui.jobs import Shutdown, stream_progress


def test_shutdown_waits_for_the_step_in_progress():
    entered, gate, seen = threading.Event(), threading.Event(), []

    def work():
        with shutdown.guarding(seen.append) as on_progress:
            entered.set()
            gate.wait(20)
            on_progress("step")
            seen.append("no step after the end")

    shutdown, pool = Shutdown(), ThreadPoolExecutor(2)
    running = pool.submit(work)
    assert entered.wait(20)
    wanted = pool.submit(shutdown.begin)
    assert not wanted.done()
    gate.set()
    wanted.result(20)
    assert seen == ["step"]
    with pytest.raises(Stopped):
        running.result(20)
    with pytest.raises(Stopped):
        work()


def test_progress_is_streamed_and_errors_are_raised():
    def work(on_progress):
        for done in range(3):
            on_progress(Progress("encode", done, 3))
        return "made"

    def streamed(work):
        made = yield from stream_progress(work)
        assert made == "made"

    assert [step.done for step in streamed(work)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        list(stream_progress(lambda on_progress: 1 / 0))


def test_closing_a_progress_stream_stops_the_work_and_waits():
    ended = []

    def work(on_progress):
        try:
            while True:
                on_progress(Progress("encode", 0, 1))
        finally:
            ended.append(True)

    steps = stream_progress(work)
    next(steps)
    steps.close()
    assert ended == [True]

    def broken(on_progress):
        try:
            on_progress(Progress("encode", 0, 1))
        finally:
            raise OSError("the disk is full")

    steps = stream_progress(broken)
    next(steps)
    with pytest.raises(OSError, match="full"):
        steps.close()
