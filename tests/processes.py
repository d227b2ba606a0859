"""Processes that start at once, forked from one that has imported what is heavy."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["tests.tiny", "storage.library", "ui.handlers.ask", "blockrag.llamaindex"])


def start(target: Callable, *arguments: Any) -> tuple[BaseProcess, Connection]:
    """Run ``target(tell, *arguments)`` in a process; what it tells arrives at the connection."""
    here, there = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=target, args=(there.send, *arguments))
    process.start()
    there.close()
    return process, here


def told(here: Connection) -> Iterator[Any]:
    """Yield what a process tells until it ends."""
    while True:
        try:
            yield here.recv()
        except EOFError:
            return


def told_until_killed(after_s: float, target: Callable, *arguments: Any) -> list[Any]:
    """Kill a process `after_s` after it has told "ready", and return what it told since."""
    process, here = start(target, *arguments)
    try:
        assert here.recv() == "ready"
        time.sleep(after_s)
    finally:
        process.kill()
    said = list(told(here))
    process.join()
    return said
