"""Segmenter that reads the layout: headings, paragraphs, turns, clauses, definitions.

Each line of a text is named by a pattern (in prose or in code), and scored by its name, by what stands above it, and by
its indent; a candidate inside a line scores low.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from blockrag.documents import media
from blockrag.progress import OnProgress
from blockrag.segment.base import Segmenter
from blockrag.segment.markup import find_markup, guess_markup

_MARKS = re.compile(r"`+|~+")
_BODY = re.compile(r"\S[^\n\r\f\v\x1c-\x1e\x85\u2028\u2029]*")
_NUMERAL = r"(?:[IVXLC]+|\d+|[A-Z])\b"

# Order matters: the first pattern that matches at the beginning of a line's text names its kind.
_PROSE = {
    "fence": r"```|~~~",
    "heading": r"\#{1,6}[ \t]+\S|(?:=[ ]?){1,6}[^\s=].*=$",
    "rule": r"(?P<mark>[-=~*_^+#\"'`:.])(?:[ \t]?(?P=mark)){2,}$",
    "table": r"[|]|\+[-=]",
    "mail": r"From:[ ]|From[ ]\S+@\S+|-{3,}[ ]?Original[ ]Message|On[ ].{5,90}[ ]wrote:$",
    "article": rf"(?i:article|chapter|part|appendix|schedule|exhibit|annex)[ ]{_NUMERAL}",
    "section": rf"(?:SECTION|Section|§§?)[ ]?{_NUMERAL}",
    "turn": r"\[\d{4}-\d\d-\d\d(?:[ ]\d\d:\d\d)?\][ ]"
    r"|[\[(]?\d{1,2}:\d\d(?::\d\d)?(?:[ ]?[AaPp]\.?[Mm]\.?)?[\])]?[ \t]*\S|<[\w-]{1,30}>[ ]"
    r"|\*{0,2}[A-Z][\w.'’-]{0,24}(?:[ ][A-Z\d(][\w.'’)-]{0,24}){0,4}(?::\*{0,2}|\*\*:)(?:[ \t]+\S|$)",
    "clause": r"\d{1,3}(?:\.\d{1,3})*[.)]?[ \t]+[\"“(]?[A-Z]",
    "item": r"[-*+•–][ \t]|[(]?(?:[a-z]|[ivx]{1,4}|\d{1,3})[.)][ \t]",
    "capitals": r"(?=(?:[^a-zA-Z\n]*[A-Z]){4})[^a-z\n]{4,80}$",
}
_MODIFIERS = (
    r"(?:(?:export|default|public|private|protected|internal|abstract|final|static|async|unsafe|extern|inline|const|"
    r"virtual|override|pub(?:\([^)]*\))?)[ ]+)*"
)
_CODE = {
    "lead": r"@\w|//|/\*|\*[ /]|\*$|\#(?!\s*(?:include|define|if|el|end|pragma|undef)\b)|--[ ]|<!--",
    "class": rf"{_MODIFIERS}(?:class|struct|enum|interface|trait|impl|union|mod|module|namespace|type)\b"
    r"|typedef\b",
    "function": rf"{_MODIFIERS}(?:def|func|function|fn|fun|sub|proc|macro_rules!)\b"
    r"|[\w.]+[ ]*[=:][ ]*(?:async[ ]+)?(?:function\b|\([^)]*\)[ ]*=>)"
    r"|(?!(?:return|if|else|for|while|switch|case|throw|new|await|raise|assert|print|elif|with|yield|do)\b)"
    r"[A-Za-z_][\w<>\[\], *&:]*[ *&][\w:~]+[ ]?\([^;=]*$",
}

_SAMPLE_CHARS = 100_000
_MOST_CHARS = 1_000
"""Characters of a line that decide its kind."""
_CODE_SHARE = 0.3  # of lines; measured: 0.35 to 0.97 in source files of eight languages, below 0.3 in nearly all prose
_CODE_LINE = re.compile(
    r"(?:def|class|func|fn|function|import|from|package|use|using|return|const|let|var|static|pub)\b[^.]*$"
    r"|(?:if|for|while|elif|else|try|except|switch)\b.*[:{]$|#(?:include|define|if|endif)|//|/\*|@\w+|.*[;{}]$"
    r"|[\w.]+(?:\[[^]]*\])? [-+|]?= |[\w.]+\(.*\)$|[\])}]+,?$"
)

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
"""Subtracted from a numbered clause's score for each level of its number."""
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

_TITLE_CHARS = 80
_PARAGRAPH_CHARS = 60
_FIELD = re.compile(r"[A-Z][\w-]{1,30}:(?: |$)")


