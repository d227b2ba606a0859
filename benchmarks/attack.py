"""Visitors with an attacker among them: how much longer do they wait than without?

    python app.py --port 7900 --access private &
    python -m benchmarks.attack --url http://127.0.0.1:7900 --pid PID --visitors 25 --minutes 10 --json FILE

Measures the visitors of `benchmarks.visitors` twice, alone and with an attacker who sends, without pause and each from
its own thread: calls with junk and with large texts whose results nobody fetches, questions of the greatest length, new
visitors, half-open connections, streams that are broken off, and files that are none. Compares the waiting, and memory
and open files of the application before, during and after.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.common import commit
from benchmarks.visitors import measure, rss_mb

TEXT = "The harbour master's boat is late again. " * 90_000
SETTLE_S = 5.0
ADDRESS = "203.0.113.9"
"""The attacker's, as a proxy would tell it."""


class Attacker:
    """Attacks a page until `stop` is set; counts the answers by status."""

    def __init__(self, url: str):
        self._parts, self.stop, self.answers = urlsplit(url), threading.Event(), Counter[str]()
        self._sockets: list[socket.socket] = []
        self._token = ""

    def run(self) -> list[threading.Thread]:
        """Start all attacks."""
        kinds = (self.junk, self.large, self.ask, self.arrive, self.half_open, self.break_off, self.upload)
        threads = [threading.Thread(target=self._repeat, args=(kind,)) for kind in kinds]
        for thread in threads:
            thread.start()
        return threads

    def _repeat(self, attack: Callable[[], object]) -> None:
        while not self.stop.is_set():
            try:
                self.answers[f"{attack.__name__} {attack()}"] += 1
            except (OSError, http.client.HTTPException) as error:
                self.answers[f"{attack.__name__} {type(error).__name__}"] += 1
        for each in self._sockets:
            each.close()

    def send(self, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Send one request, as JSON unless the body is bytes."""
        connection = http.client.HTTPConnection(self._parts.hostname or "", self._parts.port, timeout=30)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        names = {"content-type": "application/json", "x-forwarded-for": ADDRESS} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        with contextlib.closing(connection):
            connection.request("GET" if body is None else "POST", path, data, names)
            response = connection.getresponse()
            return response.status, response.read()

    def join(self, fn: int, data: list[Any]) -> int:
        """Call a function of the page in a session of its own, and never fetch what it returns."""
        body = {"data": data, "fn_index": fn, "session_hash": secrets.token_hex(6), "event_data": {"turn": {}}}
        return self.send("/gradio_api/queue/join", body)[0]

    def junk(self) -> int:
        """Any function, any arguments."""
        return self.join(random.randrange(90), [random.choice([None, "x", -1, [], {"collection": 0}])] * 9)

    def large(self) -> int:
        """Millions of characters."""
        return self.join(random.randrange(90), [{"collection": 0}, "a", TEXT])

    def ask(self) -> int:
        """The longest question, of a collection of its own."""
        if not self._token:
            self._token = self._call("new_collection", ["attacker"])["collection"]
            self._call("add_text", ["a.txt", TEXT[:20_000], self._token])
        return self.send("/gradio_api/call/ask", {"data": ["boat " * 3_500, "full", 32, 512, self._token]})[0]

    def _call(self, name: str, data: list[Any]) -> Any:
        event = json.loads(self.send(f"/gradio_api/call/{name}", {"data": data})[1])["event_id"]
        said = self.send(f"/gradio_api/call/{name}/{event}")[1].decode()
        return json.loads(said.rpartition("data: ")[2])[0]

    def arrive(self) -> int:
        """A new visitor, who makes a collection."""
        self.send("/")
        return self.send("/gradio_api/call/new_collection", {"data": [secrets.token_hex(4)]})[0]

    def half_open(self) -> int:
        """A connection that says half a header."""
        half = socket.create_connection((self._parts.hostname, self._parts.port), timeout=10)
        half.send(b"GET / HTTP/1.1\r\nhost: lo")
        self._sockets = [*self._sockets[-300:], half]
        time.sleep(0.01)
        return 0

    def break_off(self) -> int:
        """A stream of an answer, left at once."""
        body = json.dumps({"messages": [{"role": "user", "content": "boat?"}], "stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {self._token}\r\n"
        head += f"x-forwarded-for: {ADDRESS}\r\n"
        with socket.create_connection((self._parts.hostname, self._parts.port), timeout=10) as connection:
            connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            time.sleep(random.random() / 5)
        return 0

    def upload(self) -> int:
        """A file that is none."""
        part = b'--x\r\ncontent-disposition: form-data; name="files"; filename="a.pdf"\r\n\r\n' + os.urandom(100_000)
        return self.send("/gradio_api/upload", part + b"\r\n--x--\r\n", content_type="multipart/form-data; boundary=x")[
            0
        ]


def use_of(pid: int) -> dict[str, float]:
    """Memory and open files of a process."""
    return {"memory_mb": round(rss_mb(pid)), "open_files": len(list(Path(f"/proc/{pid}/fd").iterdir()))}


def compare(url: str, pid: int, n_visitors: int, minutes: float, pause_s: float) -> dict[str, Any]:
    """Measure the visitors alone, then with an attacker."""
    before = use_of(pid)
    alone = measure(url, n_visitors, 0, minutes, pause_s, pid)
    middle = use_of(pid)
    attacker = Attacker(url)
    threads = attacker.run()
    attacked = measure(url, n_visitors, 0, minutes, pause_s, pid)
    attacker.stop.set()
    for thread in threads:
        thread.join()
    time.sleep(SETTLE_S)
    return {
        "alone": alone,
        "attacked": attacked,
        "attacks": dict(attacker.answers),
        "times_longer_median": attacked["median_ms"] / alone["median_ms"],
        "times_longer_p95": attacked["p95_ms"] / alone["p95_ms"],
        "before": before,
        "between": middle,
        "after": use_of(pid),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Attack and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="address of the application")
    parser.add_argument("--pid", type=int, required=True, help="process id of the application")
    parser.add_argument("--visitors", type=int, default=25, help="number of visitors (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each of the two runs (default: %(default)s)")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between questions (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    args = parser.parse_args(argv)
    seen = compare(args.url, args.pid, args.visitors, args.minutes, args.pause)
    line = json.dumps({"commit": commit(), **seen})
    if args.json:
        args.json.write_text(line + "\n")
    print(line, flush=True)


if __name__ == "__main__":
    main()
