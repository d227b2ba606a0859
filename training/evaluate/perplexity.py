"""Long text in full, naive block and block mode: likelihood by category and by the distance from a boundary."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from training.commit import commit
from training.corpus import first_of_each, read_rows
from training.evaluate import blocks, readers
from training.evaluate.bootstrap import interval
from training.evaluate.readers import Reader, open_readers

RANGES = ((1, 16), (16, 64), (64, 256), (256, 1 << 20))
"""Tokens after the boundary: from the first number to before the second. The first token is not predicted."""

LEAST_READ = 32
"""Tokens that the judged block must have at least."""

CHARS_PER_TOKEN = 8

Kept = dict[tuple[str, str], list[tuple[float, float | None, int]]]
"""By mode and range, for each document: sums of negative log-likelihood and divergence, and tokens."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--data", nargs="+", required=True, help="files in the schema of training/corpus.py")
    parser.add_argument("--modes", default="full,naive,block", help="with commas between (default: %(default)s)")
    parser.add_argument("--split", default="test", help="which rows (default: test)")
    parser.add_argument("--limit", type=int, default=3, help="most documents of a file; 0: all (default: 3)")
    parser.add_argument("--max-tokens", type=int, default=2048, help="most tokens of the blocks before the judged one")
    blocks.add_flags(parser)
    readers.add_flags(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure: of each document the last block that fits is read over all before it."""
    modes = args.modes.split(",")
    opened = open_readers(modes, args.model, args.adapter, args.device)
    first = next(iter(opened.values()))
    cutter = blocks.Cutter(args, first.model.tokenizer)
    sizes: list[int] = []
    wanted = (row for row in read_rows(args.data) if row["split"] == args.split and row["text"].strip())
    rows = list(first_of_each(wanted, args.limit, "dataset"))
    measured: dict[tuple[str, str], Kept] = {}
    for row in tqdm(rows, desc="documents", file=sys.stderr):
        kept = measured.setdefault((row["dataset"], row["category"]), defaultdict(list))
        text = row["text"][: CHARS_PER_TOKEN * args.max_tokens]
        chosen, judged = choose([first.prompt.block_ids(block) for block in cutter.cut(text)], args.max_tokens)
        sizes += map(len, chosen)
        for mode, place, values in read_all(opened, chosen, judged):
            kept[mode, place].append(values)
    settings = {name: getattr(args, name) for name in ("split", "segmenter", "granularity", "block_tokens", "device")}
    counts = {"n_documents": len(rows), "mean_block_tokens": float(np.mean(sizes or [0]))}
    return {"rows": summarise(measured), "commit": commit(), **readers.about(args), **settings, **counts}


def choose(every: Sequence[list[int]], most: int) -> tuple[Sequence[list[int]], list[int]]:
    """The first blocks that fit, and the one after them, which is judged; none where there is no second one."""
    room, n = most, 0
    while n < len(every) and len(every[n]) <= room:
        room -= len(every[n])
        n += 1
    while n > 1 and (n == len(every) or len(every[n]) < LEAST_READ):
        n -= 1
    return every[:n], every[n] if n < len(every) else []


def read_all(
    opened: dict[str, Reader], chosen: Sequence[Sequence[int]], judged: Sequence[int]
) -> Iterator[tuple[str, str, tuple[float, float | None, int]]]:
    """Each mode's sums over each range of the judged block's tokens."""
    full: torch.Tensor | None = None
    if len(judged) < 2:
        return
    for mode, reader in sorted(opened.items(), key=lambda item: item[0] != "full"):
        said = reader.log_probabilities(reader.read(chosen), judged[:1], judged[1:])
        if mode == "full":
            full = said
        nll = -said.gather(1, torch.tensor(judged[1:], device=said.device)[:, None])[:, 0]
        kl = None if full is None else (full.exp() * (full - said)).sum(-1)
        for low, high in RANGES:
            here = slice(low - 1, high - 1)
            if len(nll[here]):
                far = None if kl is None else float(kl[here].sum())
                yield mode, _name(low, high), (float(nll[here].sum()), far, len(nll[here]))


def _name(low: int, high: int) -> str:
    return f"{low}-{high - 1}" if high < RANGES[-1][1] else f"{low}-"


def summarise(measured: dict[tuple[str, str], Kept]) -> list[dict[str, Any]]:
    """A row for each file, mode and range: means over documents of their means over tokens, with 95 % intervals."""
    rows = []
    for (data, category), kept in measured.items():
        for (mode, place), values in kept.items():
            nll = interval([[total / n for total, _, n in values]])
            far = [total / n for _, total, n in values if total is not None]
            known = {"data": data, "category": category, "mode": mode, "position": place, "n": len(values)}
            n_tokens = sum(n for _, _, n in values)
            kl = interval([far]) if far else (None, None, None)
            bounds = {"nll": nll, "kl": kl}
            told = {
                f"{name}{end}": v for name, b in bounds.items() for end, v in zip(("", "_low", "_high"), b, strict=True)
            }
            rows.append({**known, "n_tokens": n_tokens, **told, "perplexity": float(np.exp(nll[0]))})
    return rows


def table(result: dict[str, Any]) -> str:
    """Means over files, for reading."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in result["rows"]:
        groups[row["category"], row["position"], row["mode"]].append(row)
    lines = ["| category | tokens after the boundary | mode | NLL | KL from full |", "|---" * 5 + "|"]
    for (category, position, mode), rows in sorted(groups.items()):
        nll = np.mean([row["nll"] for row in rows])
        far = [row["kl"] for row in rows if row["kl"] is not None]
        lines.append(f"| {category} | {position} | {mode} | {nll:.3f} | {np.mean(far) if far else float('nan'):.4f} |")
    return "\n".join(lines)