class Structural(Segmenter):
    """Scores a candidate by the kind of line that begins there; the numbers are in `SCORES`.

    A heading belongs to the text below it: it scores, and what follows it scores 0. A definition in code takes along
    its decorators and the comments right above it. Inside tables and fenced code hardly anything scores.
    """

    name = "structural"

    def score(self, text: str, candidates: np.ndarray, on_progress: OnProgress | None = None) -> np.ndarray:
        """See `Segmenter`."""
        graded = list(_grade_code(text) if _looks_like_code(text) else _grade_prose(text))
        if not graded:
            return np.zeros(len(candidates), np.float32)
        starts = np.array([grade.start for grade in graded])
        line = np.searchsorted(starts, candidates, "right") - 1  # of each candidate; -1 before the first
        is_start = starts[line] == candidates
        at_start = np.array([grade.at_start for grade in graded], np.float32)[line]
        inside = np.array([grade.inside for grade in graded], np.float32)[line]
        return _with_markup(text, candidates, np.where(is_start, at_start, inside))


def _with_markup(text: str, candidates: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """`scores`, but those of headings and of code in LaTeX, org and AsciiDoc by their mark-up."""
    if guess_markup(text[:_SAMPLE_CHARS]) not in (media.TEX, media.ORG, media.ASCIIDOC):
        return scores
    headings, units = find_markup(text, media.TEXT)
    for start, end in units:
        scores[np.searchsorted(candidates, start, "right") : np.searchsorted(candidates, end)] = BURIED
    outermost = min((heading.depth for heading in headings), default=1)
    for heading in headings:
        i = int(np.searchsorted(candidates, heading.start))
        if i < len(candidates) and candidates[i] == heading.start:
            scores[i] = HEADINGS[min(heading.depth - outermost, len(HEADINGS) - 1)]
    return scores


class _Line(NamedTuple):
    """One line that has a visible character."""

    start: int
    """Offset of its first visible character."""
    body: str
    """From there to the last visible character of the line."""
    indent: int
    """Characters of white space before `start` on the same line."""
    is_loose: bool
    """Whether a blank line, a page break or nothing at all comes before."""
    begins_page: bool
    """Whether a page break comes before."""
    kind: str
    """Name of the pattern that it matches; ``plain`` for none."""


def _read_lines(text: str, patterns: dict[str, str]) -> Iterator[_Line]:
    """Lines of `text` in order, named by `patterns` (`_PROSE` or `_CODE`)."""
    kinds = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in patterns.items()))
    end = 0
    for found in _BODY.finditer(text):
        gap, body = text[end : found.start()], found[0].rstrip()
        kind = kinds.match(body, 0, _MOST_CHARS)
        yield _Line(
            start=found.start(),
            body=body,
            indent=len(gap) - len(gap.rstrip(" \t")),
            is_loose=not end or "\f" in gap or max(gap.count("\n"), gap.count("\r")) > 1,
            begins_page="\f" in gap,
            kind=kind.lastgroup or "plain" if kind else "plain",
        )
        end = found.end()


def _looks_like_code(text: str) -> bool:
    """Whether `text` is a program, rather than prose that may quote one in fenced blocks."""
    bodies = _without_fenced([found[0].rstrip() for found in _BODY.finditer(text, 0, _SAMPLE_CHARS)])
    return sum(_CODE_LINE.match(body, 0, _MOST_CHARS) is not None for body in bodies) > _CODE_SHARE * len(bodies)


def _without_fenced(bodies: list[str]) -> list[str]:
    """Lines outside fenced blocks; a block that never ends is none."""
    kept, held, fence = [], [], ""
    for body in bodies:
        mark = _MARKS.match(body)
        if fence:
            held.append(body)
            if body.startswith(fence):
                held, fence = [], ""
        elif mark and len(mark[0]) >= 3:
            held, fence = [body], mark[0]
        else:
            kept.append(body)
    return kept + held


@dataclass
class _Grade:
    """Scores of one line: at its first visible character, offset `start`, and at the sentences inside it."""

    start: int
    at_start: float
    inside: float


def _score_by_kind(line: _Line, kind: str) -> float:
    """Score of `line` as a line of `kind`, whatever stands around it."""
    if kind == "heading":
        return HEADINGS[min(_depth(line), len(HEADINGS)) - 1]
    if line.begins_page and line.body[0].islower():
        return SCORES["plain"][False]
    score = SCORES[kind][line.is_loose]
    if line.begins_page:
        score = max(score, PAGE)
    if kind == "clause":
        score -= CLAUSE_STEP * min(_depth(line), len(HEADINGS))
    return score * INDENTED if line.indent else score


def _depth(line: _Line) -> int:
    """Depth of a heading's marks (``##`` is 2) or a clause's number (``3.1`` is 2); 1 for any other line."""
    marks = re.match(r"[#= ]*", line.body)[0]  # type: ignore[index]  # matches the empty string at least
    number = re.match(r"\d+(?:\.\d+)*", line.body)
    return max(1, marks.count("#") + marks.count("="), number[0].count(".") + 1 if number else 0)


