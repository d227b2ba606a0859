"""Boundaries of segmenters against those of people: F1, Pk, WindowDiff, boundary similarity, by source and category."""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from blockrag.segment import find_candidates
from training.commit import commit
from training.corpus import Row, read_rows, some_documents
from training.evaluate.bootstrap import interval
from training.evaluate.cutters import Cutter, make_cutters
from training.evaluate.segmentation_metrics import NAMES, Units, measure, normalise
from training.headings import without_headings

LEVELS = (1, 2, 3)
WITH_INTERVAL = ("f1", "pk", "windowdiff")

Measured = list[dict[str, float]]
"""Metrics of one document each."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--data", nargs="+", required=True, help="files in the schema of training/corpus.py")
    parser.add_argument("--segmenters", default="structural,fixed,similarity", help="names with commas between")
    parser.add_argument("--neural", type=Path, help="folder of the learned segmenter")
    parser.add_argument("--split", default="dev", help="which rows (default: dev)")
    parser.add_argument("--strip-headings", action="store_true", help="judge on texts without their headings")
    parser.add_argument("--limit", type=int, default=0, help="most documents of a source (default: all)")
    parser.add_argument("--max-chars", type=int, default=0, help="longer documents are left out (default: none)")
    parser.add_argument("--device", default="cpu", help="of encoders and the learned segmenter")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; see `summarise` for what comes of it."""
    rows = list(some_documents(read_rows(args.data), args.split, args.limit, args.max_chars))
    rows = list(map(without_headings, rows)) if args.strip_headings else rows
    names = args.segmenters.split(",")
    cutters = make_cutters(names, args.neural, args.device)
    values: dict[tuple[str, str, str, int, str], Measured] = defaultdict(list)
    seconds = dict.fromkeys(names, 0.0)
    for row in tqdm(rows, desc="documents", file=sys.stderr):
        references = _references(row)
        for name in names:
            begun = time.perf_counter()
            default = cutters[name].default(row["text"])
            seconds[name] += time.perf_counter() - begun
            for (level, at), measured in _judge(row["text"], references, cutters[name], default):
                values[name, row["dataset"], row["category"], level, at].append(measured)
    summary = summarise(values, "stripped" if args.strip_headings else "kept")
    about = {"split": args.split, "device": args.device, "commit": commit(), "n_documents": len(rows)}
    return {**summary, "seconds": seconds, "characters": sum(len(row["text"]) for row in rows), **about}


def summarise(values: dict[tuple[str, str, str, int, str], Measured], headings: str) -> dict[str, list[dict[str, Any]]]:
    """``rows``, a mean over documents each, and ``macro``, the mean of categories, with 95 % intervals.

    `values` are the documents' metrics by segmenter, source, category, level and at.
    """
    rows: list[dict[str, Any]] = []
    by_category: dict[tuple[str, int, str], dict[str, Measured]] = {}
    for (name, source, category, level, at), measured in values.items():
        known = {"segmenter": name, "source": source, "category": category, "level": level, "headings": headings}
        rows.append({**known, "at": at, **_means([measured]), "n_documents": len(measured)})
        by_category.setdefault((name, level, at), {}).setdefault(category, []).extend(measured)
    macro = []
    for (name, level, at), groups in by_category.items():
        known = {"segmenter": name, "level": level, "headings": headings, "at": at, "n_categories": len(groups)}
        macro.append({**known, **_means(list(groups.values())), "n_documents": sum(map(len, groups.values()))})
    return {"rows": rows, "macro": macro}


def table(result: dict[str, Any]) -> str:
    """The macro means, for reading."""
    lines = ["| segmenter | level | at | F1 | tolerant | Pk | WindowDiff | B | documents |", "|---" * 9 + "|"]
    for row in sorted(result["macro"], key=lambda row: (row["level"], row["at"], -row["f1"])):
        f1 = f"{row['f1']:.3f} ({row['f1_low']:.3f} to {row['f1_high']:.3f})"
        rest = " | ".join(f"{row[name]:.3f}" for name in ("f1_tolerant", "pk", "windowdiff", "boundary_similarity"))
        lines.append(f"| {row['segmenter']} | {row['level']} | {row['at']} | {f1} | {rest} | {row['n_documents']} |")
    return "\n".join(lines)


def _references(row: Row) -> dict[int, tuple[np.ndarray, Units]]:
    """Gold boundaries, and the units with them, by level: of the levels at which there is something to find."""
    candidates, references = find_candidates(row["text"]), {}
    for level in LEVELS:
        chars = [boundary["char"] for boundary in row["boundaries"] if boundary["level"] <= level]
        gold = normalise(row["text"], np.array(chars, np.int64))
        if len(gold):
            references[level] = gold, Units.of(candidates, gold)
    return references


def _judge(
    text: str, references: dict[int, tuple[np.ndarray, Units]], cutter: Cutter, default: np.ndarray
) -> Iterator[tuple[tuple[int, str], dict[str, float]]]:
    """Metrics by level and at; the default is one for all levels."""
    for level, (gold, units) in references.items():
        yield (level, "default"), measure(units, gold, normalise(text, default))
        best = cutter.best(text, len(gold))
        if best is not None:
            yield (level, "gold count"), measure(units, gold, normalise(text, best))


def _means(groups: list[Measured]) -> dict[str, float]:
    means = {}
    for name in NAMES:
        mean, low, high = interval([[each[name] for each in group] for group in groups])
        means[name] = mean
        if name in WITH_INTERVAL:
            means |= {f"{name}_low": low, f"{name}_high": high}
    return means
