"""Load test: many concurrent clients over HTTP, some of them uploading, against a running application.

    python app.py --port 7900 --access private &
    python -m benchmarks.visitors --url http://127.0.0.1:7900 --visitors 25 --uploaders 2 --minutes 30 --json FILE

Each visitor creates a collection, whose token only it knows, with a unique word, asks for that word repeatedly,
pausing between questions, and must never see another visitor's word. Measures errors, words of others, answer times,
the median of the slowest visitor, fairness (the fewest answers of a visitor over the most), and with --pid the
application's memory.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradio_client import Client

from benchmarks.common import commit

SAMPLE_S = 5.0

PATIENCE_S = 300.0
"""Timeout of a request."""


@dataclass
class Visitor:
    """One client and what it received."""

    number: int
    url: str
    uploads: bool
    pause_s: float
    token: str = ""
    times_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    @property
    def word(self) -> str:
        """The unique word in this visitor's documents."""
        return f"zyx{self.number}qua"

    def run(self, until_s: float) -> None:
        """Ask, and add documents if this visitor uploads, until `until_s`."""
        try:
            client = Client(self.url, verbose=False, httpx_kwargs={"timeout": PATIENCE_S})
            self.token = client.predict(f"Visitor {self.number}", api_name="/new_collection")["collection"]
            self._add(client, 0)
            turn = 0
            while turn == 0 or time.monotonic() < until_s:
                turn += 1
                if self.uploads:
                    self._add(client, turn % 10)
                self._ask(client)
                time.sleep(self.pause_s)
        except Exception as error:  # noqa: BLE001  (any failure of a client is a result)
            self.errors.append(f"{type(error).__name__}: {error}")

    def _add(self, client: Client, turn: int) -> None:
        text = " ".join(f"The word of visitor {self.number} is {self.word} in part {turn} line {i}." for i in range(60))
        client.predict(f"notes-{turn}.txt", text, self.token, api_name="/add_text")

    def _ask(self, client: Client) -> None:
        began = time.monotonic()
        answer = client.predict("What is the word?", "block", 4, 8, self.token, api_name="/ask")
        self.times_ms.append(1000 * (time.monotonic() - began))
        texts = " ".join(source["text"] for source in answer["sources"])
        if self.word not in texts:
            self.errors.append("its own word is not among the sources")
        self.leaks += [word for word in texts.split() if word.startswith("zyx") and not word.startswith(self.word)]


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} reports no memory; give the process id of the application")


def watch(pid: int, until_s: float, samples: list[tuple[float, float]]) -> None:
    """Sample a process's memory until `until_s`."""
    began = time.monotonic()
    while time.monotonic() < until_s:
        samples.append((time.monotonic() - began, rss_mb(pid)))
        time.sleep(SAMPLE_S)


def measure(
    url: str, n_visitors: int, n_uploaders: int, minutes: float, pause_s: float = 2.0, pid: int | None = None
) -> dict[str, Any]:
    """Run all visitors concurrently and summarise what they received."""
    until = time.monotonic() + 60 * minutes
    visitors = [Visitor(n, url, n < n_uploaders, pause_s) for n in range(n_visitors)]
    memory: list[tuple[float, float]] = []
    threads = [threading.Thread(target=visitor.run, args=(until,)) for visitor in visitors]
    if pid is not None:
        threads.append(threading.Thread(target=watch, args=(pid, until, memory)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = sorted(ms for visitor in visitors for ms in visitor.times_ms)
    counts = [len(v.times_ms) for v in visitors if not v.uploads]
    most = max(counts, default=0)
    return {
        "visitors": len(visitors),
        "uploaders": n_uploaders,
        "minutes": minutes,
        "answers": len(times),
        "errors": [error for visitor in visitors for error in visitor.errors],
        "leaks": [leak for visitor in visitors for leak in visitor.leaks],
        "median_ms": statistics.median(times) if times else None,
        "p95_ms": times[int(0.95 * len(times))] if times else None,
        "slowest_visitor_ms": max((statistics.median(v.times_ms) for v in visitors if v.times_ms), default=None),
        "fewest_of_most_answers": min(counts) / most if most else None,
        "memory_mb": [[round(at), round(mb)] for at, mb in memory],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the clients and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="address of the application")
    parser.add_argument("--visitors", type=int, default=25, help="number of visitors (default: %(default)s)")
    parser.add_argument("--uploaders", type=int, default=2, help="visitors who also upload (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=30.0, help="duration (default: %(default)s)")
    parser.add_argument("--pid", type=int, help="process id of the application, to sample its memory")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between questions (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    args = parser.parse_args(argv)
    seen = measure(args.url, args.visitors, args.uploaders, args.minutes, args.pause, args.pid)
    line = json.dumps({"commit": commit(), **seen})
    if args.json:
        args.json.write_text(line + "\n")
    print(line, flush=True)


if __name__ == "__main__":
    main()
