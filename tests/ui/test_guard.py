"""The middleware around the page: what it refuses before anything reads it."""

import asyncio
import contextlib
import http.client
import itertools
import json
import random
import socket
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import gradio as gr
import pytest
from gradio.blocks import BlocksConfig
from gradio.components.api_component import Api
from gradio.data_classes import PredictBodyInternal
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from blockrag.admission import FairQueue
from blockrag.errors import ArgumentError, BusyError
from tests.tiny import tiny_engine
from tests.ui.serving import free_port, make_service, serve
from ui import pending
from ui.bodies import ARRIVED_S, MAX_PARTS, PART_BYTES, Arrivals, Bodies, BodyError, BodyLimits, check_json
from ui.connections import Connection, ConnectionTable, limit_connections
from ui.guard import VISITOR_COOKIE, Guard, HostRule
from ui.inputs import checked
from ui.limits import Limits
from ui.logins import ADDRESS, FAILURES_S, IDLE_S, MAX_FAILURES, MAX_SESSIONS, SESSION_S, Logins
from ui.monitoring import REGISTRY
from ui.page import DELETE_CACHE
from ui.server import Server
from ui.session import Session


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A page whose collections everyone shares."""
    folder = tmp_path_factory.mktemp("data")
    url, close = serve(tiny_engine(folder / "kv"), folder, "shared", allowed_hosts=["docs.example"])
    yield url
    close()


def request(url: str, path: str, method: str = "GET", body: bytes | None = None, **headers):
    """Return status, headers and body of one request, `headers` with underscores for hyphens."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost@evil", ""])
def test_a_host_name_of_another_site_reads_nothing(shared, host):
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/queue/data?session_hash=x"):
        status, _, body = request(shared, path, host=host)
        assert status == 421 and b"host name" in body, path
    status, _, _ = request(shared, "/config", x_forwarded_host=host or "evil.example")
    assert status == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7860", "127.0.0.1:9", "[::1]:7860", "docs.example"])
def test_loopback_names_and_allowed_names_are_answered(shared, host):
    assert request(shared, "/config", host=host)[0] == 200


def test_names_are_restricted_where_rebinding_would_reach_collections():
    assert not HostRule().allows("192.168.1.5"), "not the address listened on"
    assert HostRule(address="192.168.1.5").allows("192.168.1.5:7860")
    assert HostRule(address="0.0.0.0").allows("192.168.1.5:7860"), "an address cannot be rebound"
    assert not HostRule(address="0.0.0.0").allows("evil.example")
    assert HostRule(only_known=False).allows("any.example"), "each browser has its own collections"
    assert not HostRule(["docs.example"], only_known=False).allows("any.example")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_another_site_cannot_write(shared, headers):
    for path in ("/gradio_api/call/new_collection", "/gradio_api/upload", "/gradio_api/component_server", "/login"):
        status, _, _ = request(shared, path, "POST", b'{"data": ["x"]}', content_type="application/json", **headers)
        assert status == 403, path


def test_the_page_itself_and_programs_can_write(shared):
    own = {"origin": shared.rstrip("/")}
    for headers in ({}, own, {**own, "sec_fetch_site": "same-origin"}):
        kind = {"content_type": "application/json", **headers}
        status, _, _ = request(shared, "/gradio_api/call/list_documents", "POST", b'{"data": [""]}', **kind)
        assert status == 200
    status, _, _ = request(
        shared, "/gradio_api/call/list_documents", "POST", b'{"data": [""]}', host="docs.example:443",
        origin="https://docs.example", content_type="application/json",
    )  # fmt: skip
    assert status == 200


@pytest.mark.parametrize("path", ["/", "/config", "/health", "/none", "/theme.css"])
def test_every_response_has_security_headers(shared, path):
    _, headers, _ = request(shared, path)
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy and "default-src 'self'" in policy and "object-src 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


# Bodies


JSON = {"content_type": "application/json"}
QUEUE_ROUTES = (
    "queue/join",
    "call/list_documents",
    "call/v2/list_documents",
    "run/predict",
    "component_server",
    "cancel",
)


