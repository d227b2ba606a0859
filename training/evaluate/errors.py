"""Count what the learned segmenter finds and misses, by category and by the place of a boundary in the layout.

The segmenter sets as many boundaries as the humans at level 2. Also tried: adding a constant to the scores of all
candidates of one place, which tells whether a rule about the layout would help.
"""

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from blockrag.segment import find_candidates
from blockrag.segment.neural import Neural
from training.cli import commit
from training.corpus import read_rows, some_documents
from training.headings import without_headings

LEVEL = 2
LIFTS = (-0.3, -0.1, 0.1, 0.3)
"""Constants added to scores, which lie in [0, 1]."""

PLACES = {
    "turn": re.compile(r"[*_>\s]*[A-Z][\w.'’-]*(?: [A-Z(][\w.'’()-]*){0,4}:[*_]*\s"),
    "number": re.compile(
        r"(?:(?:ARTICLE|Article|SECTION|Section|EXHIBIT|Exhibit)\s+[\dIVXA-Z]|\(?\d+(?:\.\d+)*[.):]\s)"
    ),
    "list": re.compile(r"(?:[-*+•·]|\(?[a-z][.)])\s"),
}
"""Starts of lines: a speaker's name, a number or clause, an item of a list. Else: paragraph, line or sentence."""

NAMES = (*PLACES, "paragraph", "line", "sentence")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``errors``."""
    parser.add_argument("--data", nargs="+", required=True, help="files of documents (schema: training/corpus.py)")
    parser.add_argument("--neural", type=Path, help="folder of the learned segmenter (default: the shipped one)")
    parser.add_argument("--split", default="dev", help="split (default: dev)")
    parser.add_argument("--limit", type=int, default=3, help="documents per source (default: 3)")
    parser.add_argument("--max-chars", type=int, default=40000, help="skip longer documents (default: 40000)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Count; ``rows`` by category and place, ``f1`` by category and change of scores (means over documents)."""
    segmenter = Neural(args.neural) if args.neural else Neural()
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(("gold", "right", "wrong"), 0))
    f1: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    rows = list(some_documents(read_rows(args.data), args.split, args.limit, args.max_chars))
    for row in tqdm(map(without_headings, rows), total=len(rows), desc="documents", file=sys.stderr):
        text, category, chars = row["text"], row["category"], find_candidates(row["text"])
        gold = np.isin(chars, [b["char"] for b in row["boundaries"] if b["char"] and b["level"] <= LEVEL])
        if not gold.any():
            continue
        scores = segmenter.score(text, chars)
        places = np.array([place(text, char) for char in chars.tolist()])
        found = best(scores, int(gold.sum()))
        for name in NAMES:
            here, cell = places == name, counts[category, name]
            cell["gold"] += int((gold & here).sum())
            cell["right"] += int((gold & found & here).sum())
            cell["wrong"] += int((found & ~gold & here).sum())
        f1[category]["as it is"].append(float(gold[found].mean()))
        for name in NAMES:
            for lift in LIFTS:
                moved = best(scores + lift * (places == name), int(gold.sum()))
                f1[category][f"{name} {lift:+}"].append(float(gold[moved].mean()))
    means = {category: {name: float(np.mean(v)) for name, v in each.items()} for category, each in f1.items()}
    cells = [{"category": c, "place": p, **cell} for (c, p), cell in counts.items() if cell["gold"] or cell["wrong"]]
    n = {category: len(each["as it is"]) for category, each in f1.items()}
    return {"split": args.split, "rows": cells, "f1": means, "n_documents": n, "commit": commit()}


def place(text: str, char: int) -> str:
    """Where in the layout a candidate is: one of `NAMES`."""
    gap = text[len(text[max(0, char - 256) : char].rstrip()) + max(0, char - 256) : char]
    if "\n" not in gap and "\r" not in gap:
        return "sentence"
    named = next((name for name, pattern in PLACES.items() if pattern.match(text, char)), None)
    return named or ("paragraph" if gap.count("\n") > 1 or "\f" in gap else "line")


def best(scores: np.ndarray, n: int) -> np.ndarray:
    """Mask of the `n` highest scores; ties go to the earlier."""
    mask = np.zeros(len(scores), bool)
    mask[np.argsort(-scores, kind="stable")[:n]] = True
    return mask


def table(result: dict[str, Any]) -> str:
    """Counts by category and place, then F1 with the best change of scores, as Markdown tables."""
    lines = ["| category | place | human boundaries | found | missed | wrong |", "|---" * 6 + "|"]
    for row in sorted(result["rows"], key=lambda row: (row["category"], -row["gold"])):
        missed = row["gold"] - row["right"]
        lines.append(
            f"| {row['category']} | {row['place']} | {row['gold']} | {row['right']} | {missed} | {row['wrong']} |"
        )
    lines += ["", "| category | documents | F1 | best change of scores | F1 |", "|---" * 5 + "|"]
    for category, f1 in sorted(result["f1"].items()):
        name = max(f1, key=f1.__getitem__)
        n = result["n_documents"][category]
        lines.append(f"| {category} | {n} | {f1['as it is']:.3f} | {name} | {f1[name]:.3f} |")
    return "\n".join(lines)
