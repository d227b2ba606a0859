"""Fetches a web page or file: from public addresses only, within bounds of size and time. No gradio."""

import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from mimetypes import guess_extension
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from blockrag.errors import BlockRAGError
from ui import strings

TIMEOUT_S = 30.0
"""Longest time for everything, redirects included."""

MAX_REDIRECTS = 5
MAX_URL_CHARS = 2_000
CHUNK_BYTES = 1 << 16
AGENT = "BlockRAG (a visitor asked for this page)"

SUFFIXES = {"text/html": ".html", "application/xhtml+xml": ".html", "text/plain": ".txt", "text/markdown": ".md"}
"""Of media types whose usual suffix differs from machine to machine."""


class FetchError(BlockRAGError):
    """An address cannot be fetched; the message says why."""


@dataclass(frozen=True)
class Fetched:
    """A file from the web: a name with a suffix, the address that was asked for, and the bytes."""

    name: str
    url: str
    data: bytes


def fetch(url: str, max_bytes: int, timeout_s: float = TIMEOUT_S) -> Fetched:
    """Fetch an address, following redirects; each host is checked, and the connection goes to the address checked.

    Raises
    ------
    FetchError
        If it is no http(s) address, leads to a private network, is too large, takes too long or is answered with an
        error.
    """
    until, here = time.monotonic() + timeout_s, _checked(url)
    asked = here
    for _ in range(MAX_REDIRECTS + 1):
        found = _get(here, max_bytes, until)
        if isinstance(found, Fetched):
            return Fetched(found.name, asked, found.data)
        here = _checked(urljoin(here, found))
    raise FetchError(strings.URL_REDIRECTS.format(n=MAX_REDIRECTS))


def _checked(url: str) -> str:
    """Return an address in ASCII, without its fragment. Raises FetchError."""
    url = url.strip()
    if "://" not in url and not url.lower().startswith(("file:", "data:", "javascript:")):
        url = f"https://{url}"
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode("ascii"), parts.port
    except ValueError as error:  # a port that is no number, a host that is no name
        raise FetchError(strings.URL_WRONG) from error
    if parts.scheme not in ("http", "https") or not host or len(url) > MAX_URL_CHARS or parts.username is not None:
        raise FetchError(strings.URL_WRONG)
    place = f"[{host}]" if ":" in host else host
    path, query = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~"), quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    return urlunsplit((parts.scheme, place if port is None else f"{place}:{port}", path, query, ""))


def public_address(host: str, port: int) -> str:
    """Return an address of a host. Raises FetchError if it has none, or one that is not public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(strings.URL_NO_HOST.format(host=host)) from error
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(_is_public(address) for address in addresses):
        raise FetchError(strings.URL_PRIVATE.format(host=host))
    return addresses[0]


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if any(ip in network for network in _SPECIAL):
        return False
    if isinstance(ip, ipaddress.IPv6Address):  # an IPv4 address inside leads to that one
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return ip.is_global and not ip.is_multicast


def _is_own(sock: socket.socket) -> bool:
    """Whether a connection ends on this machine, which may have a public address."""
    return bool(sock.getpeername()[0] == sock.getsockname()[0])


_SPECIAL = tuple(
    map(ipaddress.ip_network, "168.63.129.16/32 192.0.0.0/24 192.88.99.0/24 ::/96 64:ff9b:1::/48 fec0::/10".split())
)
"""Networks that `ipaddress` takes for global, and that lead to a cloud's own services (Azure, Oracle) or inside."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _get(url: str, max_bytes: int, until: float) -> Fetched | str:
    """Return what an address holds, or where it redirects to."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    address = public_address(host, port)
    target = urlunsplit(("", "", parts.path, parts.query, ""))
    try:
        with _connected(parts.scheme, host, port, address, until) as connection:
            headers = {"User-Agent": AGENT, "Accept": "text/html, */*;q=0.5", "Accept-Encoding": "identity"}
            connection.request("GET", target, headers=headers)
            reply = connection.getresponse()
            if reply.status in (301, 302, 303, 307, 308) and (where := reply.headers.get("location")):
                return where
            if reply.status != 200:
                raise FetchError(strings.URL_STATUS.format(status=reply.status, reason=reply.reason))
            data = _read(reply, max_bytes)
        _left(until)  # a connection that was shut down ends like a whole one
    except (OSError, http.client.HTTPException) as error:
        _left(until)
        raise FetchError(strings.URL_FAILED.format(host=host, reason=type(error).__name__)) from error
    return Fetched(_name(url, reply.headers), url, data)


@contextmanager
def _connected(scheme: str, host: str, port: int, address: str, until: float) -> Iterator[http.client.HTTPConnection]:
    """Yield a connection to `address`, not to what the host's name leads to a moment later; it is shut down at `until`,
    since a socket's own timeout begins anew with each byte."""
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection  # for the Host header
    with closing(socket.create_connection((address, port), _left(until))) as plain, closing(kind(host, port)) as made:
        if _is_own(plain):
            raise FetchError(strings.URL_PRIVATE.format(host=host))
        made.sock = plain
        if scheme == "https":
            context = ssl.create_default_context()
            made.sock = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        watch = threading.Timer(_left(until), _shut, [made.sock])
        watch.daemon = True
        watch.start()
        try:
            if isinstance(made.sock, ssl.SSLSocket):
                made.sock.do_handshake()
            yield made
        finally:
            watch.cancel()


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise FetchError(strings.URL_SLOW.format(seconds=TIMEOUT_S))
    return left


def _read(reply: http.client.HTTPResponse, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    n_bytes = 0
    while part := reply.read1(CHUNK_BYTES):
        parts.append(part)
        n_bytes += len(part)
        if n_bytes > max_bytes:
            raise FetchError(strings.URL_TOO_LARGE.format(megabytes=max_bytes >> 20))
    if reply.length:
        raise http.client.IncompleteRead(b"", reply.length)
    return b"".join(parts)


def _name(url: str, headers: Message) -> str:
    """Return a name for what was fetched: the server's, or the last part of the path, with a suffix of its type."""
    kind = headers.get_content_type() if headers.get("content-type") else "text/html"
    parts = urlsplit(url)
    given = headers.get_filename() or unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.hostname or "page"
    name = re.sub(r"[^\w.()+-]+", " ", given.replace("\\", "/").rpartition("/")[2]).strip() or "page"
    suffix = SUFFIXES.get(kind) or guess_extension(kind) or ""
    has_suffix = re.search(r"\.[A-Za-z0-9]{1,6}$", name) and name != parts.hostname
    if not has_suffix or kind in ("text/html", "application/xhtml+xml"):
        name = name.removesuffix(".html").removesuffix(".htm") + suffix
    return name[-180:]
