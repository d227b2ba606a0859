"""``python -m training.distill adapt``: an adapter for one's own model from one's own documents, in one command.

The model asks and answers questions about the documents (`selfmade`). It learns to answer alike in block mode, with
itself in full mode as the teacher (`student`), and is measured on documents that it did not learn from. The adapter's
folder gets a model card. Full mode stays the model as it is.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from blockrag.documents import load
from blockrag.errors import DocumentError
from training.distill import prepare, selfmade, shrink, stages

SHARE_MADE = 0.3
"""Of the time, for making conversations; nearly all the rest is training."""

LEAST_CHARS = 2000
"""Shorter documents are left out: there is too little to ask about."""


CARD = """---
base_model: {model}
library_name: blockrag
tags: [block-attention, lora]
---

# Block adapter for {model}

With it the model answers from blocks whose keys and values were computed one by one. Full mode is the model as it is.

| divergence from full mode, nats a token, on documents that it did not learn from | answers | questions |
|---|---|---|
| without the adapter | {naive_answer:.3f} | {naive_question:.3f} |
| with it | {block_answer:.3f} | {block_question:.3f} |

On answers, {left:.0f} % of the divergence is left. Made by `python -m training.distill adapt` in {minutes:.1f} minutes
({steps} steps) from the model's own questions and answers about a folder of documents; `adapter.json` has the settings.

    python -m blockrag ask QUESTION --store STORE --model {model} --adapter FOLDER
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--model", required=True, help="catalog name, hub name, GGUF file or folder")
    parser.add_argument("--documents", type=Path, required=True, help="folder of files of any kind that is read")
    parser.add_argument("--out", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--minutes", type=float, default=30.0, help="about how long it may take (default: %(default)s)")
    parser.add_argument("--conversations", type=int, default=4000, help="most that are made (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=3584, help="most tokens of a conversation's blocks")
    parser.add_argument("--examples", type=int, default=8, help="conversations in a step (default: %(default)s)")
    parser.add_argument("--pack-tokens", type=int, default=24576, help="lower it where the memory does not suffice")
    parser.add_argument("--checkpointing", type=float, default=0.0, help="share of the layers computed twice")
    parser.add_argument("--rank", type=int, default=32, help="of the adapter (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=1e-4, help="highest learning rate (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that cut documents (default: %(default)s)")
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU where there is one)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Make the adapter; the result says how far block mode is from full mode.

    Raises
    ------
    ValueError
        If the folder holds no two documents that are long enough to learn from.
    """
    since, work = time.perf_counter(), args.out / "work"
    work.mkdir(parents=True, exist_ok=True)
    left_out = write_rows(args.documents, work / "documents.jsonl")
    examples = {split: _make(args, work, split) for split in ("train", "dev")}
    minutes = max(args.minutes - (time.perf_counter() - since) / 60, 0.05)
    common = ["--model", args.model, *_device(args)]
    student = ["--data", str(examples["train"]), "--held-out", str(examples["dev"]), "--out", str(work / "student")]
    sizes = ["--examples", args.examples, "--pack-tokens", args.pack_tokens, "--checkpointing", args.checkpointing]
    learning = ["--rank", args.rank, "--alpha", args.rank, "--lr", args.lr, "--hidden-weight", "1"]
    schedule = ["--steps", "100000", "--minutes", minutes]
    flags = [*common, *student, *sizes, *learning, *schedule]
    made = _call(stages, flags, stages.add_student_arguments, stages.run_student)
    _call(shrink, ["--adapter", str(work / "student"), "--out", str(args.out)])
    seconds = time.perf_counter() - since
    result = {"adapter": str(args.out), "left_out": left_out, "held_out": made["held_out"], "steps": made["step"]}
    (args.out / "README.md").write_text(card(args, result, seconds), encoding="utf-8")
    return {**result, "seconds": seconds}


def write_rows(folder: Path, target: Path) -> list[str]:
    """Write the folder's documents as rows, one in eight of them to measure on; returns what was left out, and why."""
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        try:
            text = load(path).text
        except DocumentError as error:
            left_out.append(f"{name}: {error}")
            continue
        if len(text) < LEAST_CHARS:
            left_out.append(f"{name}: it has {len(text)} characters; at least {LEAST_CHARS} are needed")
            continue
        rows.append({"id": name, "category": "own", "source": name, "licence": "", "text": text, "headings": []})
    if len(rows) < 2:
        reasons = "; ".join(left_out)
        raise ValueError(f"{folder} holds {len(rows)} documents to learn from; at least 2 are needed. {reasons}")
    rows.sort(key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    n_dev = max(1, len(rows) // 8)
    with target.open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows):
            split = "dev" if number < n_dev else "train"
            file.write(json.dumps({**row, "split": split, "boundaries": [{"char": 0, "level": 1}]}) + "\n")
    return left_out


def _make(args: argparse.Namespace, work: Path, split: str) -> Path:
    """Conversations about the documents of a split, as examples."""
    n = args.conversations if split == "train" else max(8, args.conversations // 40)
    minutes = args.minutes * SHARE_MADE * (1 if split == "train" else 0.1)
    made, target = work / f"{split}.jsonl", work / f"{split}.safetensors"
    rows = ["--seg", str(work / "documents.jsonl"), "--split", split, "--n", n, "--minutes", minutes]
    common = ["--model", args.model, "--workers", args.workers]
    _call(selfmade, [*common, *rows, *_device(args), "--max-tokens", args.max_tokens, "--out", str(made)])
    _call(prepare, [*common, "--made", str(made), "--out", str(target)])
    return target


def _device(args: argparse.Namespace) -> list[str]:
    return ["--device", args.device] if args.device else []


def _call(module: ModuleType, flags: Sequence[object], add: Any = None, run: Any = None) -> dict[str, Any]:
    """Run one of the other commands in this process."""
    parser = argparse.ArgumentParser(prog=module.__name__)
    (add or module.add_arguments)(parser)
    return (run or module.run)(parser.parse_args([str(flag) for flag in flags]))


def card(args: argparse.Namespace, result: dict[str, Any], seconds: float) -> str:
    """The model card, in Hugging Face's format."""
    found = result["held_out"]
    left = 100 * found["block_answer"] / max(found["naive_answer"], 1e-9)
    return CARD.format(model=args.model, minutes=seconds / 60, steps=result["steps"], left=left, **found)
