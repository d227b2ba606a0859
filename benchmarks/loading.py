"""Time and memory of loading by the size of the file: ``python -m benchmarks.loading --json FILE``.

Each row loads a made file of one type and size in a process of its own. `load_s` is the median of the runs, `layout_s`
the time to find where blocks may begin in the text, `peak_mb` the most memory of the process and of the sandbox's, and
`seconds_per_mb` shows whether time grows faster than the file. The default sizes take a minute; ``--sizes`` takes any.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.loading_files import MAKERS
from blockrag.documents import Limits, load
from blockrag.segment import find_candidates
from blockrag.segment.layout import read_layout

SIZES = (10_000, 100_000, 1_000_000)
LARGEST, LARGEST_REPEATED = 50_000_000, 1_000_000
LIMITS = Limits(timeout_s=3600, memory_bytes=16 << 30, max_pages=1 << 20, max_expanded_bytes=1 << 30)


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
    rows = [
        measure(suffix, n, args.repeats if n <= LARGEST_REPEATED else 1) for suffix in args.types for n in args.sizes
    ]
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


if __name__ == "__main__":
    main()
