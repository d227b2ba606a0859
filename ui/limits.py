"""How much one visitor, and all of them together, may ask for. Knows no page.

Every refusal says what the limit is and when to come back.
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
    """Bounds on what visitors may ask for.

    Attributes
    ----------
    n_collections : int
        Of one visitor.
    quota : Quota
        Documents and characters of one collection.
    n_files : int
        In one upload.
    file_bytes : int
        Of one file.
    total_chars : int
        Of all visitors' documents together.
    questions_a_minute, uploads_an_hour : int
        Of one visitor.
    jobs : int
        Questions, uploads and indexings of one visitor at once.
    question_chars : int
        Of one question.
    n_collections_in_all : int
        Of all visitors together.
    """

    n_collections: int = 100
    quota: Quota = Quota()
    n_files: int = 500
    file_bytes: int = 64 << 20
    total_chars: int = 4 << 30
    questions_a_minute: int = 60
    uploads_an_hour: int = 5_000
    jobs: int = 8
    question_chars: int = 20_000
    n_collections_in_all: int = 100_000


DEMO = Limits(
    n_collections=3,
    quota=Quota(20, 4_000_000),
    n_files=20,
    file_bytes=16 << 20,
    total_chars=256 << 20,
    questions_a_minute=10,
    uploads_an_hour=60,
    jobs=2,
    question_chars=4_000,
    n_collections_in_all=2_000,
)
"""For a page that anyone on the internet can open."""


class RateLimiter:
    """Counts what each visitor does. Safe to use from several threads; forgets who has been away.

    Parameters
    ----------
    limits : Limits
    clock : callable
        Seconds, for tests.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic):
        self.limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._times: dict[tuple[str, str], deque[float]] = {}
        self._jobs: dict[str, int] = {}

    def question(self, owner: str) -> None:
        """One more question. Raises LimitError."""
        self._count(owner, "questions", 60.0, self.limits.questions_a_minute, "a minute")

    def upload(self, owner: str, n_files: int) -> None:
        """So many more files. Raises LimitError."""
        if n_files > self.limits.n_files:
            raise LimitError(f"{n_files} files came at once; at most {self.limits.n_files} are taken: send fewer")
        for _ in range(n_files):
            self._count(owner, "files", 3600.0, self.limits.uploads_an_hour, "an hour")

    @contextmanager
    def job(self, owner: str) -> Iterator[None]:
        """While something long runs for this visitor. Raises LimitError where too much runs already."""
        with self._lock:
            running = self._jobs.get(owner, 0)
            if running >= self.limits.jobs:
                raise LimitError(f"{running} of your jobs are running, which is the most; wait until one is done")
            self._jobs[owner] = running + 1
        try:
            yield
        finally:
            with self._lock:
                self._jobs[owner] -= 1
                if not self._jobs[owner]:
                    del self._jobs[owner]

    def _count(self, owner: str, what: str, span_s: float, most: int, span: str) -> None:
        now = self._clock()
        with self._lock:
            times = self._times.setdefault((owner, what), deque())
            while times and times[0] <= now - span_s:
                times.popleft()
            if len(times) >= most:
                wait = times[0] + span_s - now
                raise LimitError(f"{most} {what} {span} are taken; come back in {max(1, round(wait))} seconds")
            times.append(now)
            if len(self._times) > 10_000:
                self._forget(now - 3600.0)

    def _forget(self, before: float) -> None:
        for key in [key for key, times in self._times.items() if not times or times[-1] < before]:
            del self._times[key]
