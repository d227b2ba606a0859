"""Scores of the lines of prose: Markdown, reStructuredText, e-mail, chat, plain text. Knows no candidates."""

import re
from collections import deque

from blockrag.segment.grade import BURIED, FENCED, HEADINGS, SENTENCE, TITLES, Grade, depth, score_by_kind
from blockrag.segment.lines import PROSE, Line, read_lines

_TITLE_CHARS = 80
_PARAGRAPH_CHARS = 60
_FIELD = re.compile(r"[A-Z][\w-]{1,30}:(?: |$)")


def grade_prose(text: str) -> list[Grade]:
    """Grades of the lines of anything but a program, in order."""
    reader = _Reader()
    for line in read_lines(text, PROSE):
        reader.read(line)
    return reader.grades


class _Reader:
    """Grades one line after another; remembers what a line's score depends on besides the line."""

    def __init__(self) -> None:
        self.grades: list[Grade] = []
        self._above: deque[Line] = deque(maxlen=2)
        self._fence = ""  # what closes the fenced block that the next line is in
        self._title: Line | None = None  # the title that the next line stands below
        self._in_header = False  # of an e-mail
        self._styles: dict[tuple[str, bool], int] = {}  # depth of each style of underlined heading

    def read(self, line: Line) -> None:
        """Grade the next line, and the one above anew if this one shows it to be a heading."""
        if line.kind == "heading" and line.indent:
            line = line._replace(kind="plain")  # a comment in an indented example
        if self._fence:
            self._add(line, FENCED[line.is_loose], BURIED)
            self._fence = "" if line.body.startswith(self._fence) else self._fence
        elif self._is_underline(line):
            self._underline(line)
        else:
            self._entitle(line)
            self._read_ordinary(line)

    def _read_ordinary(self, line: Line) -> None:
        self._in_header = line.kind == "mail" or (self._in_header and _is_field(line))
        is_inner_field = self._in_header and line.kind != "mail"
        is_content = self._title is not None and _is_content(line, self._title)
        score = 0.0 if is_inner_field or is_content else score_by_kind(line, line.kind)
        is_title = line.kind == "heading" or (line.kind in TITLES and _is_short(line))
        self._add(line, score, 0.0 if is_title else BURIED if line.kind == "table" else SENTENCE)
        self._title = line if is_title else None
        self._fence = line.body[:3] if line.kind == "fence" else ""

    def _entitle(self, line: Line) -> None:
        """Make a title of the line above if it is short and alone, and `line` begins a paragraph below it."""
        above = self._above[-1] if self._above else None
        if above is None or above.kind != "plain" or line.kind != "plain" or not line.is_loose:
            return
        if _is_short(above) and above.body[0].isupper() and len(line.body) > max(_PARAGRAPH_CHARS, len(above.body)):
            grade = self.grades[-1]
            if grade.at_start:  # 0 right below another title, which it stays
                grade.at_start = score_by_kind(above, "title")
            grade.inside = 0.0
            self._title = above._replace(kind="title")

    def _is_underline(self, line: Line) -> bool:
        """Whether `line` makes a heading of the line above it (setext, reStructuredText)."""
        if line.kind != "rule" or line.is_loose or " " in line.body or not self._above:
            return False
        above = self._above[-1]
        return above.kind not in ("rule", "table", "fence") and (above.is_loose or self._has_overline(line))

    def _has_overline(self, line: Line) -> bool:
        """Whether the line above stands between two rules of the same mark."""
        if len(self._above) < 2 or self._above[1].is_loose:
            return False
        return self._above[0].kind == "rule" and self._above[0].body[0] == line.body[0]

    def _underline(self, line: Line) -> None:
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

    def _add(self, line: Line, at_start: float, inside: float) -> None:
        self.grades.append(Grade(line.start, at_start, inside))
        self._above.append(line)


def _is_short(line: Line) -> bool:
    """Whether `line` may be a title: it is below a blank line, short, and does not end like a sentence."""
    return line.is_loose and len(line.body) <= _TITLE_CHARS and line.body[-1] not in ".;:,!?"


def _is_field(line: Line) -> bool:
    """Whether `line` goes on with the header of an e-mail."""
    return not line.is_loose and _FIELD.match(line.body) is not None


def _is_content(line: Line, title: Line) -> bool:
    """Whether `line`, right below `title`, belongs to it; titles side by side do not."""
    return line.kind != title.kind or depth(line) > depth(title)