@pytest.mark.parametrize("route", QUEUE_ROUTES)
@pytest.mark.parametrize(
    "body",
    [b'{"data": [' + b"[]," * 3_000_000 + b"0]}", b"[" * 100_000, b'{"data": [' + b'"",' * 2_000_000 + b'""]}'],
    ids=["values", "nested", "texts"],
)
def test_json_that_takes_seconds_to_read_is_refused_at_once(shared, route, body):
    begin = time.monotonic()
    try:
        status, _, said = request(shared, "/gradio_api/" + route, "POST", body, **JSON)
        assert status == 413 and b"at most" in said
    except OSError:
        pass  # the connection was cut before all was sent
    assert time.monotonic() - begin < 2


def test_text_with_many_commas_and_quotes_passes():
    check_json(json.dumps({"data": ['a "quoted, text" \\ [here], {there}. ' * 100_000]}).encode())
    with pytest.raises(BodyError):
        check_json(json.dumps({"data": list(range(30_000))}).encode())


def test_bytes_are_cut_while_reading(shared):
    def endless():
        while True:
            sent.append(1)
            yield b" " * 65_536

    for path, most in (("/gradio_api/call/ask", 17 << 20), ("/login", 1 << 20), ("/gradio_api/cancel", 1 << 20)):
        sent: list[int] = []
        try:
            status, _, _ = request(shared, path, "POST", endless(), **JSON)
            assert status == 413
        except OSError:
            pass  # the connection was cut
        assert 65_536 * len(sent) < most + (8 << 20), "beyond what the sockets buffer"
    assert request(shared, "/gradio_api/call/ask", "POST", b"", content_length=str(1 << 40))[0] == 413


def test_an_upload_is_cut_at_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("ui.bodies.PART_BYTES", 0)  # the limit is small here
    url, close = serve(tiny_engine(), tmp_path, limits=Limits(upload_bytes=100_000))
    part = b'--x\r\ncontent-disposition: form-data; name="files"; filename="%d.txt"\r\n\r\n' + b"a" * 30_000 + b"\r\n"
    try:
        for n, expected in ((2, 200), (5, 413)):
            parts = [part % i for i in range(n)] + [b"--x--\r\n"]
            kind = {"content_type": "multipart/form-data; boundary=x"}
            assert request(url, "/gradio_api/upload", "POST", b"".join(parts), **kind)[0] == expected
            status, _, _ = request(url, "/gradio_api/upload", "POST", iter(parts), **kind)
            assert status == expected
    finally:
        close()


HEADERS = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")]


