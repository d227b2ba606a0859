"""Questions with answers and passages from JSON lines, for the examples.

A line is ``{"question": ..., "answers": [...], "documents": [{"title", "text", "is_gold"}, ...], "split": ...}``; files
that end in ``.zst`` are decompressed (``pip install zstandard``).
"""

import hashlib
import io
import json
import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.schema import TextNode

Row = dict[str, Any]


def read_rows(path: Path, split: str, limit: int) -> list[Row]:
    """The first `limit` questions of a split that have a gold passage and a short answer."""
    rows: list[Row] = []
    for row in _lines(path):
        if row.get("split", split) == split and row["answers"] and any(d.get("is_gold") for d in row["documents"]):
            rows.append(row)
        if len(rows) == limit:
            break
    if not rows:
        raise SystemExit(f"{path} has no question of split {split!r} with an answer and a gold passage")
    return rows


def _lines(path: Path) -> Iterator[Row]:
    with open(path, "rb") as file:
        stream: Any = file
        if path.suffix == ".zst":
            import zstandard  # noqa: PLC0415  (only for compressed data)

            stream = zstandard.ZstdDecompressor().stream_reader(file)
        for line in io.TextIOWrapper(stream, encoding="utf-8", newline="\n"):
            yield json.loads(line)


def nodes_of(rows: Sequence[Row], n_nodes: int) -> list[TextNode]:
    """A collection of `n_nodes` passages: every gold one, filled up with the questions' other passages."""
    gold = [d for row in rows for d in row["documents"] if d.get("is_gold")]
    others = [d for row in rows for d in row["documents"] if not d.get("is_gold")]
    texts = dict.fromkeys(passage(d) for d in [*gold, *others])
    return [TextNode(id_=node_id(text), text=text) for text in list(texts)[: max(n_nodes, len(gold))]]


def passage(document: dict[str, Any]) -> str:
    """A passage as it is indexed."""
    return f"{document['title']}\n{document['text']}" if document.get("title") else document["text"]


def node_id(text: str) -> str:
    """An id derived from the text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def gold_ids(row: Row) -> list[str]:
    """Ids of the passages that answer a question."""
    return [node_id(passage(d)) for d in row["documents"] if d.get("is_gold")]


def normal(text: str) -> str:
    """Normalise as SQuAD's evaluation does: lower case, no punctuation, no articles."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def contains_answer(text: str, answers: Sequence[str]) -> float:
    """1 if the text contains one of the answers, else 0."""
    return float(any(normal(answer) in normal(text) for answer in answers))


def token_f1(text: str, answers: Sequence[str]) -> float:
    """Best word F1 with one of the answers, in [0, 1]."""
    return max(_f1(normal(text).split(), normal(answer).split()) for answer in answers)


def _f1(words: list[str], expected: list[str]) -> float:
    common = sum((Counter(words) & Counter(expected)).values())
    return 2 * common / (len(words) + len(expected)) if common else 0.0


def mean_interval(values: Sequence[float], draws: int = 10_000) -> tuple[float, float, float]:
    """Mean and its 95 % interval, by bootstrap over the questions."""
    sample = np.asarray(values, np.float64)
    means = np.random.default_rng(0).choice(sample, (draws, len(sample))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(sample.mean()), float(low), float(high)
