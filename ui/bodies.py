"""Limits on request bodies: bytes per route, time to arrive, and the number of values in JSON."""

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.connections import address_group

SMALL_BYTES = 64 << 10
LOGIN_BYTES = 4 << 10
JSON_BYTES = 16 << 20
"""Of a call: four million characters of four bytes each."""

UPLOAD_BYTES = 1 << 30
"""Of all files of one upload; each file has its own limit besides."""

HELD_BYTES = 64 << 20
"""Of all JSON bodies that are in memory at once."""

MAX_VALUES, MAX_DEPTH = 20_000, 64
"""In one JSON body. Millions of tiny values take seconds to take apart, and one long text does not."""

CHUNK_S, JSON_S, UPLOAD_S = 20.0, 60.0, 1800.0
"""Seconds for the next bytes of a body, for all of a JSON body, for all of an upload."""

ARRIVED_S, ARRIVED_SHARES = 700.0, 8
"""How long what was uploaded is kept at most, in seconds, and how many of the largest uploads may be kept."""

MAX_PARTS = 1024
"""Files of all uploads that arrive at once, half of them of one address: each is open until its upload is complete."""

PART_BYTES = 64 << 10
"""What a file counts in `Arrivals` besides its bytes, so that their number is bounded too."""

_BOUNDARY = re.compile(r"multipart/form-data\s*;.*?boundary=\"?([^\s\";,]{1,200})", re.IGNORECASE)
_BRACKETS = re.compile(rb"[\[\]{}]")


class BodyError(Exception):
    """A body is refused; `status` says why to programs."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class BodyLimits:
    """See the constants of the same names."""

    small_bytes: int = SMALL_BYTES
    json_bytes: int = JSON_BYTES
    upload_bytes: int = UPLOAD_BYTES
    held_bytes: int = HELD_BYTES
    chunk_s: float = CHUNK_S

    def of(self, path: str) -> int:
        """Return the most bytes that a route takes."""
        if path == "/login":
            return LOGIN_BYTES
        if path == "/gradio_api/upload":
            return self.upload_bytes
        is_call = path.startswith(
            ("/gradio_api/queue/join", "/gradio_api/call/", "/gradio_api/run/", "/gradio_api/mcp", "/v1/")
        )
        return self.json_bytes if is_call else self.small_bytes


class Bodies:
    """Reads request bodies within `limits`. Belongs to one event loop."""

    def __init__(self, limits: BodyLimits):
        self._limits = limits
        self._held = 0
        self._arrived, self._parts = Arrivals(ARRIVED_SHARES * limits.upload_bytes), Counter[str]()

    async def pass_on(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, length: str | None) -> None:
        """Let `app` answer a request with a body of this ``Content-Length``. Raises BodyError."""
        path = scope["path"].rstrip("/")
        most = self._limits.of(path)
        if length is not None and (not length.isdecimal() or len(length) > 15 or int(length) > most):
            raise BodyError(413, f"a request to this address may have at most {most} bytes")
        if path == "/gradio_api/upload":
            address = address_group(scope["client"][0]) if scope.get("client") else ""
            count = self._arrived.begin(address, int(length or 0))
            with self._count_parts(scope, address, count) as counted:
                return await _Upload(receive, most, self._limits.chunk_s, counted).pass_to(app, scope, send)
        body = bytearray()
        try:
            async with asyncio.timeout(JSON_S):
                await self._read(receive, body, most)
            check_json(bytes(body))
            await app(scope, _replay(bytes(body), receive), send)
        except TimeoutError as error:
            raise BodyError(408, "the request did not arrive in time") from error
        finally:
            self._held -= len(body)

    @contextmanager
    def _count_parts(
        self, scope: Scope, address: str, count: Callable[[int], None]
    ) -> Iterator[Callable[[bytes], None]]:
        """Yield what counts the bytes and the parts of an upload as they arrive, and raises BodyError."""
        found = _BOUNDARY.match(Headers(scope=scope).get("content-type", ""))
        if found is None:
            raise BodyError(400, "an upload is multipart/form-data with a boundary")
        mark, rest, n = b"--" + found[1].encode("latin-1"), b"", 0

        def counted(chunk: bytes) -> None:
            nonlocal rest, n
            arrived = rest + chunk
            n_new = arrived.count(mark)
            rest = arrived[-len(mark) + 1 :]
            n += n_new
            self._parts[address] += n_new
            count(len(chunk) + PART_BYTES * n_new)
            of_address = self._parts[address] if address else n
            if of_address > MAX_PARTS // 2 or self._parts.total() > MAX_PARTS:
                raise BodyError(503, f"{of_address} files arrive at once, which is too many; send fewer at a time")

        try:
            yield counted
        finally:
            self._parts[address] -= n
            if not self._parts[address]:
                del self._parts[address]

    async def _read(self, receive: Receive, body: bytearray, most: int) -> None:
        more = True
        while more:
            async with asyncio.timeout(self._limits.chunk_s):
                message = await receive()
            if message["type"] == "http.disconnect":
                raise BodyError(400, "the request is not complete")
            chunk, more = message.get("body", b""), message.get("more_body", False)
            if len(body) + len(chunk) > most:
                raise BodyError(413, f"a request to this address may have at most {most} bytes")
            if self._held + len(chunk) > self._limits.held_bytes:
                raise BodyError(503, "too many large requests at once; try again in a moment")
            self._held += len(chunk)
            body += chunk


class Arrivals:
    """Counts the bytes of uploads for as long as the server keeps what arrived, whether it is used or not.

    Parameters
    ----------
    most : int
        Of all; one address may have half.
    clock : callable
        Seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic):
        self._most, self._clock = most, clock
        self._counts: deque[tuple[float, str, list[int]]] = deque()

    def begin(self, address: str, announced: int) -> Callable[[int], None]:
        """Return what counts the bytes of an upload as they arrive. Raises BodyError if there is no room for more, now
        or then."""
        now, count = self._clock(), [0]
        while self._counts and self._counts[0][0] <= now - ARRIVED_S:
            self._counts.popleft()
        self._counts.append((now, address, count))

        def add(n: int, soon: int = 0) -> None:
            count[0] += n
            of_all = soon + sum(each for _, _, (each,) in self._counts)
            of_address = soon + sum(each for _, group, (each,) in self._counts if group == address)
            if of_all > self._most or address and of_address > self._most // 2:
                raise BodyError(503, "too much was uploaded in the last minutes; try again later")

        add(0, announced)
        return add


