"""Evaluate long text in full, naive and block mode: likelihood by category and distance from the block's start."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from training.cli import commit
from training.corpus import first_of_each, read_rows
from training.evaluate import blocks, readers
from training.evaluate.metrics import interval
from training.evaluate.readers import Reader, open_readers

RANGES = ((1, 16), (16, 64), (64, 256), (256, 1 << 20))
"""Half-open ranges of token positions after the boundary. The first token is not predicted."""

MIN_TARGET_TOKENS = 32
"""Minimum tokens of the target block."""

CHARS_PER_TOKEN = 8

_Sums = dict[tuple[str, str], list[tuple[float, float | None, int]]]
"""By mode and range, for each document: summed negative log-likelihood and divergence, number of tokens."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``perplexity``."""
    parser.add_argument("--data", nargs="+", required=True, help="files of documents (schema: training/corpus.py)")
    parser.add_argument("--modes", default="full,naive,block", help="comma-separated (default: %(default)s)")
    parser.add_argument("--split", default="test", help="split (default: test)")
    parser.add_argument("--limit", type=int, default=3, help="maximum documents per file; 0: all (default: 3)")
    parser.add_argument(
        "--max-tokens", type=int, default=2048, help="maximum tokens of the blocks before the target block"
    )
    blocks.add_flags(parser)
    readers.add_flags(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate each document's last block that fits, the target, given all blocks before it."""
    modes = args.modes.split(",")
    opened = open_readers(modes, args.model, args.adapter, args.device)
    first = next(iter(opened.values()))
    segmenter = blocks.BlockSegmenter(args, first.model.tokenizer)
    sizes: list[int] = []
    matching = (row for row in read_rows(args.data) if row["split"] == args.split and row["text"].strip())
    rows = list(first_of_each(matching, args.limit, "dataset"))
    measured: dict[tuple[str, str], _Sums] = {}
    for row in tqdm(rows, desc="documents", file=sys.stderr):
        sums = measured.setdefault((row["dataset"], row["category"]), defaultdict(list))
        text = row["text"][: CHARS_PER_TOKEN * args.max_tokens]
        context, target = choose([first.prompt.block_ids(block) for block in segmenter.blocks(text)], args.max_tokens)
        sizes += map(len, context)
        for mode, place, values in _score_target(opened, context, target):
            sums[mode, place].append(values)
    settings = {name: getattr(args, name) for name in ("split", "segmenter", "granularity", "block_tokens", "device")}
    counts = {"n_documents": len(rows), "mean_block_tokens": float(np.mean(sizes or [0]))}
    return {"rows": summarise(measured), "commit": commit(), **readers.about(args), **settings, **counts}


def choose(blocks: Sequence[list[int]], max_tokens: int) -> tuple[Sequence[list[int]], list[int]]:
    """The first blocks that fit, and the target after them, which is empty if there is no second block."""
    room, n = max_tokens, 0
    while n < len(blocks) and len(blocks[n]) <= room:
        room -= len(blocks[n])
        n += 1
    while n > 1 and (n == len(blocks) or len(blocks[n]) < MIN_TARGET_TOKENS):
        n -= 1
    return blocks[:n], blocks[n] if n < len(blocks) else []


def _score_target(
    opened: dict[str, Reader], context: Sequence[Sequence[int]], target: Sequence[int]
) -> Iterator[tuple[str, str, tuple[float, float | None, int]]]:
    """Each mode's sums over each range of the target's tokens."""
    full: torch.Tensor | None = None
    if len(target) < 2:
        return
    for mode, reader in sorted(opened.items(), key=lambda item: item[0] != "full"):
        found = reader.log_probabilities(reader.read(context), target[:1], target[1:])
        if mode == "full":
            full = found
        nll = -found.gather(1, torch.tensor(target[1:], device=found.device)[:, None])[:, 0]
        kl = None if full is None else (full.exp() * (full - found)).sum(-1)
        for low, high in RANGES:
            here = slice(low - 1, high - 1)
            if len(nll[here]):
                kl_sum = None if kl is None else float(kl[here].sum())
                yield mode, _name(low, high), (float(nll[here].sum()), kl_sum, len(nll[here]))


def _name(low: int, high: int) -> str:
    return f"{low}-{high - 1}" if high < RANGES[-1][1] else f"{low}-"


def summarise(measured: dict[tuple[str, str], _Sums]) -> list[dict[str, Any]]:
    """A row per file, mode and range: means over documents of their means over tokens, with 95 % intervals."""
    rows = []
    for (data, category), sums in measured.items():
        for (mode, place), values in sums.items():
            nll = interval([[total / n for total, _, n in values]])
            divergences = [total / n for _, total, n in values if total is not None]
            known = {"data": data, "category": category, "mode": mode, "position": place, "n": len(values)}
            n_tokens = sum(n for _, _, n in values)
            kl = interval([divergences]) if divergences else (None, None, None)
            bounds = {"nll": nll, "kl": kl}
            means = {
                f"{name}{end}": v for name, b in bounds.items() for end, v in zip(("", "_low", "_high"), b, strict=True)
            }
            rows.append({**known, "n_tokens": n_tokens, **means, "perplexity": float(np.exp(nll[0]))})
    return rows


def table(result: dict[str, Any]) -> str:
    """Means over files as a Markdown table."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in result["rows"]:
        groups[row["category"], row["position"], row["mode"]].append(row)
    lines = ["| category | tokens after the boundary | mode | NLL | KL from full |", "|---" * 5 + "|"]
    for (category, position, mode), rows in sorted(groups.items()):
        nll = np.mean([row["nll"] for row in rows])
        kl = [row["kl"] for row in rows if row["kl"] is not None]
        lines.append(f"| {category} | {position} | {mode} | {nll:.3f} | {np.mean(kl) if kl else float('nan'):.4f} |")
    return "\n".join(lines)
