"""The outermost middleware: refuses a request before anything reads it, and adds security headers to every response."""

import ipaddress
import re
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.bodies import Bodies, BodyError, BodyLimits
from ui.connections import address_group
from ui.logins import ADDRESS, Logins
from ui.monitoring import REFUSALS

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
CHECKS = frozenset({"/health", "/livez", "/readyz", "/metrics"})
"""Routes for whoever watches the server; they answer to any host name."""

VISITOR_COOKIE = "blockrag-visitor"
"""Holds the secret that tells whose collections are whose, where each browser has its own."""

COOKIE_S = 365 * 24 * 3600

READS = frozenset({"GET", "HEAD", "OPTIONS"})
LASTING = ("/assets/", "/static/", "/svelte/")
"""Routes of Gradio's own files, which browsers may cache."""

_UNUSED = "token deep_link dev/ process_recording vibe- undo-vibe- profiling run-history runs"
CLOSED = ("/monitoring", *("/gradio_api/" + name for name in _UNUSED.split()))
"""Routes of Gradio that this page does not use; one tells a login's token to scripts, one writes files."""

MCP = "/gradio_api/mcp"
"""Gradio answers a call of a tool by a request to itself, with the headers of the call."""

SPACE_FRAMES = ("https://huggingface.co", "https://*.huggingface.co")
"""Sites that show a Hugging Face Space in a frame."""

CSP = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors "
)
"""Gradio's page has inline scripts and compiles its templates, so both must be allowed."""


IN_FRAME = "SameSite=None; Secure; Partitioned"
"""Attributes of a cookie that a browser sends although another site shows the page in a frame."""

_FORWARDED = frozenset({b"x-forwarded-for", b"forwarded", b"x-real-ip"})
_RANGE = re.compile(r"bytes=\d{1,15}-\d{0,15}", re.ASCII)
_SECRET = re.compile(r"[\w-]{32,128}", re.ASCII)


class HostRule:
    """Which host names the server answers to.

    Parameters
    ----------
    names : iterable of str
        Besides the loopback names.
    address : str
        The address listened on.
    only_known : bool
        Refuse other names, so that no site can reach the server through a name of its own (DNS rebinding).
    """

    def __init__(self, names: Iterable[str] = (), address: str = "127.0.0.1", *, only_known: bool = True):
        self._known = LOOPBACK | {name.lower() for name in (*names, address)}
        self._any_address = address in ("0.0.0.0", "::")  # noqa: S104  (compared, not bound)
        self._only_known = only_known or bool(tuple(names))

    def allows(self, host: str) -> bool:
        """Return whether the server answers to this ``Host`` header."""
        name = _hostname(host)
        return name in self._known or (not self._only_known or self._any_address and _is_address(name)) and bool(name)


