"""The middleware around the page: what it refuses before anything reads it."""

import http.client
from urllib.parse import urlsplit

import pytest

from tests.tiny import tiny_engine
from tests.ui.serving import serve
from ui.guard import HostRule


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
