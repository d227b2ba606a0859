"""Time and memory of loading by the size of the file: ``python -m benchmarks.loading --json FILE``.

Each row loads a made file of one type and size in a process of its own. `load_s` is the median of the runs, `layout_s`
the time to find where blocks may begin in the text, `peak_mb` the most memory of the process and of the sandbox's, and
`seconds_per_mb` shows whether time grows faster than the file. The default sizes take a minute; ``--sizes`` takes any.
"""

import argparse
import email.message
import json
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from blockrag.documents import Limits, load
from blockrag.segment import find_candidates
from blockrag.segment.layout import read_layout

SIZES = (10_000, 1_000_000)
LARGEST = 50_000_000
SENTENCE = "The warden keeps a list of all vessels that pass under the bridge, and sends it to the town. "
LIMITS = Limits(timeout_s=600, memory_bytes=8 << 30)


def text(n: int) -> bytes:
    """Sentences in lines of seven."""
    return _repeated(SENTENCE * 7 + "\n\n", n)


def markdown(n: int) -> bytes:
    """Sections with a fenced block each."""
    return _repeated(f"## Head\n\n{SENTENCE * 3}\n\n```py\n# no head\nx = 1\n```\n\n", n)


def html(n: int) -> bytes:
    """Sections with lists and tables."""
    row = "<tr><td>Alda</td><td rowspan=1>12</td></tr>"
    part = f"<h2>Head</h2><p>{SENTENCE}</p><ol><li>one<li>two</ol><table>{row * 4}</table><pre>x\n y</pre>"
    return b"<html><body><main>" + _repeated(part, n) + b"</main></body></html>"


def table(n: int) -> bytes:
    """Rows with a cell of several lines."""
    return b"id,port,remark\n" + _repeated(f'7,Alda,"{SENTENCE}\nSecond ""line""."\n', n)


def jsonl(n: int) -> bytes:
    """Objects, one a line."""
    return _repeated(json.dumps({"id": 7, "title": "Port", "note": SENTENCE}) + "\n", n)


def chat(n: int) -> bytes:
    """A list of messages."""
    message = json.dumps({"role": "user", "content": SENTENCE})
    return ("[" + ",".join([message] * max(2, n // len(message))) + "]").encode()


def mail(n: int) -> bytes:
    """One message in base64."""
    made = email.message.EmailMessage()
    made["Subject"] = "Brücke"
    made.set_content(text(n * 3 // 4).decode() + "ü", cte="base64")
    return bytes(made)


def mailbox(n: int) -> bytes:
    """Short messages."""
    return _repeated(f"From a@b Mon Mar  4 10:00:00 2024\nSubject: One\n\n{SENTENCE * 3}\n\n", n)


def notebook(n: int) -> bytes:
    """Cells with code and its output."""
    cell = {"cell_type": "code", "source": [SENTENCE], "outputs": [{"output_type": "stream", "text": [SENTENCE]}]}
    return json.dumps({"cells": [cell] * (n // len(json.dumps(cell)) + 1)}).encode()


def subtitles(n: int) -> bytes:
    """Cues of one line."""
    return _repeated("1\n00:00:03,000 --> 00:00:05,500\n<i>over the flats</i> and the men\n\n", n)


def log(n: int) -> bytes:
    """Stamped lines."""
    return _repeated("2024-03-01T10:00:00.123Z INFO [worker] Request took 7 ms. Retrying soon.\n", n)


def latex(n: int) -> bytes:
    """Sections with a listing each."""
    return _repeated(f"\\section{{Head}}\n{SENTENCE * 3}\n\\begin{{verbatim}}\n# no\n\\end{{verbatim}}\n\n", n)


MAKERS: dict[str, Callable[[int], bytes]] = {
    ".txt": text, ".md": markdown, ".html": html, ".csv": table, ".jsonl": jsonl, ".json": chat, ".eml": mail,
    ".mbox": mailbox, ".ipynb": notebook, ".srt": subtitles, ".log": log, ".tex": latex,
}  # fmt: skip


def measure(suffix: str, n: int, repeats: int) -> dict[str, Any]:
    """One row."""
    data = MAKERS[suffix](n)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        load_s, layout_s, peak_mb = pool.apply(_measured, (data, f"f{suffix}", repeats))
    return {
        "type": suffix,
        "bytes": len(data),
        "load_s": load_s,
        "layout_s": layout_s,
        "peak_mb": peak_mb,
        "seconds_per_mb": (load_s + layout_s) / len(data) * 1e6,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, then one JSON line."""
    from benchmarks.common import commit, print_table  # noqa: PLC0415  (imports torch, which each process would)

    parser = argparse.ArgumentParser(description=__doc__)
    sizes = f"bytes of the files (default: %(default)s; up to {LARGEST:,})"
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help=sizes)
    parser.add_argument("--types", nargs="+", default=list(MAKERS), choices=MAKERS, help="suffixes (default: all)")
    parser.add_argument("--repeats", type=int, default=3, help="runs to take the median of (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    args = parser.parse_args(argv)
    rows = [measure(suffix, n, args.repeats) for suffix in args.types for n in args.sizes]
    print_table(rows)
    result = {"benchmark": "loading", "commit": commit(), "machine": platform.platform(), "rows": rows}
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def _measured(data: bytes, name: str, repeats: int) -> tuple[float, float, float]:
    load_s, layout_s = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        document = load(data, name, LIMITS)
        loaded = time.perf_counter()
        read_layout(document.text, document.media_type).allows(find_candidates(document.text))
        layout_s.append(time.perf_counter() - loaded)
        load_s.append(loaded - started)
    sandbox_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return statistics.median(load_s), statistics.median(layout_s), max(_peak_kb(), sandbox_kb) / 1024


def _peak_kb() -> int:
    """Most memory of this process; what `getrusage` tells includes that of the process that started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])


def _repeated(part: str, n: int) -> bytes:
    return (part * max(1, n // len(part))).encode()


if __name__ == "__main__":
    main()
