"""Visitors with an attacker among them: how much longer do they wait than without?

    python app.py --port 7900 --access private --metrics &
    python -m benchmarks.attack --url http://127.0.0.1:7900 --pid PID --visitors 25 --minutes 10 --json FILE

Measures the visitors of `benchmarks.visitors` twice, alone and with an attacker who sends, without pause and each from
its own thread: calls with junk and with large texts whose results nobody fetches, questions of the greatest length, new
visitors, half-open connections, streams that are broken off, and files that are none. Compares the waiting, and memory,
block KV and open files of the application before, during and after.

The attacker has one address, and a process of the lowest priority: what it does itself is not the server's work.
"""

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import random
import re
import secrets
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from benchmarks.common import commit
from benchmarks.visitors import measure, rss_mb

TEXT = "The harbour master's boat is late again. " * 90_000
SETTLE_S, PREPARES_S = 5.0, 300.0
ADDRESS = "203.0.113.9"
"""The attacker's, as a proxy would tell it."""


KINDS = ("junk", "large", "ask", "arrive", "half_open", "break_off", "upload")


class Attacker:
    """Attacks a page until `stop` is set; counts the answers by status."""

    def __init__(self, url: str, stop: Any):
        self._parts, self._stop, self.answers = urlsplit(url), stop, Counter[str]()
        self._sockets: list[socket.socket] = []
        self._token = ""

    def run(self, kinds: Sequence[str]) -> None:
        """Attack in these ways."""
        threads = [threading.Thread(target=self._repeat, args=(getattr(self, kind),)) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def prepare(self) -> None:
        """Make a collection to ask, and see that it answers."""
        self._token = self._call("new_collection", ["attacker"])["collection"]
        self._call("add_text", ["a.txt", TEXT[:20_000], self._token])
        self._call("ask", self._question("boat?", "block", 1, 1))["answer"]

    def _repeat(self, attack: Callable[[], object]) -> None:
        while not self._stop.is_set():
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
        return self.send("/gradio_api/call/ask", {"data": self._question("boat " * 3_500, "full", 32, 512)})[0]

    def _question(self, *begin: Any) -> list[Any]:
        return [*begin, self._token, 0, 1, None, "hybrid", None, 0]

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


def attack(url: str, kinds: Sequence[str], stop: Any, answers: Any) -> None:
    """Prepare, tell it by a queue, attack until `stop` is set, and put the count of the answers into the queue."""
    attacker = Attacker(url, stop)
    attacker.prepare()
    answers.put({})
    os.nice(19)
    attacker.run(kinds)
    answers.put(dict(attacker.answers))


def use_of(url: str, pid: int) -> dict[str, float]:
    """Memory and open files of a process; block KV in memory and questions that wait, if the application tells them."""
    use: dict[str, float] = {
        "memory_mb": round(rss_mb(pid)),
        "open_files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as response:  # noqa: S310
            found = dict(re.findall(r"^(\S+) (\S+)$", response.read().decode(), re.MULTILINE))
    except HTTPError:  # the application was started without --metrics
        return use
    waiting, kv = found["blockrag_questions_waiting"], found.get('blockrag_kv_bytes{tier="memory"}', "0")
    return use | {"questions_waiting": int(float(waiting)), "kv_mb": round(float(kv) / (1 << 20))}


def compare(
    url: str, pid: int, n_visitors: int, minutes: float, pause_s: float, kinds: Sequence[str]
) -> dict[str, Any]:
    """Measure the visitors alone, then with an attacker."""
    before = use_of(url, pid)
    alone = measure(url, n_visitors, 0, minutes, pause_s, pid)
    between = use_of(url, pid)
    context = multiprocessing.get_context("spawn")
    stop, answers = context.Event(), context.Queue()
    attacker = context.Process(target=attack, args=(url, kinds, stop, answers))
    attacker.start()
    answers.get(timeout=PREPARES_S)
    attacked = measure(url, n_visitors, 0, minutes, pause_s, pid)
    during = use_of(url, pid)
    stop.set()
    attacks = answers.get(timeout=120)
    attacker.join()
    time.sleep(SETTLE_S)
    return {
        "alone": alone,
        "attacked": attacked,
        "attacks": attacks,
        **{
            f"times_longer_{name}": attacked[f"{name}_ms"] / alone[f"{name}_ms"]
            for name in ("median", "p95", "slowest_visitor")
        },
        "before": before,
        "between": between,
        "during": during,
        "after": use_of(url, pid),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Attack and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="address of the application")
    parser.add_argument("--pid", type=int, required=True, help="process id of the application")
    parser.add_argument("--visitors", type=int, default=25, help="number of visitors (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each of the two runs (default: %(default)s)")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between questions (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="attacks (default: all)")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    args = parser.parse_args(argv)
    seen = compare(args.url, args.pid, args.visitors, args.minutes, args.pause, args.kinds)
    line = json.dumps({"commit": commit(), **seen})
    if args.json:
        args.json.write_text(line + "\n")
    print(line, flush=True)


if __name__ == "__main__":
    main()
