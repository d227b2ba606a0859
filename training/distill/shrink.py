"""``python -m training.distill shrink``: an adapter in 8 bits, with what was measured of it, as it is shipped."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from blockrag.models.adapter import TENSORS, load_adapter, save_adapter

TOLD = ("data", "mode", "n", "contains", "exact", "f1", "nll", "kl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--adapter", type=Path, required=True, help="folder of an adapter")
    parser.add_argument("--out", type=Path, required=True, help="folder of the one in 8 bits")
    parser.add_argument("--results", type=Path, nargs="*", default=[], help="JSON of `training.evaluate qa`")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write it; tells its size."""
    adapter = load_adapter(args.adapter)
    if args.results:
        adapter = replace(adapter, about={**adapter.about, "metrics": metrics(args.results)})
    save_adapter(adapter, args.out, int8=True)
    return {"adapter": str(args.out), "nbytes": (args.out / TENSORS).stat().st_size}


def metrics(results: Sequence[Path]) -> list[dict[str, Any]]:
    """Scores of each file and mode, without intervals, and of which split."""
    told = []
    for result in map(json.loads, (path.read_text() for path in results)):
        told += [{"split": result["split"], **{name: row[name] for name in TOLD}} for row in result["rows"]]
    return told