class Guard:
    """ASGI middleware around the page.

    Parameters
    ----------
    app : ASGI application
    hosts : HostRule
    frames : sequence of str
        Sites that may show the page in a frame.
    limits : BodyLimits
    cookie : bool
        Give each browser a secret of its own.
    logins : Logins, optional
        Where there is a login.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: HostRule,
        frames: Iterable[str] = (),
        limits: BodyLimits | None = None,
        *,
        cookie: bool = False,
        logins: Logins | None = None,
    ):
        self._logins = logins
        self._app, self._hosts, self._bodies = app, hosts, Bodies(limits or BodyLimits())
        self._cookie, self._attributes = cookie, IN_FRAME if frames else ""
        self._csp = CSP + (" ".join(frames) or "'none'")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # no page of ours opens one
            await send({"type": "websocket.close", "code": 1008})
        else:
            if scope["path"].startswith(MCP):
                scope = _with_its_address(scope)
            await self._answer(scope, receive, self._with_headers(scope, send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        answer: ASGIApp | None = self._refusal(scope, headers)
        if answer is None and scope["method"] in READS:
            answer = self._app  # reads no body
        if answer is None:
            try:
                return await self._bodies.pass_on(self._app, scope, receive, send, headers.get("content-length"))
            except BodyError as error:
                answer = _refuse(error.status, error.reason)
        return await answer(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        forwarded = headers.get("x-forwarded-host", "").split(",")[0].strip()
        if scope["path"] not in CHECKS and not all(self._hosts.allows(name) for name in (host, forwarded or host)):
            return _refuse(421, "this server does not answer to that host name (see --allowed-host)")
        if scope["method"] not in READS and not _same_origin(headers, {host, forwarded}):
            return _refuse(403, "requests from other sites may not change anything here")
        if "content-length" in headers and "transfer-encoding" in headers:  # proxies disagree about where it ends
            return _refuse(400, "give the length of the body once")
        if not _RANGE.fullmatch(headers.get("range", "bytes=0-")):
            return _refuse(416, "give one range of bytes, such as bytes=0-999")
        if scope["path"].startswith(CLOSED):
            return _refuse(404, "there is no such address")
        if self._logins is not None:
            return self._login_refusal(scope, self._logins)
        return None

    def _login_refusal(self, scope: Scope, logins: Logins) -> PlainTextResponse | None:
        app, cookies = scope["app"], Request(scope).cookies
        names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
        used = {cookies[name] for name in names if name in cookies}
        logins.end_expired(app.tokens, used)
        if scope["method"] in READS:
            return None  # Gradio checks the login, and shows the form
        if scope["path"].rstrip("/") != "/login":
            return None if used & app.tokens.keys() else _refuse(401, "log in first")
        address = scope["client"][0] if scope["client"] else ""
        ADDRESS.set(address_group(address) or address)
        try:
            logins.admit(ADDRESS.get())
        except HTTPException as error:
            return PlainTextResponse(error.detail, error.status_code, error.headers)
        return None

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = self._csp
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "same-origin"
                headers["cross-origin-resource-policy"] = "same-origin"
                if self._cookie and message["status"] == 200 and _is_page(scope):
                    headers.append("set-cookie", _visitor_cookie(scope, self._attributes))
                if not scope["path"].startswith(LASTING):
                    headers["cache-control"] = "no-store"
            await send(message)

        return send_with_headers


def _with_its_address(scope: Scope) -> Scope:
    """Return a request whose headers tell where it comes from, so that a request made from it, which comes from this
    machine and is believed, tells the same."""
    headers = [(name, value) for name, value in scope["headers"] if name not in _FORWARDED]
    address = scope["client"][0] if scope.get("client") else ""
    return {**scope, "headers": [*headers, (b"x-forwarded-for", address.encode("latin-1"))]}


def _refuse(status: int, reason: str) -> PlainTextResponse:
    REFUSALS.labels(f"HTTP {status}").inc()
    return PlainTextResponse(reason, status, {"connection": "close"})


def _is_page(scope: Scope) -> bool:
    kind = Headers(scope=scope).get("sec-fetch-dest", "document")
    return scope["method"] == "GET" and scope["path"] == "/" and kind in ("document", "iframe")


def _visitor_cookie(scope: Scope, attributes: str) -> str:
    """Return the cookie to set: a new secret, or the browser's own for another year."""
    secret = Request(scope).cookies.get(VISITOR_COOKIE, "")
    if not _SECRET.fullmatch(secret):
        secret = secrets.token_urlsafe(32)
    attributes = attributes or ("SameSite=Lax; Secure" if scope["scheme"] == "https" else "SameSite=Lax")
    return f"{VISITOR_COOKIE}={secret}; Path=/; Max-Age={COOKIE_S}; HttpOnly; {attributes}"


def _hostname(host: str) -> str:
    """Return the name in a ``Host`` header, or "" if it holds something else."""
    try:
        parts = urlsplit("//" + host)
        return "" if parts.username is not None or parts.path or parts.query else (parts.hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same_origin(headers: Headers, hosts: set[str]) -> bool:
    """Return whether a browser sent this from the page itself. Programs send no ``Origin``."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    parts = urlsplit(origin)
    default = {"http": ":80", "https": ":443"}.get(parts.scheme)
    return default is not None and parts.netloc.lower().removesuffix(default) in {
        host.lower().removesuffix(default) for host in hosts if host
    }
