"""Show right, wrong and missed boundaries of the learned segmenter in their context.

Examples are selected by a rule: documents of each category in the order of their ids' hashes. The segmenter sets as
many boundaries as the humans at level 2. Shown are the right and the wrong one with the highest score, and the missed
one with the lowest.
"""

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blockrag.segment import find_candidates
from blockrag.segment.neural import Neural
from training.corpus import Row, read_rows
from training.headings import without_headings

KINDS = ("right", "wrong", "missed")
AROUND = 160
"""Characters shown on each side."""

LEVEL = 2


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``examples``."""
    parser.add_argument("--data", nargs="+", required=True, help="files of documents (schema: training/corpus.py)")
    parser.add_argument("--neural", type=Path, help="folder of the learned segmenter (default: the shipped one)")
    parser.add_argument("--split", default="dev", help="split (default: dev)")
    parser.add_argument("--each", type=int, default=1, help="documents per category (default: 1)")
    parser.add_argument("--without", nargs="*", default=[], help="categories that must not be quoted")
    parser.add_argument("--out", type=Path, help="Markdown file to write")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Select the examples; return them by category."""
    segmenter = Neural(args.neural) if args.neural else Neural()
    by_category: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(args.data):
        if row["split"] == args.split and row["category"] not in args.without:
            by_category[row["category"]].append(row)
    found = {}
    for category, rows in sorted(by_category.items()):
        rows.sort(key=lambda row: hashlib.sha256(row["id"].encode()).digest())
        examples = (each for row in rows if (each := choose(row, segmenter)))
        found[category] = [each for _, each in zip(range(args.each), examples, strict=False)]
    if args.out:
        args.out.write_text(markdown(found), encoding="utf-8")
    return {"split": args.split, "examples": found}


def choose(row: Row, segmenter: Neural) -> dict[str, Any] | None:
    """An example of each of `KINDS`, if any, in the text without headings; None if it has no gold boundary."""
    bare = without_headings(row)
    text, boundaries = bare["text"], bare["boundaries"]
    gold = np.array([b["char"] for b in boundaries if b["char"] and b["level"] <= LEVEL], np.int64)
    chars = find_candidates(text)
    if not len(gold) or len(gold) >= len(chars):
        return None
    scores = segmenter.score(text, chars)
    order = chars[np.argsort(-scores, kind="stable")]
    cut, left = order[: len(gold)], order[len(gold) :]
    ranked = {
        "right": cut[np.isin(cut, gold)],
        "wrong": cut[~np.isin(cut, gold)],
        "missed": left[np.isin(left, gold)][::-1],
    }
    known = {"source": row["source"], "licence": row["licence"], "n_gold": len(gold), "n_right": len(ranked["right"])}
    return known | {kind: _around(text, int(found[0])) for kind, found in ranked.items() if len(found)}


def _around(text: str, char: int) -> tuple[str, str]:
    """Text before and after a boundary, truncated at words."""
    before, after = text[max(0, char - AROUND) : char], text[char : char + AROUND]
    if char > AROUND:
        before = before[before.find(" ") + 1 :]
    if char + AROUND < len(text):
        after = after[: after.rfind(" ")] if " " in after else after
    return before.rstrip(), after


def markdown(found: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """All examples in Markdown; ‖ marks the boundary."""
    return "\n".join(line for category, examples in found.items() for line in _lines(category, examples)) + "\n"


def _lines(category: str, examples: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f"### {category}\n"
    for each in examples:
        yield f"{each['n_right']} of {each['n_gold']} boundaries found, {each['source']} ({each['licence']}).\n"
        for kind in KINDS:
            if kind in each:
                before, after = (" ".join(part.split()).replace("`", "'") for part in each[kind])
                yield f"- {kind}: `… {before} ‖ {after} …`"
        yield ""


def table(result: dict[str, Any]) -> str:
    """The examples in Markdown."""
    return markdown(result["examples"])
