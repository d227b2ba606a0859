"""``python -m training.distill shrink``: an adapter as it ships: 8 bits, its rank cut, with what was measured of it."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from blockrag.models.adapter import TENSORS, Change, load_adapter, save_adapter

TOLD = ("data", "mode", "n", "contains", "exact", "f1", "nll", "kl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--adapter", type=Path, required=True, help="folder of an adapter")
    parser.add_argument("--out", type=Path, required=True, help="folder of the one in 8 bits")
    parser.add_argument(
        "--rank", type=int, default=0, help="most that is kept of the student's rank (default: all of it)"
    )
    parser.add_argument("--results", type=Path, nargs="*", default=[], help="JSON of `training.evaluate qa`")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write it; tells its size."""
    adapter = load_adapter(args.adapter)
    if args.rank:
        adapter = replace(adapter, student={name: lower(each, args.rank) for name, each in adapter.student.items()})
    if args.results:
        adapter = replace(adapter, about={**adapter.about, "metrics": metrics(args.results)})
    save_adapter(adapter, args.out, int8=True)
    return {"adapter": str(args.out), "nbytes": (args.out / TENSORS).stat().st_size}


def lower(change: Change, rank: int) -> Change:
    """The nearest change of that rank (Eckart and Young), its singular values shared by both matrices."""
    (left, up), (right, down) = (torch.linalg.qr(t.float()) for t in (change.up, change.down.T))
    u, values, v = torch.linalg.svd(up @ down.T)
    roots = values[:rank].sqrt()
    return Change(left @ (u[:, :rank] * roots), (roots[:, None] * v[:rank]) @ right.T)


def metrics(results: Sequence[Path]) -> list[dict[str, Any]]:
    """Scores of each file and mode, without intervals, and of which split."""
    told = []
    for result in map(json.loads, (path.read_text() for path in results)):
        told += [{"split": result["split"], **{name: row[name] for name in TOLD}} for row in result["rows"]]
    return told
