"""Long text in full, naive block and block mode: likelihood by category and by the distance from a boundary."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from blockrag.documents.document import Document
from blockrag.segment import Block, HFTokenCounter, Segmentation, SizeBounds, make_segmenter
from training.commit import commit
from training.corpus import Row, first_of_each, read_rows
from training.evaluate.bootstrap import interval
from training.evaluate.qa import add_block_flags, add_reader_flags
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
    add_block_flags(parser)
    add_reader_flags(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure: of each document the last block that fits is read over all before it."""
    modes = args.modes.split(",")
    readers = open_readers(modes, args.model, args.adapter, args.device)
    wanted = (row for row in read_rows(args.data) if row["split"] == args.split and row["text"].strip())
    rows = list(first_of_each(wanted, args.limit, "dataset"))
    measured: dict[tuple[str, str], Kept] = {}
    for row in tqdm(rows, desc="documents", file=sys.stderr):
        kept = measured.setdefault((row["dataset"], row["category"]), defaultdict(list))
        for mode, place, values in read_all(readers, *choose(row, args, next(iter(readers.values())))):
            kept[mode, place].append(values)
    about = {"commit": commit(), "adapter": str(args.adapter) if args.adapter else None, "base": args.model}
    return {"rows": summarise(measured), **about, "split": args.split, "device": args.device, "n_documents": len(rows)}


def choose(row: Row, args: argparse.Namespace, reader: Reader) -> tuple[list[list[int]], list[int]]:
    """Blocks of a document's beginning that fit, and the one after them; no blocks where it has a single one."""
    counter = HFTokenCounter(reader.model.tokenizer)
    text = row["text"][: CHARS_PER_TOKEN * args.max_tokens]
    segmenter = make_segmenter(args.segmenter, counter=counter)
    document = Document("text", "text/plain", text)
    segmentation = Segmentation.create(document, segmenter, counter, SizeBounds(*args.block_tokens))
    blocks = [_ids(reader, text, block) for block in segmentation.blocks(args.granularity)]
    room, n = args.max_tokens, 0
    while n < len(blocks) and len(blocks[n]) <= room:
        room -= len(blocks[n])
        n += 1
    while n > 1 and (n == len(blocks) or len(blocks[n]) < LEAST_READ):
        n -= 1
    return blocks[:n], blocks[n] if n < len(blocks) else []


def _ids(reader: Reader, text: str, block: Block) -> list[int]:
    return reader.prompt.block_ids(text[block.start : block.end])


def read_all(
    readers: dict[str, Reader], blocks: Sequence[Sequence[int]], judged: Sequence[int]
) -> Iterator[tuple[str, str, tuple[float, float | None, int]]]:
    """Each mode's sums over each range of the judged block's tokens."""
    full: torch.Tensor | None = None
    if len(judged) < 2:
        return
    for mode, reader in sorted(readers.items(), key=lambda item: item[0] != "full"):
        said = reader.log_probabilities(reader.read(blocks), judged[:1], judged[1:])
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
