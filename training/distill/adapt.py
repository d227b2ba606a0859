"""``python -m training.distill adapt``: train an adapter for your own model from your own documents.

The model writes and answers questions about the documents (`selfmade`). Block mode is then trained to predict like the
model itself in full mode (`student`), and evaluated on held-out documents. The adapter is written in 8 bits with a
model card. Full mode remains the published model.
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
from training.distill import convert, prepare, selfmade, stages

SHARE_SELFMADE = 0.3
"""Share of the time for conversations; nearly all the rest is training."""

MIN_CHARS = 2000
"""Shorter documents are skipped: they offer too little to ask about."""


CARD = """---
base_model: {model}
library_name: blockrag
tags: [block-attention, lora]
---

# Block adapter for {model}

With this adapter the model answers from blocks whose keys and values were computed separately. Full mode is the
unchanged model.

| divergence from full mode on held-out documents, nats per token | answers | questions |
|---|---|---|
| without the adapter | {naive_answer:.3f} | {naive_question:.3f} |
| with the adapter | {block_answer:.3f} | {block_question:.3f} |

On answers, {left:.0f} % of the divergence remains. Trained by `python -m training.distill adapt` in
{minutes:.1f} minutes ({steps} steps) on the model's own questions and answers about a folder of documents;
`adapter.json` has the settings.

    python -m blockrag ask QUESTION --store STORE --model {model} --adapter FOLDER
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``adapt``."""
    parser.add_argument("--model", required=True, help="catalog name, hub name, GGUF file or folder")
    parser.add_argument("--documents", type=Path, required=True, help="folder of documents, in any supported format")
    parser.add_argument("--out", type=Path, required=True, help="output folder of the adapter")
    parser.add_argument("--minutes", type=float, default=30.0, help="approximate total time (default: %(default)s)")
    parser.add_argument(
        "--conversations", type=int, default=4000, help="maximum number of conversations (default: %(default)s)"
    )
    parser.add_argument("--max-tokens", type=int, default=3584, help="maximum tokens of a conversation's blocks")
    parser.add_argument("--examples", type=int, default=8, help="conversations per step (default: %(default)s)")
    parser.add_argument(
        "--pack-tokens", type=int, default=24576, help="maximum tokens of a micro-batch; lower it to save memory"
    )
    parser.add_argument(
        "--checkpointing", type=float, default=0.0, help="share of the layers whose activations are recomputed"
    )
    parser.add_argument("--rank", type=int, default=32, help="rank of the adapter (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=1e-4, help="peak learning rate (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes that segment documents (default: %(default)s)"
    )
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU if available)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train the adapter; return its held-out divergence from full mode and the skipped documents.

    Raises
    ------
    ValueError
        If the folder has fewer than two documents that are long enough.
    """
    since, work = time.perf_counter(), args.out / "work"
    work.mkdir(parents=True, exist_ok=True)
    left_out = write_rows(args.documents, work / "documents.jsonl")
    examples = {split: _make_examples(args, work, split) for split in ("train", "dev")}
    minutes = max(args.minutes - (time.perf_counter() - since) / 60, 0.05)
    common = ["--model", args.model, *_device(args)]
    student = ["--data", str(examples["train"]), "--held-out", str(examples["dev"]), "--out", str(work / "student")]
    sizes = ["--examples", args.examples, "--pack-tokens", args.pack_tokens, "--checkpointing", args.checkpointing]
    optimiser = ["--rank", args.rank, "--alpha", args.rank, "--lr", args.lr, "--hidden-weight", "1"]
    schedule = ["--steps", "100000", "--minutes", minutes]
    flags = [*common, *student, *sizes, *optimiser, *schedule]
    trained = _run_command(stages, flags, stages.add_student_arguments, stages.run_student)
    shrink = ["--adapter", str(work / "student"), "--out", str(args.out)]
    _run_command(convert, shrink, convert.add_shrink_arguments, convert.run_shrink)
    seconds = time.perf_counter() - since
    result = {"adapter": str(args.out), "left_out": left_out, "held_out": trained["held_out"], "steps": trained["step"]}
    (args.out / "README.md").write_text(_card(args, result, seconds), encoding="utf-8")
    return {**result, "seconds": seconds}


def write_rows(folder: Path, target: Path) -> list[str]:
    """Write the folder's documents as rows, one in eight for evaluation; return the skipped files with reasons."""
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        try:
            text = load(path).text
        except DocumentError as error:
            left_out.append(f"{name}: {error}")
            continue
        if len(text) < MIN_CHARS:
            left_out.append(f"{name}: it has {len(text)} characters; at least {MIN_CHARS} are needed")
            continue
        rows.append({"id": name, "category": "own", "source": name, "licence": "", "text": text, "headings": []})
    if len(rows) < 2:
        reasons = "; ".join(left_out)
        raise ValueError(f"{folder} holds {len(rows)} usable documents; at least 2 are needed. {reasons}")
    rows.sort(key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    n_dev = max(1, len(rows) // 8)
    with target.open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows):
            split = "dev" if number < n_dev else "train"
            file.write(json.dumps({**row, "split": split, "boundaries": [{"char": 0, "level": 1}]}) + "\n")
    return left_out


def _make_examples(args: argparse.Namespace, work: Path, split: str) -> Path:
    """Generate conversations about the documents of a split; return the file of examples."""
    n = args.conversations if split == "train" else max(8, args.conversations // 40)
    minutes = args.minutes * SHARE_SELFMADE * (1 if split == "train" else 0.1)
    made, target = work / f"{split}.jsonl", work / f"{split}.safetensors"
    rows = ["--seg", str(work / "documents.jsonl"), "--split", split, "--n", n, "--minutes", minutes]
    common = ["--model", args.model, "--workers", args.workers]
    _run_command(selfmade, [*common, *rows, *_device(args), "--max-tokens", args.max_tokens, "--out", str(made)])
    _run_command(prepare, [*common, "--made", str(made), "--out", str(target)])
    return target


def _device(args: argparse.Namespace) -> list[str]:
    return ["--device", args.device] if args.device else []


def _run_command(module: ModuleType, flags: Sequence[object], add: Any = None, run: Any = None) -> dict[str, Any]:
    """Run another command in this process."""
    parser = argparse.ArgumentParser(prog=module.__name__)
    (add or module.add_arguments)(parser)
    return (run or module.run)(parser.parse_args([str(flag) for flag in flags]))


def _card(args: argparse.Namespace, result: dict[str, Any], seconds: float) -> str:
    """The model card, in the Hugging Face format."""
    found = result["held_out"]
    left = 100 * found["block_answer"] / max(found["naive_answer"], 1e-9)
    return CARD.format(model=args.model, minutes=seconds / 60, steps=result["steps"], left=left, **found)
