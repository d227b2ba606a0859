"""Filters on single rows, each with the reason for dropping one."""

from collections import Counter
from itertools import pairwise

from training.corpus import Row
from training.semanticseg.config import Filters


def refuse_document(row: Row, filters: Filters) -> str:
    """Reason for dropping a document, or an empty string."""
    text = row["text"]
    if len(text) < filters.least_chars and not row["short"]:
        return f"under {filters.least_chars} characters"
    if not text.strip():
        return "no visible character"
    symbols = sum(not (char.isalnum() or char.isspace()) for char in text)
    if symbols > filters.most_symbols * len(text):
        return f"over {filters.most_symbols:.0%} symbols"
    if _repeated(text) > filters.most_repeated * len(text):
        return f"over {filters.most_repeated:.0%} in repeated lines"
    return ""


def refuse_instance(row: Row, filters: Filters) -> str:
    """Reason for dropping an instance, or an empty string."""
    if len(row["boundaries"]) < 2:
        return "no boundary"
    coarse = [b["char"] for b in row["boundaries"] if b["level"] <= 2]
    sizes = [b - a for a, b in pairwise([*coarse, len(row["text"])])]
    if len(sizes) > 1 and max(sizes) > filters.most_in_one_block * len(row["text"]):
        return f"over {filters.most_in_one_block:.0%} in one block"
    return ""


def _repeated(text: str) -> int:
    """Characters in repeated lines of more than 20 characters."""
    counts = Counter(line for line in text.splitlines() if len(line) > 20)
    return sum(len(line) * (n - 1) for line, n in counts.items())
