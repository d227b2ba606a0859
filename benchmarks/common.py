"""Shared by all benchmarks: flags, random blocks, table, JSON."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import Machine, measure_machine
from benchmarks.shapes import SHAPES, Subject, open_subject
from blockrag.attention.encode import encode_blocks
from blockrag.kv.block_kv import BlockKV

BLOCK_TOKENS = 512
QUESTION_TOKENS = 50


Measure = Callable[[Subject, Machine, Sequence[int], int], list[dict[str, Any]]]
"""(subject, machine, lengths, repeats) -> rows."""


def parse(description: str, lengths: Sequence[int], argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the flags of a benchmark."""
    parser = argparse.ArgumentParser(description=description)
    shapes = f"name or folder of a model, or a shape with random weights: {', '.join(SHAPES)}"
    parser.add_argument("--model", default="smollm2", help=shapes)
    tokens = "context lengths in tokens (default: %(default)s)"
    parser.add_argument("--lengths", type=int, nargs="+", default=list(lengths), help=tokens)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, help="runs to take the median of (default: 20 on a GPU, 7 on a CPU)")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    args = parser.parse_args(argv)
    args.repeats = args.repeats or (7 if args.device == "cpu" else 20)
    return args


def run(
    description: str,
    lengths: Sequence[int],
    measure: Measure,
    argv: Sequence[str] | None,
    most_repeats: int = sys.maxsize,
) -> None:
    """Parse the flags, measure the machine, then the model, and report. At most `most_repeats` runs."""
    args = parse(description, lengths, argv)
    subject, machine = prepare(args)
    finish(args, subject, machine, measure(subject, machine, args.lengths, min(args.repeats, most_repeats)))


def prepare(args: argparse.Namespace) -> tuple[Subject, Machine]:
    """Measure the machine, then load the model."""
    device = torch.device(args.device)
    machine = measure_machine(device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    return open_subject(args.model, device), machine


def random_ids(subject: Subject, n: int, seed: int = 0) -> list[int]:
    """Token ids, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, subject.model.network.config.vocab_size, (n,), generator=generator).tolist()


def cut(ids: Sequence[int], size: int = BLOCK_TOKENS) -> list[Sequence[int]]:
    """Blocks of `size` tokens; the last may be shorter."""
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def encode_all(subject: Subject, blocks: Sequence[Sequence[int]]) -> list[BlockKV]:
    """KV of the blocks, in order."""
    return [e.kv for e in sorted(encode_blocks(subject.model, blocks), key=lambda e: e.number)]


def finish(args: argparse.Namespace, subject: Subject, machine: Machine, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Print the table and, as the last line, JSON; write it to ``--json`` too."""
    result = {
        "machine": machine.to_dict(),
        "model": subject.name,
        "random_weights": subject.random_weights,
        "device": args.device,
        "dtype": str(subject.model.dtype).removeprefix("torch."),
        "commit": commit(),
        "rows": rows,
    }
    weights = "random weights" if subject.random_weights else "its weights"
    print(f"{subject.name} ({weights}, {result['dtype']}) on {machine.device}")
    print(f"copies at {machine.copy_gb_per_s:.0f} GB/s, multiplies at {machine.matmul_tflop_per_s:.2f} TFLOP/s\n")
    print_table(rows)
    line = json.dumps(result)
    if args.json:
        args.json.write_text(line + "\n")
    print(line, flush=True)
    return result


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows with aligned columns."""
    texts = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(text[i]) for text in texts) for i in range(len(texts[0]))]
    for text in texts:
        print("  ".join(cell.rjust(width) for cell, width in zip(text, widths, strict=True)))
    print()


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
    return str(value)


def commit() -> str:
    """Commit of the checkout, with ``-dirty`` if files differ; ``$BLOCKRAG_COMMIT`` if that is set."""
    if "BLOCKRAG_COMMIT" in os.environ:
        return os.environ["BLOCKRAG_COMMIT"]
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