def test_files_that_arrive_at_once_are_bounded():
    """The server has each open until its upload is complete; two uploads of a thousand left it none for anything else."""
    bodies, scope = Bodies(BodyLimits()), {"headers": [(b"content-type", b'multipart/form-data; boundary="xyz"')]}
    part = b"--xyz\r\nsome text\r\n"
    with ExitStack() as held:

        def begin(address):
            return held.enter_context(bodies._count_parts(scope, address, lambda n: None))

        first = begin("192.0.2.1")
        first(part * (MAX_PARTS // 2 - 1) + part[:3])
        first(part[3:])  # a boundary in two pieces
        with pytest.raises(BodyError, match="send fewer"):
            begin("192.0.2.1")(part)
        begin("192.0.2.2")(part * (MAX_PARTS // 2 - 2))
        with pytest.raises(BodyError):
            begin("192.0.2.3")(part * 3)
    assert not bodies._parts
    with pytest.raises(BodyError, match="boundary"), bodies._count_parts({"headers": []}, "", print):
        pass


def test_many_small_files_count_as_much_as_a_large_one():
    counted = []
    scope = {"headers": [(b"content-type", b"multipart/form-data; boundary=xyz")]}
    with Bodies(BodyLimits())._count_parts(scope, "", counted.append) as count:
        count(b"--xyz\r\n" * 3)
    assert counted == [21 + 3 * PART_BYTES]


def run_guard(receive, path="/gradio_api/call/ask", limits=None) -> int:
    """Send one request to the middleware alone; return the status."""
    statuses = []

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await PlainTextResponse("ok")(scope, receive, send)

    async def send(message):
        statuses.extend([message["status"]] if message["type"] == "http.response.start" else [])

    scope = {"type": "http", "method": "POST", "path": path, "headers": HEADERS, "query_string": b""}
    with ThreadPoolExecutor(1) as pool:  # the browser of other tests keeps a loop running in this thread
        pool.submit(asyncio.run, Guard(app, HostRule(), limits=limits)(scope, receive, send)).result()
    return statuses[0]


@pytest.mark.parametrize("path", ["/gradio_api/call/ask", "/gradio_api/upload", "/login"])
def test_a_body_that_stops_arriving_times_out(path):
    begun = []

    async def receive():
        if begun:
            await asyncio.sleep(60)
        begun.append(1)
        return {"type": "http.request", "body": b"{", "more_body": True}

    assert run_guard(receive, path, BodyLimits(chunk_s=0.05)) == 408


def test_large_bodies_of_all_visitors_together_are_bounded():
    async def receive():
        return {"type": "http.request", "body": b" " * 1000, "more_body": False}

    assert run_guard(receive, limits=BodyLimits(held_bytes=999)) == 503
    assert run_guard(receive, limits=BodyLimits(held_bytes=1000)) == 200


def test_what_arrives_is_bounded_while_the_server_keeps_it(clock):
    arrivals = Arrivals(1_000, clock)
    count = arrivals.begin("192.0.2.1", 400)
    count(400)
    with pytest.raises(BodyError, match="try again later"):
        arrivals.begin("192.0.2.1", 200)
    with pytest.raises(BodyError):
        count(200)  # more than announced
    arrivals.begin("192.0.2.2", 400)(300)
    with pytest.raises(BodyError):
        arrivals.begin("", 400)
    clock.now += ARRIVED_S + 1
    arrivals.begin("192.0.2.1", 500)(500)
    assert ARRIVED_S > sum(DELETE_CACHE)


def test_a_login_is_checked_before_the_body(tmp_path):
    url, close = serve(tiny_engine(), tmp_path, "login", auth=lambda name, password: password == "pass")
    try:
        for route in (*QUEUE_ROUTES, "upload"):
            kind = {**JSON, "content_length": "1000"}  # none of them sent
            status, _, said = request(url, "/gradio_api/" + route, "POST", b"", **kind)
            assert status == 401 and said == b"log in first", route
    finally:
        close()


def test_a_request_whose_end_is_unclear_is_refused(shared):
    """A proxy that reads the length would take the rest for another visitor's request."""
    both = {"content_length": "6", "transfer_encoding": "chunked"}
    status, headers, _ = request(shared, "/gradio_api/cancel", "POST", iter([b"0\r\n\r\n"]), **both)
    assert status == 400 and headers["connection"] == "close"


@pytest.mark.parametrize("wanted", ["bytes=0-1,2-3", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=" + "0-0," * 2_000])
def test_a_range_that_is_none_is_refused(shared, wanted):
    assert request(shared, "/theme.css", range=wanted)[0] == 416


# Connections


def test_half_open_connections_do_not_stop_the_server(tmp_path, monkeypatch):
    monkeypatch.setattr("ui.server.limit_connections", lambda config: limit_connections(config, ConnectionTable(20)))
    url, close = serve(tiny_engine(), tmp_path)
    parts = urlsplit(url)
    sockets = [socket.create_connection((parts.hostname, parts.port)) for _ in range(100)]
    try:
        for half_open in sockets:
            with contextlib.suppress(OSError):
                half_open.send(b"GET / HTTP/1.1\r\nhost: loc")
        begin = time.monotonic()
        assert request(url, "/health")[0] == 200 and time.monotonic() - begin < 5
        n_open = 0
        for half_open in sockets:
            half_open.settimeout(0.02)
            try:
                n_open += half_open.recv(1) != b""
            except TimeoutError:
                n_open += 1
            except OSError:
                pass
        assert n_open <= 20
    finally:
        for half_open in sockets:
            half_open.close()
        close()


def test_a_header_must_arrive_in_time(tmp_path, monkeypatch):
    table = ConnectionTable(header_s=0.3)
    monkeypatch.setattr("ui.server.limit_connections", lambda config: limit_connections(config, table))
    url, close = serve(tiny_engine(), tmp_path)
    parts = urlsplit(url)
    answered = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    try:
        for first in (b"", answered):
            with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
                if first:
                    connection.send(first)
                    assert b"200" in connection.recv(65_536)
                begin = time.monotonic()
                with contextlib.suppress(OSError):  # reset
                    for byte in itertools.cycle(b"GET / "):
                        connection.send(bytes([byte]))
                        time.sleep(0.02)
                        assert time.monotonic() - begin < 5
    finally:
        close()


class Peer:
    """A connection without a network."""

    def __init__(self):
        self.transport = types.SimpleNamespace(abort=lambda: setattr(self, "closed", True))
        self.closed = False


def test_one_address_does_not_take_the_room_of_others():
    table = ConnectionTable(4, most_per_address=2, proxies=frozenset({"10.0.0.9"}))
    first, second, third, other = (Peer() for _ in range(4))
    assert table.add(first, "10.0.0.1") and table.add(second, "10.0.0.1")
    table.set_waiting(first, False)
    assert table.add(third, "10.0.0.1") and second.closed and not first.closed, "one that answers nothing gives way"
    table.set_waiting(third, False)
    assert not table.add(Peer(), "10.0.0.1"), "all of its connections are answering"
    assert table.add(other, "10.0.0.2") and table.add(Peer(), "10.0.0.9")
    table.set_waiting(other, False)
    assert table.add(Peer(), "10.0.0.9"), "the proxy's own waiting connection gave way"
    table.remove(first)
    assert table.add(Peer(), "10.0.0.1")


def test_a_network_of_ipv6_counts_as_one_address():
    table = ConnectionTable(most_per_address=1)
    first = Peer()
    assert table.add(first, "2001:db8::1") and table.add(Peer(), "2001:db8::2") and first.closed
    assert table.add(Peer(), "2001:db8:0:1::1")


# The visitor's cookie


def cookie_of(headers) -> tuple[str, str]:
    """Return the secret in a response's cookie, and the cookie's attributes."""
    name_value, _, attributes = headers["set-cookie"].partition("; ")
    name, _, secret = name_value.partition("=")
    assert name == VISITOR_COOKIE
    return secret, attributes


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """A page where each browser has its own collections."""
    folder = tmp_path_factory.mktemp("data")
    url, close = serve(tiny_engine(folder / "kv"), folder)
    yield url
    close()


def test_the_page_sets_one_cookie_that_scripts_cannot_read(private, shared):
    secret, attributes = cookie_of(request(private, "/")[1])
    assert (
        len(secret) >= 40 and "HttpOnly" in attributes and "SameSite=Lax" in attributes and "Secure" not in attributes
    )
    again, _ = cookie_of(request(private, "/", cookie=f"{VISITOR_COOKIE}={secret}")[1])
    assert again == secret and cookie_of(request(private, "/")[1])[0] != secret
    for forged in ("x", "a" * 500, "a" * 39 + "%"):
        assert cookie_of(request(private, "/", cookie=f"{VISITOR_COOKIE}={forged}")[1])[0] != forged
    assert "Secure" in cookie_of(request(private, "/", x_forwarded_proto="https")[1])[1]
    for path in ("/config", "/theme.css"):
        assert "set-cookie" not in request(private, path)[1]
    assert "set-cookie" not in request(private, "/", sec_fetch_dest="image")[1]
    assert "set-cookie" not in request(shared, "/")[1], "nobody is told apart"


def test_no_key_stands_in_the_configuration(private):
    config = json.loads(request(private, "/config")[2])
    secrets = [c["props"].get("secret") for c in config["components"] if c["type"] == "browserstate"]
    assert secrets == ["blockrag-collection"], "only the number of the open collection is kept, under a constant key"


def session_of(service) -> Session:
    return Session(service, None, None)


def visit(secret: str) -> types.SimpleNamespace:
    return types.SimpleNamespace(cookies={VISITOR_COOKIE: secret}, username=None)


def test_a_number_opens_only_collections_of_the_cookies_owner(service):
    session, anna, bert = session_of(service), visit("a" * 43), visit("b" * 43)
    for each in (anna, bert):
        service.create(session.owner(each), "Mine")
    annas, berts = session.enter({}, None, anna), session.enter({}, None, bert)
    assert annas != berts and session.enter(annas, None, anna) == annas
    with pytest.raises(gr.Error, match="expired"), session.open(annas, bert):
        pass
    assert session.enter(annas, None, bert) == berts
    for nobody in (visit(""), visit("short"), None):
        with pytest.raises(gr.Error, match="[Cc]ookie|expired"):
            session.enter(annas, None, nobody)
        with pytest.raises(gr.Error, match="expired"), session.open(annas, nobody):
            pass


def test_collections_of_visitors_from_before_the_cookie_are_theirs(service):
    owner = service.owner("f" * 43, None)
    former = {"secret": "f" * 43, "collection": service.create(owner, "My documents").token}
    service.create(owner, "Rivers")
    service.library.store.settings.put(owner, {"k": 5})
    session, anna = session_of(service), visit("a" * 43)
    service.create(session.owner(anna), "My documents")
    own = session.enter({}, None, anna)  # another tab was first
    assert session.enter({}, former, anna) == session.choose(former["collection"], anna)
    mine = service.library.store.collections.of(session.owner(anna))
    assert sorted(record.name for record in mine) == ["My documents", "My documents (2)", "Rivers"]
    with session.open(own, anna) as collection:
        assert collection.settings["k"] == 5
    assert session.enter(own, former, anna) == own, "nothing is left to take over"
    service.access = "login"
    anna.username = "anna"
    session.enter({}, former, anna)  # of a data folder that served browsers before


# Routes and logins


def test_no_route_goes_round_the_queue(shared):
    config = json.loads(request(shared, "/config")[2])
    queued = [dep for dep in config["dependencies"] if dep["queue"] is not False and dep["backend_fn"]]
    assert len(queued) > 50
    for dep in queued:
        body = json.dumps({"data": [], "fn_index": dep["id"]}).encode()
        for name in (dep["api_name"] or "predict", "predict"):
            for route in ("run", "api"):
                status, _, _ = request(shared, f"/gradio_api/{route}/{name}", "POST", body, **JSON)
                assert status == 404, (route, name)


def test_routes_that_the_page_does_not_use_are_closed(shared):
    for path in ("token", "token/", "deep_link", "dev/reload", "vibe-code", "vibe-edit", "process_recording", "runs"):
        for method in ("GET", "POST"):
            assert request(shared, "/gradio_api/" + path, method)[0] == 404, path


def log_in(url: str, name: str, password: str, **headers) -> tuple[int, str]:
    """Return the status and the cookie to send."""
    body = f"username={name}&password={password}".encode()
    kind = {"content_type": "application/x-www-form-urlencoded", **headers}
    status, answered, _ = request(url, "/login", "POST", body, **kind)
    return status, answered.get("set-cookie", "").partition(";")[0]


@pytest.fixture
def users(tmp_path, monkeypatch, clock):
    """A page with a login, which counts the passwords it checks."""
    checked = []
    monkeypatch.setattr("ui.server.Logins", lambda auth: Logins(auth, clock))
    url, close = serve(
        tiny_engine(), tmp_path, "login", auth=lambda name, password: checked.append(name) or password == "pass"
    )
    yield url, checked
    close()


def test_wrong_passwords_are_throttled_by_name_and_by_address(users, clock):
    url, checked = users
    at_home, elsewhere = {"x_forwarded_for": "10.0.0.1"}, {"x_forwarded_for": "10.0.0.2"}
    assert log_in(url, "anna", "pass", **at_home)[0] == 200
    for i in range(MAX_FAILURES):
        assert log_in(url, "anna", "wrong", x_forwarded_for=f"10.1.0.{i}")[0] == 400
    n_checked = len(checked)
    assert log_in(url, "anna", "pass", **elsewhere)[0] == 429 and len(checked) == n_checked, "not even hashed"
    assert log_in(url, "anna", "pass", **at_home)[0] == 200, "she was here before"
    assert log_in(url, "bert", "pass", **elsewhere)[0] == 200
    for i in range(MAX_FAILURES):
        assert log_in(url, f"name{i}", "wrong", **elsewhere)[0] == 400
    assert log_in(url, "bert", "pass", **elsewhere)[0] == 429
    clock.now += FAILURES_S + 1
    assert log_in(url, "anna", "pass", **elsewhere)[0] == 200


def test_passwords_that_are_sent_at_once_are_counted_before_they_are_hashed(clock):
    gate, checked, borrowed = threading.Event(), [], []
    logins = Logins(lambda name, password: checked.append(name) or not gate.wait(10), clock)

    async def attempt():
        with contextlib.suppress(HTTPException):
            await logins.check("anna", "wrong")

    async def attempts():
        ADDRESS.set("10.0.0.1")
        tasks = [asyncio.create_task(attempt()) for _ in range(3 * MAX_FAILURES)]
        await asyncio.sleep(0.05)
        borrowed.append(anyio.to_thread.current_default_thread_limiter().borrowed_tokens)
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(attempts())
    assert len(checked) == MAX_FAILURES
    assert borrowed == [0], "pages and files are served by these threads"


def test_a_network_of_ipv6_is_throttled_as_one_address(users):
    url, _ = users
    for i in range(MAX_FAILURES):
        assert log_in(url, f"name{i}", "wrong", x_forwarded_for=f"2001:db8::{i:x}")[0] == 400
    assert log_in(url, "anna", "pass", x_forwarded_for="2001:db8::ffff")[0] == 429


@pytest.mark.parametrize("step_s, n", [(IDLE_S + 1, 1), (IDLE_S / 2, round(2 * SESSION_S / IDLE_S) + 1)])
def test_sessions_expire(users, clock, step_s, n):
    url, _ = users
    _, cookie = log_in(url, "anna", "pass")
    assert request(url, "/config", cookie=cookie)[0] == 200
    for _ in range(n - 1):
        clock.now += step_s
        assert request(url, "/config", cookie=cookie)[0] == 200
    clock.now += step_s
    assert request(url, "/config", cookie=cookie)[0] == 401
    assert request(url, "/gradio_api/cancel", "POST", b"{}", cookie=cookie, **JSON)[0] == 401


def test_a_user_has_a_bounded_number_of_sessions(users, clock):
    url, _ = users
    cookies = []
    for _ in range(MAX_SESSIONS + 1):
        cookies.append(log_in(url, "anna", "pass")[1])
        clock.now += 1
        request(url, "/config", cookie=cookies[-1])
    assert [request(url, "/config", cookie=cookie)[0] for cookie in cookies] == [401] + [200] * MAX_SESSIONS


# Arguments of the page's own functions


API = {"new_collection", "list_documents", "add_text", "search_blocks", "ask", "delete_document"}
JUNK = (
    None, True, -1, 1e308, float("nan"), 1 << 70, "", "\ud800", "\0", "x" * 5_000, "../../etc", "' OR 1=1 --",
    [], [[]], {}, {"collection": 0}, {"collection": -1}, {"collection": 1 << 70}, {"path": "/etc/passwd"},
    {"collection": {"a": []}}, {str(n): n for n in range(99)},
)  # fmt: skip
"""What no function of the page takes, in most places."""


def said(url: str, fn: int, data: list, event: object, session: str, **headers) -> tuple[int, str]:
    """Call a function of the page as its queue does; return status, and how it ended."""
    body = {"data": data, "event_data": event, "fn_index": fn, "session_hash": session, "trigger_id": 1}
    status, _, answer = request(url, "/gradio_api/queue/join", "POST", json.dumps(body).encode(), **JSON, **headers)
    if status != 200:
        return status, answer.decode()
    stream = request(url, f"/gradio_api/queue/data?session_hash={session}", **headers)[2].decode()
    events = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: ")]
    (ended,) = [event for event in events if event["msg"] == "process_completed"]
    return 200, "" if ended["success"] else str(ended["output"]["error"])


def test_functions_of_the_page_refuse_arguments_that_they_cannot_have_with_a_reason(private, caplog):
    config, chance = json.loads(request(private, "/config")[2]), random.Random(5)
    headers = {"cookie": f"{VISITOR_COOKIE}={'j' * 43}"}
    own = [dep for dep in config["dependencies"] if dep["backend_fn"] and dep["api_name"] not in API]
    assert len(own) > 50
    for dep in own:
        data: list = [chance.choice(JUNK) for _ in dep["inputs"]]
        data[:1] = [{"collection": 0}] * len(data[:1])
        event = {name: chance.choice(JUNK) for name in ("doc", "char", "turn", "value", "by")}
        status, why = said(private, dep["id"], data, chance.choice([None, "x", event]), f"junk-{dep['id']}", **headers)
        assert status == 200 and why != "None", (dep, data, event, why)
    unexpected = [record.getMessage() for record in caplog.records if record.exc_info]
    assert not unexpected, unexpected


FILE = {"meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize(
    "component, value",
    [
        (gr.File(file_count="multiple"), [{"path": "http://127.0.0.1:1/x", **FILE}]),
        (gr.File(file_count="multiple"), [{"path": "/etc/passwd", **FILE}]),
        (gr.File(file_count="multiple"), [{"path": 5}]),
        (gr.UploadButton(), None),
        (Api(None, {}, ""), {"path": "https://evil.example/x", **FILE}),
        (Api(None, {}, ""), [{"path": "https://evil.example/x", **FILE}]),
        (gr.Textbox(), {"path": "https://evil.example/x", **FILE}),
        (gr.Textbox(), "\ud800"),
        (gr.Slider(1, 32), 33),
        (gr.Number(), float("nan")),
        (gr.Radio(["a"]), "b"),
        (gr.Checkbox(), 1),
        (gr.Dropdown(allow_custom_value=True), 5),
        (gr.Dropdown(), "a\0"),
        (gr.BrowserState({}), {"collection": [1]}),
        (gr.BrowserState({}), {str(n): n for n in range(9)}),
        (gr.Button("x"), "x"),
    ],
)
def test_no_component_takes_what_it_cannot_have(component, value):
    """Gradio would fetch an address, or tell why not with null."""
    with pytest.raises(ArgumentError):
        checked(component, value)


def test_the_queue_is_shared_between_addresses_and_forgets_results_that_nobody_fetches(monkeypatch):
    monkeypatch.setattr(pending, "MAX_EVENTS_EACH", 3)
    monkeypatch.setattr(pending, "MAX_UNREAD_EACH", 4)
    with gr.Blocks() as page:
        page.load(lambda: None)
    pending.bound(page)

    def join(session: str, host: str) -> bool:
        sender = types.SimpleNamespace(client=types.SimpleNamespace(host=host), cookies={})
        body = PredictBodyInternal(data=[], fn_index=0, session_hash=session)
        return asyncio.run(page._queue.push(body=body, request=sender, username=None))[0]

    with ThreadPoolExecutor(1) as pool:  # the browser of other tests keeps a loop running in this thread
        taken = [pool.submit(join, f"a{n}", "192.0.2.1").result() for n in range(4)]
        assert taken == [True, True, True, False] and pool.submit(join, "b", "192.0.2.2").result()
        queue = page._queue
        queue.active_jobs = [[event for line in queue.event_queue_per_concurrency_id.values() for event in line.queue]]
        for line in queue.event_queue_per_concurrency_id.values():
            line.queue.clear()
        assert not pool.submit(join, "a9", "192.0.2.1").result(), "what runs counts too"
        queue.active_jobs = []
        for line in queue.event_queue_per_concurrency_id.values():
            line.queue.clear()
        assert [pool.submit(join, "a0", f"192.0.2.{n}").result() for n in range(3, 8)] == [True] * 3 + [False] * 2
    assert sum(map(len, queue.pending_event_ids_session.values())) == 7
    queue.event_ids_to_events.clear()  # all are done
    pending.forget_unread(queue, 3)
    assert list(queue.pending_event_ids_session) == ["a2", "b"] == list(queue.pending_messages_per_session)


def test_sessions_keep_no_values(tmp_path, monkeypatch):
    """A session kept the page and the last value of each component: megabytes, of ten thousand sessions."""
    server = Server(make_service(tiny_engine(), tmp_path), tmp_path)
    server.launch("127.0.0.1", free_port())
    page, sessions = server._page, server._page.app.state_holder
    monkeypatch.setattr(BlocksConfig, "config_for_block", lambda *_: pytest.fail("a session describes the page"))
    (box,) = [block for block in page.blocks.values() if getattr(block, "elem_id", "") == "text"]
    for n in range(pending.MAX_SESSIONS + 9):
        session = sessions[str(n)]
        session._update_value_in_config(box._id, "x" * 1_000)
        assert len(session.config_values) == 0
    assert len(sessions.session_data) <= pending.MAX_SESSIONS + 1
    server.close()


def test_connections_that_are_turned_away_are_counted(monkeypatch):
    before = REGISTRY.get_sample_value("blockrag_refusals_total", {"reason": "connection"}) or 0
    connection = object.__new__(Connection)
    connection._table, connection.client = ConnectionTable(0), ("192.0.2.1", 5)
    monkeypatch.setattr("ui.connections.H11Protocol.connection_made", lambda self, transport: None)
    peer = Peer()
    connection.connection_made(peer.transport)
    assert peer.closed
    assert REGISTRY.get_sample_value("blockrag_refusals_total", {"reason": "connection"}) == before + 1


def test_questions_are_charged_to_the_address_that_sends_them(private, monkeypatch):
    charged = []

    def refuse(_queue, client_id):
        charged.append(client_id)
        raise BusyError("not now")

    token = json.loads(called(private, "new_collection", ["mine"]).rpartition("data: ")[2])[0]["collection"]
    monkeypatch.setattr(FairQueue, "ticket", refuse)
    asked = ["boat?", "block", 4, 8, token, 0, 1, None, "hybrid", None, 0]
    body = json.dumps({"messages": [{"role": "user", "content": "boat?"}], "collection": token}).encode()
    for address in ("203.0.113.9", "2001:db8:0:1::9", ""):
        forwarded = {"x_forwarded_for": address} if address else {}
        assert "not now" in called(private, "ask", asked, **forwarded)
        assert b"not now" in request(private, "/v1/chat/completions", "POST", body, **forwarded)[2]
    assert [each[0] for each in charged[:4]] == ["203.0.113.9"] * 2 + ["2001:db8:0:1::/64"] * 2
    assert {each[1] for each in charged[:4]} == {*charged[4:]}  # this machine may be a proxy: the collection's owner


def called(url: str, name: str, data: list, **headers) -> str:
    """Return what a call of the API answers, as its stream of events."""
    path = f"/gradio_api/call/{name}"
    _, _, said = request(
        url, path, "POST", json.dumps({"data": data}).encode(), content_type="application/json", **headers
    )
    return request(url, f"{path}/{json.loads(said)['event_id']}", **headers)[2].decode()


def test_a_tool_call_tells_its_own_address_and_no_other():
    """Gradio's MCP server passes the headers on in a request of its own, which comes from this machine."""
    seen = []

    async def app(scope, _receive, _send):
        seen.append(dict(scope["headers"]))

    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}

    headers = [(b"host", b"a.example"), (b"x-forwarded-for", b"10.0.0.1"), (b"x-real-ip", b"10.0.0.1")]
    guard = Guard(app, HostRule(only_known=False))
    for path in ("/gradio_api/mcp/", "/gradio_api/queue/join"):
        scope = {"type": "http", "path": path, "method": "POST", "headers": headers, "client": ("203.0.113.9", 5)}
        asyncio.run(guard(scope, receive, None))
    tool, other = seen
    assert tool == {b"host": b"a.example", b"x-forwarded-for": b"203.0.113.9"} and other == dict(headers)


def test_a_login_is_charged_and_not_its_address(service):
    service.access = "login"
    owner = service.owner("", "ann")
    token = service.create(owner, "hers").token
    assert service.open(owner, token, "203.0.113.9").client_id == owner