def _grade_code(text: str) -> Iterator[_Grade]:
    """Grades of the lines of a program, in order.

    A definition passes its score on to the first of the comments and decorators that stand right above it.
    """
    lead: list[_Grade] = []  # comments and decorators that may belong to a definition
    in_comment = False
    for line in _read_lines(text, _CODE):
        kind = "lead" if in_comment else line.kind
        in_comment = (in_comment or line.body.startswith("/*")) and "*/" not in line.body
        grade = _Grade(line.start, _score_by_kind(line, kind), BURIED)
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


def _grade_prose(text: str) -> list[_Grade]:
    """Grades of the lines of anything but a program, in order."""
    reader = _Reader()
    for line in _read_lines(text, _PROSE):
        reader.read(line)
    return reader.grades


class _Reader:
    """Grades one line after another; remembers what a line's score depends on besides the line."""

    def __init__(self) -> None:
        self.grades: list[_Grade] = []
        self._above: deque[_Line] = deque(maxlen=2)
        self._fence = ""  # what closes the fenced block that the next line is in
        self._title: _Line | None = None  # the title that the next line stands below
        self._in_header = False  # of an e-mail
        self._styles: dict[tuple[str, bool], int] = {}  # depth of each style of underlined heading

    def read(self, line: _Line) -> None:
        """Grade the next line, and the one above anew if this one shows it to be a heading."""
        if line.kind == "heading" and line.indent:
            line = line._replace(kind="plain")  # a comment in an indented example
        if self._fence:
            self._add(line, FENCED[line.is_loose], BURIED)
            self._fence = "" if self._closes_fence(line) else self._fence
        elif self._is_underline(line):
            self._underline(line)
        else:
            self._entitle(line)
            self._read_ordinary(line)

    def _read_ordinary(self, line: _Line) -> None:
        self._in_header = line.kind == "mail" or (self._in_header and _is_field(line))
        is_inner_field = self._in_header and line.kind != "mail"
        is_content = self._title is not None and _is_content(line, self._title)
        score = 0.0 if is_inner_field or is_content else _score_by_kind(line, line.kind)
        is_title = line.kind == "heading" or (line.kind in TITLES and _is_short(line))
        self._add(line, score, 0.0 if is_title else BURIED if line.kind == "table" else SENTENCE)
        self._title = line if is_title else None
        self._fence = _MARKS.match(line.body)[0] if line.kind == "fence" else ""  # type: ignore[index]

    def _closes_fence(self, line: _Line) -> bool:
        """Whether `line` is nothing but the mark of the open fence, at least as long (CommonMark 4.5)."""
        return line.body.startswith(self._fence) and not line.body.strip(self._fence[0] + " \t")

    def _entitle(self, line: _Line) -> None:
        """Make a title of the line above if it is short and alone, and `line` begins a paragraph below it."""
        above = self._above[-1] if self._above else None
        if above is None or above.kind != "plain" or line.kind != "plain" or not line.is_loose:
            return
        if _is_short(above) and above.body[0].isupper() and len(line.body) > max(_PARAGRAPH_CHARS, len(above.body)):
            grade = self.grades[-1]
            if grade.at_start:  # 0 right below another title, which it stays
                grade.at_start = _score_by_kind(above, "title")
            grade.inside = 0.0
            self._title = above._replace(kind="title")

    def _is_underline(self, line: _Line) -> bool:
        """Whether `line` makes a heading of the line above it (setext, reStructuredText)."""
        if line.kind != "rule" or line.is_loose or " " in line.body or not self._above:
            return False
        above = self._above[-1]
        return above.kind not in ("rule", "table", "fence") and (above.is_loose or self._has_overline(line))

    def _has_overline(self, line: _Line) -> bool:
        """Whether the line above stands between two rules of the same mark."""
        if len(self._above) < 2 or self._above[1].is_loose:
            return False
        return self._above[0].kind == "rule" and self._above[0].body[0] == line.body[0]

    def _underline(self, line: _Line) -> None:
        has_overline = self._has_overline(line)
        style = (line.body[0], has_overline)
        rank = self._styles.setdefault(style, len(self._styles))
        title = self.grades[-1]
        title.inside = 0.0
        first = self.grades[-2] if has_overline else title
        if has_overline:
            title.at_start = 0.0
        if first.at_start:  # 0 right below another heading, which it stays
            first.at_start = HEADINGS[min(rank, len(HEADINGS) - 1)]
        self._add(line, 0.0, 0.0)
        self._title = line

    def _add(self, line: _Line, at_start: float, inside: float) -> None:
        self.grades.append(_Grade(line.start, at_start, inside))
        self._above.append(line)


def _is_short(line: _Line) -> bool:
    """Whether `line` may be a title: below a blank line, short, not ended like a sentence."""
    return line.is_loose and len(line.body) <= _TITLE_CHARS and line.body[-1] not in ".;:,!?"


def _is_field(line: _Line) -> bool:
    """Whether `line` continues the header of an e-mail."""
    return not line.is_loose and _FIELD.match(line.body) is not None


def _is_content(line: _Line, title: _Line) -> bool:
    """Whether `line`, right below `title`, belongs to it; titles side by side do not."""
    return line.kind != title.kind or _depth(line) > _depth(title)
