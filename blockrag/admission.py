"""Admits a limited number of answers at once; the others wait in a queue.

Whoever was served for the least time lately goes first, so that long questions cost their sender. The queue is bounded
in length and in time, so that an overloaded server refuses questions instead of growing.
"""

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from contextvars import copy_context
from functools import partial
from typing import TypeVar
from weakref import WeakSet

from blockrag.errors import BusyError

T = TypeVar("T")

_END = object()

HALF_LIFE_S = 300.0
"""Seconds in which half of the time that a sender was served is forgotten."""

FORGOTTEN_S = 0.01
"""A sender with less time than this is forgotten."""

ClientId = str | tuple[str, str]
"""A client, or its address and the client. Addresses share the slots, then the clients of one address."""


class Ticket:
    """One client's request for a slot.

    Attributes
    ----------
    sender, client : tuple of str
        Who shares the slots with other senders, and who shares those of its sender.
    ahead : int
        Tickets that will be admitted before this one, as things stand; 0 once it is admitted.
    """

    def __init__(self, queue: "FairQueue", client_id: ClientId):
        self._queue = queue
        self.client = (client_id, "") if isinstance(client_id, str) else client_id
        self.sender = (client_id,) if isinstance(client_id, str) else client_id[:1]
        self._settled, self._is_refused = threading.Event(), False
        self._drawn = queue.clock()
        self._deadline = self._drawn + queue.max_wait_s
        self.admitted_at = self._drawn

    @property
    def waited_ms(self) -> float:
        """Time from drawing to admission."""
        return 1000 * (self.admitted_at - self._drawn)

    @property
    def ahead(self) -> int:
        return self._queue.ahead_of(self)

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`. Returns whether the ticket is admitted.

        Raises
        ------
        BusyError
            If it has waited longer than the queue allows, or gave way to other senders.
        """
        if not self._settled.wait(min(seconds, max(0.0, self._deadline - self._queue.clock()))):
            self._queue.close_unread()
            if self._queue.clock() >= self._deadline and not self._settled.is_set():
                raise BusyError(f"not admitted within {self._queue.max_wait_s:g} seconds; ask again a little later.")
        if self._is_refused:
            raise BusyError("many of your questions wait, and so do others'; this one gave way. Ask fewer at once.")
        return self._settled.is_set()

    def settle(self, *, admitted: bool) -> None:
        """Called by the queue."""
        self.admitted_at, self._is_refused = self._queue.clock(), not admitted
        self._settled.set()


class Stream(Iterator[T]):
    """Items of a generator that holds a ticket, for ``for`` and ``async for`` (each item then comes from a thread).

    `close` gives the slot back, and so does dropping the stream. If nobody reads it while others wait, the queue closes
    it. Safe to use from several threads.

    Raises
    ------
    BusyError
        By `next`, if the queue has closed the stream.
    """

    def __init__(self, queue: "FairQueue", items: Generator[T]):
        self._queue, self._items = queue, items
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._was_unread = False
        queue.watch(self)

    def __next__(self) -> T:
        with self._lock:
            if self._was_unread:
                raise BusyError(
                    f"this stream was closed: nobody read it for {self._queue.max_idle_s:g} seconds while others "
                    "waited. Read a stream to its end or close it."
                )
            try:
                return next(self._items)
            finally:
                self._read_at = time.monotonic()

    async def __aiter__(self) -> AsyncGenerator[T]:
        async with aclosing(each_in_thread(self)) as each:
            async for item in each:
                yield item

    def close(self) -> None:
        """Stop, and give the slot back."""
        with self._lock:
            self._items.close()

    def close_if_unread(self, seconds: float) -> None:
        """Close if nothing was read for that long and no item is being computed."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            is_open = self._items.gi_frame is not None  # type: ignore[attr-defined]
            if is_open and self._read_at is not None and time.monotonic() - self._read_at > seconds:
                self._items.close()
                self._was_unread = True
        finally:
            self._lock.release()


async def each_in_thread(items: "Generator[T] | Stream[T]") -> AsyncGenerator[T]:
    """Yield each item as it comes from a thread of its own.

    In the loop's shared threads, streams that wait for their turn could take every thread from those that have it.
    Closing this generator closes `items`: at once, or when the item at work is done, without waiting for it.
    """
    executor, at_work = ThreadPoolExecutor(1, thread_name_prefix="blockrag-stream"), False
    try:
        while True:
            at_work = True
            step = partial(copy_context().run, next, items, _END)
            item = await asyncio.get_running_loop().run_in_executor(executor, step)
            at_work = False
            if item is _END:
                break
            yield item  # type: ignore[misc]
    finally:
        closing = executor.submit(items.close)
        executor.shutdown(wait=False)
        if not at_work:
            await asyncio.wrap_future(closing)


class ServedTime:
    """Seconds of service by name, half of which are forgotten every `HALF_LIFE_S`."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, ...], tuple[float, float]] = {}  # as they were at a time

    def of(self, name: tuple[str, ...], now: float) -> float:
        """Return the seconds of `name` that are not forgotten."""
        seconds, at = self._seconds.get(name, (0.0, now))
        left = seconds * 0.5 ** ((now - at) / HALF_LIFE_S)
        return left if left >= FORGOTTEN_S else 0.0

    def add(self, name: tuple[str, ...], seconds: float, now: float) -> None:
        """Charge `name`."""
        self._seconds[name] = (self.of(name, now) + seconds, now)

    def names(self, now: float) -> list[tuple[str, ...]]:
        """Return who is not forgotten."""
        for name in [name for name in self._seconds if not self.of(name, now)]:
            del self._seconds[name]
        return list(self._seconds)


class FairQueue:
    """Fair, bounded admission. Safe to use from several threads.

    The ticket whose sender was served for the least time goes first, then the one whose client was, then the one that
    was drawn first; answers in progress count. While others were served lately, one sender leaves the last slot free.

    Parameters
    ----------
    slots : int
        Answers at once.
    max_waiting : int
        Tickets that may wait. If there are more, one of the sender with the most gives way.
    max_wait_s : float
        Seconds after which a ticket gives up.
    max_idle_s : float
        Seconds after which a stream that nobody reads is closed, if others wait.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        slots: int,
        max_waiting: int = 64,
        max_wait_s: float = 120.0,
        max_idle_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.max_waiting, self.max_wait_s, self.max_idle_s = max_waiting, max_wait_s, max_idle_s
        self.clock = clock
        self._streams: WeakSet[Stream] = WeakSet()
        self._slots, self._served = slots, ServedTime()
        self._lock = threading.Lock()
        self._waiting: list[Ticket] = []  # as they were drawn
        self._admitted: list[Ticket] = []

    @contextmanager
    def ticket(self, client_id: ClientId = "") -> Iterator[Ticket]:
        """Draw a ticket; leaving the context returns it, admitted or not.

        Raises
        ------
        BusyError
            If too many tickets are waiting, and no sender has many more than this one.
        """
        ticket = Ticket(self, client_id)
        with self._lock:
            if len(self._admitted) >= self._slots and len(self._waiting) >= self.max_waiting:
                self._make_room(ticket)
            self._waiting.append(ticket)
            self._admit()
        try:
            yield ticket
        finally:
            self._leave(ticket)

    @property
    def n_admitted(self) -> int:
        """Tickets that hold a slot."""
        return len(self._admitted)

    @property
    def n_waiting(self) -> int:
        """Questions that wait."""
        return len(self._waiting)

    def watch(self, stream: Stream) -> None:
        """Close this stream when it is left unread."""
        with self._lock:
            self._streams.add(stream)

    def close_unread(self) -> None:
        """Close the streams that nobody has read for `max_idle_s`."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close_if_unread(self.max_idle_s)

    def ahead_of(self, ticket: Ticket) -> int:
        """Tickets that will be admitted before `ticket`, if all take as long."""
        with self._lock:
            return next((n for n, other in enumerate(self._in_order()) if other is ticket), 0)

    def _in_order(self) -> list[Ticket]:
        """Return the tickets that wait: of each sender the first, those who were served least before others, then of
        each sender the second, and so on."""
        ranks: Counter[tuple[str, ...]] = Counter()
        ordered = []
        for served, ticket in self._by_served_time():
            ordered.append((ranks[ticket.sender], served, ticket))
            ranks[ticket.sender] += 1
        return [ticket for *_, ticket in sorted(ordered, key=lambda each: each[:2])]

    def _by_served_time(self) -> list[tuple[tuple[float, float], Ticket]]:
        now = self.clock()
        running: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for ticket in self._admitted:
            for name in (ticket.sender, ticket.client):
                running[name] += now - ticket.admitted_at

        def served(name: tuple[str, ...]) -> float:
            return self._served.of(name, now) + running[name]

        return sorted((((served(t.sender), served(t.client)), t) for t in self._waiting), key=lambda each: each[0])

    def _admit(self) -> None:
        while len(self._admitted) < self._slots and self._waiting:
            ticket = next((ticket for ticket in self._in_order() if self._may_have_slot(ticket)), None)
            if ticket is None:
                return
            self._waiting.remove(ticket)
            self._admitted.append(ticket)
            ticket.settle(admitted=True)

    def _may_have_slot(self, ticket: Ticket) -> bool:
        """Return whether this leaves a slot to others, where there were others lately."""
        n_held = sum(other.sender == ticket.sender for other in self._admitted)
        if n_held + 1 < self._slots or self._slots == 1:
            return True
        return all(name[:1] == ticket.sender for name in self._served.names(self.clock()))

    def _make_room(self, ticket: Ticket) -> None:
        counts = Counter(other.sender for other in self._waiting)
        most, n = counts.most_common(1)[0] if counts else (ticket.sender, 0)
        if n <= counts[ticket.sender] + 1:
            n_waiting = len(self._waiting)
            raise BusyError(f"{n_waiting} questions are waiting, which is the limit; ask again a little later.")
        last = next(other for other in reversed(self._waiting) if other.sender == most)
        self._waiting.remove(last)
        last.settle(admitted=False)

    def _leave(self, ticket: Ticket) -> None:
        with self._lock:
            if ticket in self._admitted:
                self._admitted.remove(ticket)
                now = self.clock()
                for name in (ticket.sender, ticket.client):
                    self._served.add(name, now - ticket.admitted_at, now)
            elif ticket in self._waiting:
                self._waiting.remove(ticket)
            self._admit()
