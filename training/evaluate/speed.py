"""Time segmenters with their defaults on one text, alternately in one run; ratios are to the first segmenter.

The text consists of equal parts of the first document of every source, or of given files.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from training.cli import commit
from training.corpus import first_of_each, read_rows
from training.evaluate.segmenters import Splitter, make_splitters

WARM_UP = "A text of its own, so that nothing of the one that counts is remembered.\n\n" * 40


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``speed``."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", nargs="+", help="files of documents (schema: training/corpus.py)")
    source.add_argument("--text", nargs="+", type=Path, help="text files, concatenated")
    parser.add_argument("--split", default="dev", help="split of --data (default: dev)")
    parser.add_argument("--characters", type=int, default=130_000, help="length of the text (default: %(default)s)")
    parser.add_argument("--segmenters", default="neural,llamaindex", help="comma-separated names")
    parser.add_argument("--neural", type=Path, help="folder of the learned segmenter")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each; the median is reported (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="device of encoders and the learned segmenter")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Time the segmenters; return ``rows`` by segmenter and ``ratio``, their times relative to the first."""
    text, names = read_text(args), args.segmenters.split(",")
    splitters = make_splitters(names, args.neural, args.device)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    n_boundaries = {}
    for turn in tqdm(range(args.repeats), desc="turns", file=sys.stderr):
        for name in names if turn % 2 == 0 else names[::-1]:
            taken, n_boundaries[name] = measure(splitters[name], text)
            seconds[name].append(taken)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    rows = [
        {"segmenter": name, "seconds": medians[name], "all": seconds[name], "n_boundaries": n_boundaries[name]}
        for name in names
    ]
    ratio = {name: medians[name] / medians[names[0]] for name in names[1:]}
    about = {"characters": len(text), "machine": machine(), "device": args.device, "commit": commit()}
    return {"rows": rows, "ratio": ratio, **about}


def measure(splitter: Splitter, text: str) -> tuple[float, int]:
    """Seconds of one run after a warm-up on another text, and the number of boundaries."""
    splitter.default(WARM_UP)
    start = time.perf_counter()
    found = splitter.default(text)
    return time.perf_counter() - start, len(found)


def read_text(args: argparse.Namespace) -> str:
    """The text to segment.

    Raises
    ------
    ValueError
        If the files have less text than --characters.
    """
    if args.text:
        parts = [path.read_text(encoding="utf-8") for path in args.text]
    else:
        rows = (row for row in read_rows(args.data) if row["split"] == args.split)
        documents = [row["text"] for row in first_of_each(rows, 1, "dataset")]
        parts = [document[: -(-args.characters // len(documents))] for document in documents]
    text = "\n\n".join(parts)
    if len(text) < args.characters:
        raise ValueError(
            f"These files have {len(text)} characters, not {args.characters}: add files or lower --characters."
        )
    return text[: args.characters]


def table(result: dict[str, Any]) -> str:
    """The times as a Markdown table."""
    lines = ["| segmenter | seconds | ratio | boundaries |", "|---" * 4 + "|"]
    for row in result["rows"]:
        ratio = result["ratio"].get(row["segmenter"], 1.0)
        lines.append(f"| {row['segmenter']} | {row['seconds']:.2f} | {ratio:.2f} | {row['n_boundaries']} |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Processor, cores and torch."""
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    names: Sequence[str] = []
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