class _Upload:
    """Passes an upload on while it arrives, and cuts it off where it breaks a limit."""

    def __init__(self, receive: Receive, most: int, chunk_s: float, count: Callable[[bytes], None]):
        self._count = count
        self._receive, self._left, self._chunk_s = receive, most, chunk_s
        self._most, self._complete = most, False
        self._refusal: BodyError | None = None

    async def pass_to(self, app: ASGIApp, scope: Scope, send: Send) -> None:
        async def send_unless_refused(message: Message) -> None:
            if self._refusal is None:
                await send(message)

        try:
            async with asyncio.timeout(UPLOAD_S):
                await app(scope, self._next, send_unless_refused)
        except TimeoutError as error:
            raise BodyError(408, "the upload did not arrive in time") from error
        except Exception:
            if self._refusal is None:
                raise
        if self._refusal is not None:
            raise self._refusal

    async def _next(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._chunk_s):
                message = await self._receive()
        except TimeoutError:
            self._refusal = BodyError(408, "the upload did not arrive in time")
            return {"type": "http.disconnect"}
        try:
            self._count(message.get("body", b""))
        except BodyError as refusal:
            self._refusal = refusal
            return {"type": "http.disconnect"}
        self._left -= len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._left < 0:
            self._refusal = BodyError(413, f"one upload may have at most {self._most} bytes")
            return {"type": "http.disconnect"}
        return message


def _replay(body: bytes, receive: Receive) -> Receive:
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def replay() -> Message:
        return next(messages, None) or await receive()

    return replay


def check_json(body: bytes) -> None:
    """Raise BodyError if a body that may be JSON has too many values or nests too deeply. Takes no JSON apart."""
    if body.count(b'"') > 4 * MAX_VALUES and body.count(b'"') - body.count(b'\\"') > 4 * MAX_VALUES:
        raise BodyError(413, f"a request may have at most {MAX_VALUES} values")
    outside = b" ".join(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    if outside.count(b",") + outside.count(b"[") + outside.count(b"{") > MAX_VALUES:
        raise BodyError(413, f"a request may have at most {MAX_VALUES} values")
    depth = 0
    for bracket in _BRACKETS.findall(outside):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise BodyError(413, f"a request may nest at most {MAX_DEPTH} deep")
