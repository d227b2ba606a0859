"""Scores of lines by their kind: the table, and what it gives for a program. Knows no candidates."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from blockrag.segment.lines import CODE, Line, read_lines

HEADINGS = (1.0, 0.92, 0.84, 0.78, 0.74, 0.7)
"""Headings by depth, the outermost first."""

SCORES = {
    # kind of line: (right below another line, after a blank line)
    "plain": (0.2, 0.5),
    "fence": (0.2, 0.45),
    "rule": (0.2, 0.55),
    "table": (0.05, 0.4),
    "mail": (0.85, 0.9),
    "article": (0.6, 0.9),
    "section": (0.55, 0.8),
    "capitals": (0.2, 0.72),
    "title": (0.2, 0.66),
    "turn": (0.45, 0.56),
    "clause": (0.35, 0.62),
    "item": (0.25, 0.4),
    "class": (0.6, 0.8),
    "function": (0.45, 0.7),
    "lead": (0.15, 0.45),
}
CLAUSE_STEP = 0.04
"""What a numbered clause loses for each level of its number."""
PAGE = 0.65
"""First line of a page, unless a sentence runs over from the page before."""
INDENTED = 0.75
"""Factor for text that does not begin at the margin."""
FENCED = (0.03, 0.08)
"""Lines inside a fenced code block, as in `SCORES`."""
SENTENCE = 0.1
BURIED = 0.02
"""Sentences inside code and tables."""

TITLES = frozenset({"heading", "article", "section", "capitals", "title", "clause"})
"""Kinds that may be the title of what follows."""


@dataclass
class Grade:
    """Scores of one line: at its first visible character, offset `start`, and at the sentences inside it."""

    start: int
    at_start: float
    inside: float


def score_by_kind(line: Line, kind: str) -> float:
    """Score of `line` as a line of `kind`, whatever stands around it."""
    if kind == "heading":
        return HEADINGS[min(depth(line), len(HEADINGS)) - 1]
    if line.begins_page and line.body[0].islower():
        return SCORES["plain"][False]
    score = SCORES[kind][line.is_loose]
    if line.begins_page:
        score = max(score, PAGE)
    if kind == "clause":
        score -= CLAUSE_STEP * min(depth(line), len(HEADINGS))
    return score * INDENTED if line.indent else score


def depth(line: Line) -> int:
    """Depth of a heading's marks (``##`` is 2) or a clause's number (``3.1`` is 2); 1 for any other line."""
    marks = re.match(r"[#= ]*", line.body)[0]  # type: ignore[index]  # matches the empty string at least
    number = re.match(r"\d+(?:\.\d+)*", line.body)
    return max(1, marks.count("#") + marks.count("="), number[0].count(".") + 1 if number else 0)


def grade_code(text: str) -> Iterator[Grade]:
    """Grades of the lines of a program, in order.

    A definition passes its score on to the first of the comments and decorators that stand right above it.
    """
    lead: list[Grade] = []  # comments and decorators that may belong to a definition
    in_comment = False
    for line in read_lines(text, CODE):
        kind = "lead" if in_comment else line.kind
        in_comment = (in_comment or line.body.startswith("/*")) and "*/" not in line.body
        grade = Grade(line.start, score_by_kind(line, kind), BURIED)
        if kind != "lead" or line.is_loose:
            if lead and kind in ("class", "function") and not line.is_loose:
                lead[0].at_start, grade.at_start = SCORES[kind][True] * (INDENTED if line.indent else 1), 0.0
            yield from lead
            lead = []
        if kind == "lead":
            lead.append(grade)
        else:
            yield grade
    yield from lead
