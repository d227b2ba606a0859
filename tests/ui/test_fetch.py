"""Pages of the web are fetched from public addresses only, within bounds."""

import http.server
import socket
import threading
import time
from contextlib import suppress

import pytest

from ui import fetch
from ui.fetch import FetchError


class Pages(http.server.BaseHTTPRequestHandler):
    """A few answers, good and bad."""

    def do_GET(self):
        self.server.seen.append((self.path, self.headers["host"]))
        if self.path.startswith("/loop"):
            return self.answer(302, location="/loop")
        if self.path == "/away":
            return self.answer(302, location="http://10.0.0.1/secret")
        if self.path == "/moved":
            return self.answer(301, location="/guide?a=1#part")
        if self.path == "/file":
            return self.answer(302, location="file:///etc/passwd")
        if self.path == "/gone":
            return self.answer(404)
        if self.path == "/large":
            return self.answer(200, b"x" * 5000, **{"content-type": "text/plain"})
        if self.path == "/cut":
            self.send_response(200)
            self.send_header("content-length", "100")
            self.end_headers()
            return self.wfile.write(b"half of it")
        if self.path in ("/slow", "/dripping"):
            if self.path == "/slow":
                self.send_response(200)
                self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):  # the reader leaves
                for _ in range(40):
                    self.wfile.write(b".")
                    self.wfile.flush()
                    time.sleep(0.05)
            return None
        return self.answer(200, b"<html><body>The guide</body></html>", **{"content-type": "text/html; charset=utf-8"})

    def answer(self, status, data=b"", **headers):
        self.send_response(status)
        for name, value in {"content-length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def web(monkeypatch):
    """A server that the names of example.org lead to, as if its address were public."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    real, checked = socket.getaddrinfo, fetch._is_public

    def resolve(host, port, *rest, **options):
        return real("127.0.0.1" if host == "example.org" else host, port, *rest, **options)

    monkeypatch.setattr(fetch.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(fetch, "_is_public", lambda address: address == "127.0.0.1" or checked(address))
    monkeypatch.setattr(fetch, "_is_own", lambda sock: False)
    yield server, f"http://example.org:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_page_is_fetched_over_redirects(web):
    server, url = web
    found = fetch.fetch(f"{url}/moved", 1000)
    assert found == fetch.Fetched("guide.html", f"{url}/moved", b"<html><body>The guide</body></html>")
    assert server.seen == [(path, f"example.org:{server.server_port}") for path in ("/moved", "/guide?a=1")]


@pytest.mark.parametrize(
    "path, reason",
    [
        ("/loop", "redirects more than 5"),
        ("/away", "10.0.0.1 is in a private network"),
        ("/file", "not a web address"),
        ("/gone", "answered 404"),
        ("/large", "larger than"),
        ("/cut", "IncompleteRead"),
    ],
)
def test_what_cannot_be_fetched_says_why(web, path, reason):
    with pytest.raises(FetchError, match=reason):
        fetch.fetch(web[1] + path, 4000)


@pytest.mark.parametrize("path", ["/slow", "/dripping"])  # its body, its headers
def test_a_slow_server_is_left(web, path):
    began = time.monotonic()
    with pytest.raises(FetchError, match="took more than"):
        fetch.fetch(web[1] + path, 4000, timeout_s=0.4)
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize(
    "address", ["168.63.129.16", "192.0.0.192", "192.88.99.1", "::127.0.0.1", "64:ff9b:1::7f00:1", "fec0::1"]
)
def test_services_of_clouds_and_former_private_networks_are_not_public(address):
    assert not fetch._is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:127.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:53aa:64c:0:0:80ff:fffe",
    ],
)  # fmt: skip
def test_no_private_address_is_public(address):
    assert not fetch._is_public(address)


def test_public_addresses_are_public():
    assert all(map(fetch._is_public, ("93.184.215.14", "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8")))


def test_a_public_address_of_this_machine_is_refused(web, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(fetch, "public_address", lambda host, port: "127.0.0.1")
    with pytest.raises(FetchError, match="private network"):
        fetch.fetch(f"http://example.org:{web[0].server_port}/guide", 1000)
    assert not web[0].seen


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]"])
def test_no_name_of_this_machine_is_fetched(host):
    with pytest.raises(FetchError):
        fetch.fetch(f"http://{host}/", 1000)


@pytest.mark.parametrize(
    "url",
    ["", "ftp://example.org", "file:///etc/passwd", "javascript:alert(1)", "http://", "http://a:b@example.org/", "data:,x",
     "http://example.org:port/", "https://" + "a" * 3000, "http://example.org\r\nX: y/"],
)  # fmt: skip
def test_what_is_no_web_address_is_refused(url):
    with pytest.raises(FetchError):
        fetch.fetch(url, 1000)


def test_one_private_address_among_public_ones_is_refused(monkeypatch):
    entries = [(2, 1, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(fetch.socket, "getaddrinfo", lambda *_, **__: entries)
    with pytest.raises(FetchError, match="private network"):
        fetch.public_address("example.org", 80)


@pytest.mark.parametrize(
    "url, kind, name",
    [
        ("https://example.org/a/report.pdf", "application/pdf", "report.pdf"),
        ("https://example.org/", "text/html", "example.org.html"),
        ("https://example.org/wiki/Tide_(sea)", "text/html", "Tide_(sea).html"),
        ("https://example.org/page.html", "text/html", "page.html"),
        ("https://example.org/get", 'application/pdf; x="y"', "get.pdf"),
        ("https://example.org/..%2F..%2Fetc%2Fpasswd", "text/plain", "passwd.txt"),
    ],
)
def test_what_was_fetched_has_a_name(url, kind, name):
    headers = http.client.HTTPMessage()
    headers["content-type"] = kind
    assert fetch._name(url, headers) == name
