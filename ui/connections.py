"""Limits on connections: how many at once, in all and per address, and seconds for the header of a request."""

import asyncio
import ipaddress
import resource
from collections import Counter
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from blockrag.errors import BlockRAGError
from ui.monitoring import REFUSALS

MAX_CONNECTIONS = 512
MAX_PER_ADDRESS = 64
OPEN_FILES = 4 * MAX_CONNECTIONS
"""Files and connections that the server may have open: a quarter for connections, half for uploads (see `bodies`), the
rest for the database and KV."""
HEADER_S = 10.0


class ConnectionTable:
    """All open connections of a server. Belongs to its event loop.

    When there is no room, the connection that has waited longest without a request is closed. If all are answering
    requests, the new one is closed.

    Parameters
    ----------
    most, most_per_address : int
    header_s : float
        Seconds in which the header of a request must be complete.
    proxies : set of str
        Addresses without a limit of their own, besides loopback; "*" stands for all. They must limit their clients.
    """

    def __init__(
        self,
        most: int = MAX_CONNECTIONS,
        most_per_address: int = MAX_PER_ADDRESS,
        header_s: float = HEADER_S,
        proxies: frozenset[str] = frozenset(),
    ):
        n_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most, self._most_per_address = min(most, n_files // 4), most_per_address
        self.header_s, self._proxies = header_s, proxies
        self._counts: Counter[str] = Counter()
        self._open: dict[Connection, str] = {}
        self._waiting: dict[Connection, None] = {}  # longest first

    def add(self, connection: "Connection", address: str) -> bool:
        """Make room for a new connection. Returns False if there is none."""
        group = self._group(address)
        if group and self._counts[group] >= self._most_per_address and not self._close_waiting(group):
            return False
        if len(self._open) >= self._most and not self._close_waiting():
            return False
        self._open[connection] = group
        self._counts[group] += 1
        self._waiting[connection] = None
        return True

    def remove(self, connection: "Connection") -> None:
        """Forget a connection that is closed."""
        self._waiting.pop(connection, None)
        group = self._open.pop(connection, None)
        if group is not None:
            self._counts[group] -= 1
            if not self._counts[group]:
                del self._counts[group]

    def set_waiting(self, connection: "Connection", waiting: bool) -> None:
        """Note whether a connection waits for a request or answers one."""
        if not waiting:
            self._waiting.pop(connection, None)
        elif connection in self._open:
            self._waiting.setdefault(connection)

    def _close_waiting(self, group: str | None = None) -> bool:
        for connection in self._waiting:
            if group is None or self._open[connection] == group:
                self.remove(connection)
                connection.transport.abort()
                return True
        return False

    def _group(self, address: str) -> str:
        """Return what is counted as one address: "" for proxies."""
        return "" if "*" in self._proxies or address in self._proxies else address_group(address)


class Connection(H11Protocol):
    """One connection. Aborted if the header of a request does not arrive in time."""

    def __init__(self, *args: Any, table: ConnectionTable, **options: Any):
        super().__init__(*args, **options)
        self._table = table
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        if self._table.add(self, self.client[0] if self.client else ""):
            self._watch()
        else:
            REFUSALS.labels("connection").inc()
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._unwatch()
        self._table.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        answering = self.cycle is not None and not self.cycle.response_complete
        self._table.set_waiting(self, not answering)
        if answering:
            self._unwatch()
        elif self._timer is None and not self.transport.is_closing():
            self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request: for a few seconds (uvicorn's ``timeout_keep_alive``)."""
        self._table.set_waiting(self, True)
        super().on_response_complete()
        if self.cycle is not None and not self.cycle.response_complete:  # the next one was here already
            self._table.set_waiting(self, False)

    def _watch(self) -> None:
        self._timer = self.loop.call_later(self._table.header_s, self.transport.abort)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def allow_open_files(n: int = OPEN_FILES) -> None:
    """Raise this process's limit of open files to `n`, if it is lower.

    Raises
    ------
    BlockRAGError
        If the system does not allow as many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= n:
        return
    if hard != resource.RLIM_INFINITY and hard < n:
        raise BlockRAGError(
            f"a process may have {hard} files open here; the server needs {n}: raise it (ulimit -Hn {n})"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (n, hard))


def address_group(address: str) -> str:
    """Return what is counted as one address: the /64 network for IPv6, "" for loopback, which may be a proxy."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if ip.is_loopback:
        return ""
    return str(ipaddress.ip_network((ip, 64), strict=False)) if ip.version == 6 else address


def limit_connections(config: uvicorn.Config, table: ConnectionTable | None = None) -> None:
    """Apply the limits to every connection that a running server accepts from now on."""
    proxies = config.forwarded_allow_ips or ()
    names = proxies.replace(" ", "").split(",") if isinstance(proxies, str) else proxies
    table = table or ConnectionTable(proxies=frozenset(names))
    config.http_protocol_class = partial(Connection, table=table)  # type: ignore[assignment]
    config.ws_protocol_class = None  # no page of ours opens a WebSocket
