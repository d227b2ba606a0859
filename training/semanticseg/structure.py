"""Annotate by visible structure: headings, articles, messages, definitions, turns, paragraphs."""

import re
from collections import Counter

import numpy as np

from blockrag.segment import Structural, find_candidates
from training.corpus import Row

_LEAST = 0.45
"""Lowest structural score of a boundary: that of a paragraph."""
_STRONG = 0.55
"""Lowest structural score of a boundary of level 1 or 2."""
_HEADING = re.compile(
    r"^(?:\#{1,6}[ \t]+\S[^\n]*|(?:=[ ]?){1,6}[^\s=][^\n]*="
    r"|\S[^\n]{0,100}\n(?P<mark>[=\-~^\"'*+#`])(?P=mark){2,})[ \t]*$",
    re.MULTILINE,
)
_FENCED = re.compile(r"^[ \t]*(```|~~~).*?^[ \t]*\1[^\n]*$", re.MULTILINE | re.DOTALL)


def annotate(row: Row) -> Row:
    """`row` with boundaries at up to three levels, and the spans of its headings.

    The strongest kind of line that occurs at least twice is level 1, the next level 2, and all weaker ones down to
    paragraphs and turns level 3. `blockrag.segment.structural` defines the order of kinds.
    """
    text = row["text"]
    begin = len(text) - len(text.lstrip())
    candidates = np.concatenate(([begin], find_candidates(text)))
    scores = Structural().score(text, candidates)
    ranks = _levels(scores)
    boundaries = [{"char": 0, "level": 1}]
    for char, score in zip(candidates[1:].tolist(), scores[1:], strict=True):
        if score >= _LEAST:
            boundaries.append({"char": char, "level": ranks.get(float(score), 3)})
    return {**row, "boundaries": boundaries, "headings": find_headings(text)}


def _levels(scores: np.ndarray) -> dict[float, int]:
    """Scores of levels 1 and 2 -> level."""
    counts = Counter(scores[scores >= _STRONG].tolist())
    strongest = sorted((score for score, n in counts.items() if n > 1), reverse=True)
    found = {score: min(i + 1, 2) for i, score in enumerate(strongest[:2])}
    above = {score: 1 for score in counts if strongest and score > strongest[0]}  # a single title is level 1 too
    return found | above


def find_headings(text: str) -> list[list[int]]:
    """Spans of Markdown, reStructuredText and AsciiDoc headings outside fenced code, without line ends."""
    fenced = [found.span() for found in _FENCED.finditer(text)]
    spans = [list(found.span()) for found in _HEADING.finditer(text)]
    return [span for span in spans if not any(a <= span[0] < b for a, b in fenced)]
