"""Compare segmenters with human boundaries: F1, Pk, WindowDiff, boundary similarity, by source and category."""

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
from training.cli import commit
from training.corpus import Row, read_rows, some_documents
from training.evaluate.metrics import interval
from training.evaluate.segmentation_metrics import NAMES, Units, measure, normalise
from training.evaluate.segmenters import Splitter, make_splitters
from training.headings import without_headings

LEVELS = (1, 2, 3)
WITH_INTERVAL = ("f1", "pk", "windowdiff")

Measured = list[dict[str, float]]
"""Metrics of each document."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``segmentation``."""
    parser.add_argument("--data", nargs="+", required=True, help="files of documents (schema: training/corpus.py)")
    parser.add_argument("--segmenters", default="structural,fixed,similarity", help="comma-separated names")
    parser.add_argument("--neural", type=Path, help="folder of the learned segmenter")
    parser.add_argument("--split", default="dev", help="split (default: dev)")
    parser.add_argument("--strip-headings", action="store_true", help="remove headings from the texts first")
    parser.add_argument("--limit", type=int, default=0, help="maximum documents per source (default: all)")
    parser.add_argument("--max-chars", type=int, default=0, help="skip longer documents (default: no limit)")
    parser.add_argument("--device", default="cpu", help="device of encoders and the learned segmenter")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate; see `summarise` for the result."""
    rows = list(some_documents(read_rows(args.data), args.split, args.limit, args.max_chars))
    rows = list(map(without_headings, rows)) if args.strip_headings else rows
    measured = evaluate(rows, args.segmenters.split(","), args.neural, args.device)
    about = {"split": args.split, "device": args.device}
    return result_of(rows, measured, "stripped" if args.strip_headings else "kept") | about


Values = dict[tuple[str, str, str, int, str], Measured]
"""Metrics of documents by segmenter, source, category, level and ``at`` (default or gold count)."""


def evaluate(rows: list[Row], names: list[str], neural: Path | None, device: str) -> tuple[Values, dict[str, float]]:
    """Metrics of the segmenters `names` on `rows`, and the seconds of each."""
    splitters = make_splitters(names, neural, device)
    values: Values = defaultdict(list)
    seconds = dict.fromkeys(names, 0.0)
    for row in tqdm(rows, desc="documents", file=sys.stderr):
        references = _references(row)
        for name in names:
            start = time.perf_counter()
            default = splitters[name].default(row["text"])
            seconds[name] += time.perf_counter() - start
            for (level, at), measured in _measure(row["text"], references, splitters[name], default):
                values[name, row["dataset"], row["category"], level, at].append(measured)
    return values, seconds


def result_of(rows: list[Row], measured: tuple[Values, dict[str, float]], headings: str) -> dict[str, Any]:
    """The summary of what `evaluate` measured, with its size and the code's commit."""
    values, seconds = measured
    about = {"characters": sum(len(row["text"]) for row in rows), "commit": commit(), "n_documents": len(rows)}
    return {**summarise(values, headings), "seconds": seconds, **about}


def summarise(values: Values, headings: str) -> dict[str, list[dict[str, Any]]]:
    """``rows``: means over the documents of a source; ``macro``: means over categories; both with 95 % intervals."""
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
    """The macro means as a Markdown table."""
    lines = ["| segmenter | level | at | F1 | tolerant | Pk | WindowDiff | B | documents |", "|---" * 9 + "|"]
    for row in sorted(result["macro"], key=lambda row: (row["level"], row["at"], -row["f1"])):
        f1 = f"{row['f1']:.3f} ({row['f1_low']:.3f} to {row['f1_high']:.3f})"
        rest = " | ".join(f"{row[name]:.3f}" for name in ("f1_tolerant", "pk", "windowdiff", "boundary_similarity"))
        lines.append(f"| {row['segmenter']} | {row['level']} | {row['at']} | {f1} | {rest} | {row['n_documents']} |")
    return "\n".join(lines)


def _references(row: Row) -> dict[int, tuple[np.ndarray, Units]]:
    """Gold boundaries and units by level, without levels that have no boundary."""
    candidates, references = find_candidates(row["text"]), {}
    for level in LEVELS:
        chars = [boundary["char"] for boundary in row["boundaries"] if boundary["level"] <= level]
        gold = normalise(row["text"], np.array(chars, np.int64))
        if len(gold):
            references[level] = gold, Units.of(candidates, gold)
    return references


def _measure(
    text: str, references: dict[int, tuple[np.ndarray, Units]], splitter: Splitter, default: np.ndarray
) -> Iterator[tuple[tuple[int, str], dict[str, float]]]:
    """Metrics by level and ``at``; the default boundaries are the same for all levels."""
    for level, (gold, units) in references.items():
        yield (level, "default"), measure(units, gold, normalise(text, default))
        best = splitter.best(text, len(gold))
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
