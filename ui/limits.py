"""How much one visitor, and all visitors together, may use. No gradio.

Each refusal states the limit and when to try again.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from storage.documents import Quota
from storage.errors import LimitError


@dataclass(frozen=True)
class Limits:
    """Limits per visitor and in all.

    Attributes
    ----------
    n_collections : int
        Per visitor.
    quota : Quota
        Documents and characters per collection, and characters in all.
    n_files : int
        Per upload.
    file_bytes : int
        Per file.
    upload_bytes : int
        Of all files of one upload.
    questions_a_minute, uploads_an_hour : int
        Per visitor.
    jobs : int
        Questions, uploads and indexing jobs of one visitor at once.
    question_chars, question_tokens : int
        Per question.
    n_collections_in_all : int
        Of all visitors together.
    collections_an_hour, collections_an_hour_in_all : int
        Made by one address (a /64 network for IPv6), and by all.
    """

    n_collections: int = 100
    quota: Quota = Quota()
    n_files: int = 500
    file_bytes: int = 64 << 20
    upload_bytes: int = 1 << 30
    questions_a_minute: int = 60
    uploads_an_hour: int = 5_000
    jobs: int = 8
    question_chars: int = 20_000
    question_tokens: int = 8_000
    n_collections_in_all: int = 100_000
    collections_an_hour: int = 1_000
    collections_an_hour_in_all: int = 20_000


DEMO = Limits(
    n_collections=3,
    quota=Quota(20, 4_000_000, 256 << 20, 128 << 20, 2 << 30, 3 << 30),
    n_files=20,
    file_bytes=16 << 20,
    upload_bytes=64 << 20,
    questions_a_minute=10,
    uploads_an_hour=60,
    jobs=2,
    question_chars=4_000,
    question_tokens=1_500,
    n_collections_in_all=2_000,
    collections_an_hour=30,
    collections_an_hour_in_all=1_000,
)
"""For a page that anyone on the internet can open."""


class RateLimiter:
    """Counts what each visitor does, and forgets visitors who have left. Thread-safe.

    Parameters
    ----------
    limits : Limits
    clock : callable
        Seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic):
        self.limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._times: dict[tuple[str, str], deque[float]] = {}
        self._jobs: dict[str, int] = {}

    def question(self, owner: str) -> None:
        """Count one question. Raises LimitError."""
        self._count(owner, "questions", 60.0, self.limits.questions_a_minute, "per minute")

    def upload(self, owner: str, n_files: int) -> None:
        """Count uploaded files. Raises LimitError."""
        if n_files > self.limits.n_files:
            raise LimitError(f"{n_files} files at once are too many; send at most {self.limits.n_files}")
        for _ in range(n_files):
            self._count(owner, "files", 3600.0, self.limits.uploads_an_hour, "per hour")

    def collection(self, address: str) -> None:
        """Count a new collection; `address` is that of `connections.address_group`. Raises LimitError."""
        if address:
            self._count(address, "new collections", 3600.0, self.limits.collections_an_hour, "per hour")
        self._count("", "new collections", 3600.0, self.limits.collections_an_hour_in_all, "per hour")

    @contextmanager
    def job(self, owner: str) -> Iterator[None]:
        """Count a long job while it runs. Raises LimitError if too many of the visitor's run already."""
        with self._lock:
            running = self._jobs.get(owner, 0)
            if running >= self.limits.jobs:
                raise LimitError(f"too many jobs at once (limit: {running}); wait for one to finish")
            self._jobs[owner] = running + 1
        try:
            yield
        finally:
            with self._lock:
                self._jobs[owner] -= 1
                if not self._jobs[owner]:
                    del self._jobs[owner]

    def _count(self, owner: str, what: str, span_s: float, limit: int, per: str) -> None:
        now = self._clock()
        with self._lock:
            times = self._times.setdefault((owner, what), deque())
            while times and times[0] <= now - span_s:
                times.popleft()
            if len(times) >= limit:
                wait_s = max(1, round(times[0] + span_s - now))
                raise LimitError(f"the limit is {limit} {what} {per}; try again in {wait_s} seconds")
            times.append(now)
            if len(self._times) > 10_000:
                self._forget(now - 3600.0)

    def _forget(self, before: float) -> None:
        for key in [key for key, times in self._times.items() if not times or times[-1] < before]:
            del self._times[key]
