"""Answers questions in threads of the program, so that they outlast pages. No gradio.

Questions of one conversation are answered one after another; `FairQueue` of the engine decides between conversations.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from ui import strings
from ui.handlers.question import QuestionState
from ui.open_collection import OpenCollection

_LOG = logging.getLogger(__name__)

CLOSE_WAIT_S = 10.0
MAX_WAITING = 8
"""Questions of one conversation that wait for the one before."""

Key = tuple[int, int | None]
"""A collection and a conversation of it, by their rows."""

Answering = Callable[[], Iterator[QuestionState]]
"""Answers a question, yielding its state after every event; saves it in the end. Ends early if the state is stopped."""


@dataclass
class _Line:
    """The questions of a conversation that are not answered yet, the first being at work; and those that failed."""

    waiting: list[tuple[QuestionState, Answering]] = field(default_factory=list)
    failed: list[QuestionState] = field(default_factory=list)


class Questions:
    """All questions that are being answered. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines: dict[Key, _Line] = {}
        self._threads: set[threading.Thread] = set()
        self.version = 0

    def submit(self, collection: OpenCollection, state: QuestionState, answering: Answering) -> bool:
        """Answer a question after the others of its conversation; return False if too many wait there."""
        key = (collection.record.id, state.conversation)
        with self._changed:
            line = self._lines.setdefault(key, _Line())
            if len(line.waiting) >= MAX_WAITING:
                return False
            line.failed.clear()
            line.waiting.append((state, answering))
            if len(line.waiting) == 1:
                thread = threading.Thread(target=self._work, args=(collection, key, line), daemon=True)
                self._threads.add(thread)
                thread.start()
        self._tell(collection)
        return True

    def live(self, collection_id: int, conversation: int | None) -> list[QuestionState]:
        """The questions of a conversation that failed, are being answered or wait, in this order."""
        with self._changed:
            line = self._lines.get((collection_id, conversation), _Line())
            return [*line.failed, *(state for state, _ in line.waiting)]

    def is_active(self, collection_id: int, conversation: int | None) -> bool:
        """Whether a question of a conversation is being answered."""
        with self._changed:
            return bool(self._lines.get((collection_id, conversation), _Line()).waiting)

    def stop(self, collection_id: int, conversation: int | None) -> None:
        """Stop the answer in progress and keep what is written."""
        with self._changed:
            for state, _ in self._lines.get((collection_id, conversation), _Line()).waiting[:1]:
                state.stopped = True

    def wait(self, version: int, seconds: float) -> int:
        """Wait until something changed after `version`, at most `seconds`; return the version."""
        with self._changed:
            self._changed.wait_for(lambda: self.version != version, seconds)
            return self.version

    def close(self) -> None:
        """Stop all answers, and wait for the steps in progress."""
        with self._changed:
            for line in self._lines.values():
                for state, _ in line.waiting:
                    state.stopped = True
            threads = list(self._threads)
        until = time.monotonic() + CLOSE_WAIT_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self, collection: OpenCollection, key: Key, line: _Line) -> None:
        while True:
            with self._changed:
                if not line.waiting:
                    self._threads.discard(threading.current_thread())
                    if not line.failed:
                        self._lines.pop(key, None)
                    return
                state, answering = line.waiting[0]
            try:
                with closing(answering()) as steps:  # type: ignore[type-var]
                    for _ in steps:
                        self._tell(collection)
            except Exception as error:  # a fault of ours: the question says so, and the others go on
                _LOG.exception("a question failed: %s", type(error).__name__)
                state.error, state.stopped = strings.INTERNAL_ERROR, True
            with self._changed:
                del line.waiting[0]
                if state.turn is None:
                    line.failed.append(state)
            self._tell(collection)

    def _tell(self, collection: OpenCollection) -> None:
        collection.worker.changed(collection.record.id)
        with self._changed:
            self.version += 1
            self._changed.notify_all()
