"""Convert adapters: to 8 bits as they ship (``shrink``), and from PEFT's format (``import``)."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from blockrag.models.adapter import TENSORS, Adapter, Change, load_adapter, save_adapter
from blockrag.models.peft_format import import_peft
from blockrag.models.store import base_id

METRICS = ("data", "mode", "n", "contains", "exact", "f1", "nll", "kl")


def add_shrink_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``shrink``."""
    parser.add_argument("--adapter", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--rank", type=int, default=0, help="maximum rank of the student (default: keep the rank)")
    parser.add_argument("--results", type=Path, nargs="*", default=[], help="JSON files from `training.evaluate qa`")


def run_shrink(args: argparse.Namespace) -> dict[str, Any]:
    """Write the adapter in 8 bits, at a lower rank and with metrics if asked; return its size."""
    adapter = load_adapter(args.adapter)
    if args.rank:
        adapter = replace(
            adapter, student={name: truncate_rank(each, args.rank) for name, each in adapter.student.items()}
        )
    if args.results:
        adapter = replace(adapter, about={**adapter.about, "metrics": metrics(args.results)})
    save_adapter(adapter, args.out, int8=True)
    return {"adapter": str(args.out), "nbytes": (args.out / TENSORS).stat().st_size}


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``import``."""
    parser.add_argument("--peft", type=Path, required=True, help="folder of a LoRA in PEFT's format")
    parser.add_argument("--model", required=True, help="base model: catalog name, hub name or folder")
    parser.add_argument("--out", type=Path, required=True, help="output folder of the adapter")
    parser.add_argument(
        "--role",
        default="teacher",
        choices=("teacher", "student"),
        help="teacher: the change holds in both modes, as for a fine-tuned model that block mode is yet to be trained "
        "on; student: in block mode alone (default: %(default)s)",
    )
    parser.add_argument(
        "--prefix-visible",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="blocks attend to the prompt's prefix (default: %(default)s)",
    )


def run_import(args: argparse.Namespace) -> dict[str, Any]:
    """Write an adapter with the changes of a PEFT LoRA."""
    changes, about = import_peft(args.peft), {"peft": args.peft.name}
    teacher, student = (changes, {}) if args.role == "teacher" else ({}, changes)
    base, visible = base_id(args.model), args.prefix_visible
    save_adapter(Adapter(str(args.model), base, teacher, student, prefix_visible=visible, about=about), args.out)
    return {"adapter": str(args.out), "layers": len(changes)}


def truncate_rank(change: Change, rank: int) -> Change:
    """Best approximation at a lower rank (Eckart-Young); both matrices take the root of the singular values."""
    (left, up), (right, down) = (torch.linalg.qr(t.float()) for t in (change.up, change.down.T))
    u, values, v = torch.linalg.svd(up @ down.T)
    roots = values[:rank].sqrt()
    return Change(left @ (u[:, :rank] * roots), (roots[:, None] * v[:rank]) @ right.T)


def metrics(results: Sequence[Path]) -> list[dict[str, Any]]:
    """Split and mean scores of each file and mode, without intervals."""
    rows = []
    for result in map(json.loads, (path.read_text() for path in results)):
        rows += [{"split": result["split"], **{name: row[name] for name in METRICS}} for row in result["rows"]]
    return rows
