"""Logins: attempts are throttled by name and by address, and sessions expire."""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar

import anyio
import anyio.to_thread
from starlette.exceptions import HTTPException

from ui.passwords import Auth

MAX_FAILURES, FAILURES_S = 20, 900.0
"""Wrong passwords for one name, or from one address, in how many seconds."""

SESSION_S, IDLE_S = 7 * 24 * 3600.0, 12 * 3600.0
"""How long a login lasts at most, and without a request."""

MAX_SESSIONS = 10
"""Of one user at once; the oldest end first."""

ADDRESS: ContextVar[str] = ContextVar("address", default="")
"""Where the login that is being answered comes from: an address, or a /64 network of IPv6."""


class Logins:
    """Checks logins, and knows how old each is. Thread-safe.

    Parameters
    ----------
    auth : callable
        Checks a name and a password.
    clock : callable
        Seconds.
    """

    def __init__(self, auth: Auth, clock: Callable[[], float] = time.monotonic):
        self._auth, self._clock = auth, clock
        self._lock = threading.Lock()
        self._threads = anyio.CapacityLimiter(1)  # its own: whoever waits for a hash takes no thread of other requests
        self._failures: dict[tuple[str, str], deque[float]] = {}
        self._known: set[tuple[str, str]] = set()  # names, and addresses from which they logged in
        self._times: dict[str, tuple[float, float]] = {}  # of a session: begin, last request

    async def check(self, name: str, password: str) -> bool:
        """Return whether the password is right, in a thread: hashing takes long.

        Raises
        ------
        HTTPException
            If there were too many wrong ones. A name locked by others stays open to addresses from which it has logged
            in before.
        """
        address = ADDRESS.get()
        name_key = () if (name, address) in self._known else (("name", name),)
        self.admit(address, name if name_key else "")
        now, keys = self._clock(), (*name_key, ("address", address))
        with self._lock:  # counted now: many may be sent before the first is hashed
            for key in keys:
                self._failures.setdefault(key, deque(maxlen=MAX_FAILURES)).append(now)
            self._forget()
        right = await anyio.to_thread.run_sync(self._auth, name, password, limiter=self._threads)
        if right:
            with self._lock:
                self._known.add((name, address))
                for times in filter(None, map(self._failures.get, keys)):
                    if now in times:
                        times.remove(now)
        return right

    def admit(self, address: str, name: str = "") -> None:
        """Raise HTTPException if there were too many wrong passwords from an address, or for a name."""
        with self._lock:
            for key in (("address", address), ("name", name)):
                times = self._failures.get(key, deque()) if key[1] else deque()
                if len(times) == MAX_FAILURES and (wait_s := times[0] + FAILURES_S - self._clock()) > 0:
                    headers = {"retry-after": str(round(wait_s) + 1), "connection": "close"}
                    raise HTTPException(429, f"too many wrong passwords; try again in {round(wait_s) + 1} s", headers)

    def _forget(self) -> None:
        before = self._clock() - FAILURES_S
        if len(self._failures) > 10_000:
            self._failures = {key: times for key, times in self._failures.items() if times and times[-1] > before}

    def end_expired(self, tokens: dict[str, str], used: set[str]) -> None:
        """Remove the sessions that have ended from Gradio's ``{token: user}``; `used` are those of this request."""
        now = self._clock()
        with self._lock:
            self._times = {token: self._times.get(token, (now, now)) for token in list(tokens)}
            n_sessions: dict[str, int] = {}
            for token, (begun, last) in sorted(self._times.items(), key=lambda item: -item[1][0]):
                user = tokens.get(token, "")
                n_sessions[user] = n_sessions.get(user, 0) + 1
                if now - begun > SESSION_S or now - last > IDLE_S or n_sessions[user] > MAX_SESSIONS:
                    tokens.pop(token, None)
                    del self._times[token]
                elif token in used:
                    self._times[token] = (begun, now)
