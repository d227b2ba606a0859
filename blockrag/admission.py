"""Admits a limited number of answers at once; the others wait in a queue.

Round-robin over clients, FIFO within a client. The queue is bounded in length and in time, so that an overloaded server
refuses questions instead of growing.
"""

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar
from weakref import WeakSet

from blockrag.errors import BusyError

T = TypeVar("T")

_END = object()


class Ticket:
    """One client's request for a slot.

    Attributes
    ----------
    client_id : str
    ahead : int
        Tickets that will be admitted before this one, as things stand; 0 once it is admitted.
    """

    def __init__(self, queue: "FairQueue", client_id: str):
        self._queue, self.client_id = queue, client_id
        self._admitted = threading.Event()
        self._drawn = time.monotonic()
        self._deadline = self._drawn + queue.max_wait_s
        self._admitted_at = self._drawn

    @property
    def waited_ms(self) -> float:
        """Time from drawing to admission."""
        return 1000 * (self._admitted_at - self._drawn)

    @property
    def ahead(self) -> int:
        return self._queue.ahead_of(self)

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`. Returns whether the ticket is admitted.

        Raises
        ------
        BusyError
            If it has waited longer than the queue allows.
        """
        if self._admitted.wait(min(seconds, max(0.0, self._deadline - time.monotonic()))):
            return True
        self._queue.close_unread()
        if time.monotonic() >= self._deadline and not self._admitted.is_set():
            raise BusyError(f"not admitted within {self._queue.max_wait_s:g} seconds; ask again a little later.")
        return self._admitted.is_set()

    def admit(self) -> None:
        """Called by the queue."""
        self._admitted_at = time.monotonic()
        self._admitted.set()


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
        try:
            while (item := await asyncio.to_thread(next, self, _END)) is not _END:
                yield item  # type: ignore[misc]
        finally:
            self.close()

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


class FairQueue:
    """Fair, bounded admission. Safe to use from several threads.

    Parameters
    ----------
    slots : int
        Answers at once.
    max_waiting : int
        Tickets that may wait.
    max_wait_s : float
        Seconds after which a ticket gives up.
    max_idle_s : float
        Seconds after which a stream that nobody reads is closed, if others wait.
    """

    def __init__(self, slots: int, max_waiting: int = 64, max_wait_s: float = 120.0, max_idle_s: float = 10.0):
        self.max_waiting, self.max_wait_s, self.max_idle_s = max_waiting, max_wait_s, max_idle_s
        self._streams: WeakSet[Stream] = WeakSet()
        self._slots = self._free = slots
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, deque[Ticket]] = OrderedDict()  # the next client first

    @contextmanager
    def ticket(self, client_id: str = "") -> Iterator[Ticket]:
        """Draw a ticket; leaving the context returns it, admitted or not.

        Raises
        ------
        BusyError
            If too many tickets are waiting.
        """
        ticket = Ticket(self, client_id)
        with self._lock:
            n_waiting = sum(map(len, self._waiting.values()))
            if not self._free and n_waiting >= self.max_waiting:
                raise BusyError(f"{n_waiting} questions are waiting, which is the limit; ask again a little later.")
            self._waiting.setdefault(client_id, deque()).append(ticket)
            self._admit()
        try:
            yield ticket
        finally:
            self._leave(ticket)

    @property
    def n_admitted(self) -> int:
        """Tickets that hold a slot."""
        return self._slots - self._free

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

    @property
    def n_waiting(self) -> int:
        """Questions that wait."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def ahead_of(self, ticket: Ticket) -> int:
        """Tickets that will be admitted before `ticket`."""
        with self._lock:
            return next((n for n, other in enumerate(self._in_order()) if other is ticket), 0)

    def _in_order(self) -> Iterator[Ticket]:
        for rank in range(max(map(len, self._waiting.values()), default=0)):
            yield from (queue[rank] for queue in self._waiting.values() if rank < len(queue))

    def _admit(self) -> None:
        while self._free and self._waiting:
            client_id, queue = self._waiting.popitem(last=False)
            queue.popleft().admit()
            self._free -= 1
            if queue:
                self._waiting[client_id] = queue  # behind all other clients

    def _leave(self, ticket: Ticket) -> None:
        with self._lock:
            queue = self._waiting.get(ticket.client_id, deque())
            if ticket in queue:
                queue.remove(ticket)
                if not queue:
                    del self._waiting[ticket.client_id]
            else:
                self._free += 1
            self._admit()
