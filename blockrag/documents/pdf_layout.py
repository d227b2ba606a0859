"""Reading order of a PDF page: lines, columns, tables and paragraphs, from the boxes of its text."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import TypeVar

from blockrag.documents import markdown
from blockrag.documents.pdf_words import HYPHEN, Segment

T = TypeVar("T")

PARAGRAPH_GAP = 1.25
"""A paragraph ends where lines are further apart than this, in multiples of the page's usual distance."""

TABLE_GAP = 1.45
"""A table ends where rows are further apart than this, in multiples of its usual distance."""

GUTTER = 0.8
"""Least width of the gap between columns, in multiples of the letters' height."""

MIN_WORDS, MIN_FILL = 2.5, 0.7
"""Columns of running text have more words a line, and fuller lines, than columns of a table."""

MAX_INDENT, MAX_WORD = 80, 60
"""Most spaces before a line of code, and most letters of a word that a hyphen divides."""

MAX_ROWS = 2_000
"""A page with more lines is read line by line: looking for its columns would take too long."""

_ITEM = re.compile(r"(\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]\s|\(\w{1,4}\)\s|[-•‣◦▪*–—]\s")
_MARK = re.compile(r"(\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]|\(\w{1,4}\)|[-•‣◦▪*–—]")
_FIRST_PARTS = frozenset(
    "all anti co cross ex far half high ill long low mid multi near non post pre pro quasi self semi short so two well"
    " three four five six seven eight nine ten old new open free full".split()
)
"""English words that keep their hyphen before a small letter: well-known, self-made."""


@dataclass(slots=True)
class Row:
    """Segments on one line, from left to right."""

    segments: list[Segment]

    @property
    def text(self) -> str:
        """The segments' text."""
        return " ".join(segment.text for segment in self.segments)

    @property
    def is_form(self) -> bool:
        """Whether a form's value stands in it."""
        return any(segment.field for segment in self.segments)

    @property
    def is_mono(self) -> bool:
        """Whether its letters are all of one width."""
        return all(segment.mono for segment in self.segments)

    @property
    def x0(self) -> float:
        """Where it begins."""
        return min(segment.x0 for segment in self.segments)

    @property
    def x1(self) -> float:
        """Where it ends."""
        return max(segment.x1 for segment in self.segments)

    @property
    def middle(self) -> float:
        """Height of the line's middle."""
        return max(self.segments, key=lambda segment: segment.height).middle

    @property
    def height(self) -> float:
        """Of its letters."""
        return max(segment.height for segment in self.segments)


@dataclass(slots=True)
class Band:
    """Rows from `start` to `end` that a gap divides into columns; `gutters` are the gaps."""

    start: int
    end: int
    gutters: list[tuple[float, float]]


def rows_of(found: Iterable[Segment]) -> list[Row]:
    """Lines from top to bottom. Text that is turned otherwise than most of the page comes last."""
    rows: list[Row] = []
    by_turn: dict[int, list[Segment]] = {}
    for segment in found:
        by_turn.setdefault(segment.turn, []).append(segment)
    for group in sorted(by_turn.values(), key=len, reverse=True):
        current: Row | None = None
        for segment in sorted(group, key=lambda s: -s.middle):
            if current and abs(segment.middle - current.middle) < 0.4 * min(current.height, segment.height):
                current.segments.append(segment)
            else:
                current = Row([segment])
                rows.append(current)
    for row in rows:
        row.segments.sort(key=lambda segment: segment.x0)
        row.segments = _merged_fields(row.segments)
        if sum(_is_rtl(segment.text) for segment in row.segments) > len(row.segments) / 2:
            row.segments.reverse()
    return rows


def text_of(rows: list[Row], width: float, vocabulary: frozenset[str] = frozenset(), depth: int = 0) -> str:
    """Text of an area in reading order.

    Parameters
    ----------
    rows : list of Row
        From top to bottom.
    width : float
        Of the page or column, in points.
    vocabulary : set of str
        Words of the document, which decide whether a hyphen at a line's end belongs to its word.
    """
    bands = _bands(rows) if depth < 3 and len(rows) <= MAX_ROWS else []
    plain = [row for i, row in enumerate(rows) if not any(band.start <= i < band.end for band in bands)]
    edge = _edge(plain, width)
    parts, done = [], 0
    for band in bands:
        parts.append(_lines(rows[done : band.start], edge, vocabulary))
        parts.append(_band_text(rows[band.start : band.end], band.gutters, vocabulary, depth))
        done = band.end
    parts.append(_lines(rows[done:], edge, vocabulary))
    return "\n\n".join(part for part in parts if part)


def _merged_fields(segments: list[Segment]) -> list[Segment]:
    """A form's value follows the text on its left."""
    merged: list[Segment] = []
    for segment in segments:
        if segment.field and merged:
            before = merged[-1]
            text = f"{before.text} {segment.text}"
            merged[-1] = Segment(text, before.x0, segment.x1, before.bottom, before.top, before.turn, field=True)
        else:
            merged.append(segment)
    return merged


def _is_rtl(text: str) -> bool:
    return any(unicodedata.bidirectional(char) in ("R", "AL") for char in text)


# Columns


def _bands(rows: list[Row]) -> list[Band]:
    """Stretches of rows that are columns or tables: the longest first, without overlap; in order."""
    candidates: list[tuple[int, int, float, float]] = []
    for i, row in enumerate(rows):
        if row.is_mono:
            continue  # code and typewritten tables keep their spaces
        for left, right in _gaps(rows, i):
            if any(a <= i < b and left < hi and lo < right for a, b, lo, hi in candidates):
                continue  # of a band that was found already
            if right - left >= GUTTER * row.height:
                candidates.append(_extended(rows, i, left, right))
    chosen: list[Band] = []
    for start, end, *_ in sorted(candidates, key=lambda c: c[0] - c[1]):
        if all(end <= band.start or band.end <= start for band in chosen):
            gutters = _gutters(rows[start:end])
            start, end = _trimmed(rows, start, end, gutters)
            gutters = _gutters(rows[start:end]) if start < end else []
            if gutters and _is_band(rows[start:end], gutters):
                chosen.append(Band(start, end, gutters))
    return sorted(chosen, key=lambda band: band.start)


def _gaps(rows: list[Row], i: int) -> list[tuple[float, float]]:
    """Gaps between the segments of a row, and between single segments of this row and the next."""
    ordered = sorted(rows[i].segments, key=lambda s: s.x0)
    gaps = [(a.x1, b.x0) for a, b in zip(ordered, ordered[1:], strict=False)]
    if i + 1 < len(rows) and len(ordered) == 1 == len(rows[i + 1].segments):
        a, b = sorted((ordered[0], rows[i + 1].segments[0]), key=lambda s: s.x0)
        if abs(a.middle - b.middle) < max(a.height, b.height):
            gaps.append((a.x1, b.x0))
    return gaps


def _extended(rows: list[Row], i: int, left: float, right: float) -> tuple[int, int, float, float]:
    """Rows up and down from `i` whose text leaves the gap free, and what is free of it in all of them."""
    start = end = i
    for step in (1, -1):
        j = i
        while 0 <= j < len(rows):
            narrowed = None if rows[j].is_mono else _narrowed(rows[j], left, right)
            if narrowed is None:
                break
            left, right = narrowed
            start, end = min(start, j), max(end, j)
            j += step
    return start, end + 1, left, right


def _narrowed(row: Row, left: float, right: float) -> tuple[float, float] | None:
    """The widest part of a gap that a row leaves free; None if it is too narrow."""
    free, at = [], left
    for segment in sorted(row.segments, key=lambda s: s.x0):
        if segment.x1 > left and segment.x0 < right:
            free.append((at, segment.x0))
            at = max(at, segment.x1)
    free.append((at, right))
    best = max(free, key=lambda gap: gap[1] - gap[0])
    return best if best[1] - best[0] >= GUTTER * row.height else None


def _gutters(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Gaps that all rows leave free."""
    spans = sorted((segment.x0, segment.x1) for row in rows for segment in row.segments)
    least = GUTTER * median(row.height for row in rows)
    gutters, reach = [], spans[0][1]
    for x0, x1 in spans:
        if x0 - reach >= least:
            gutters.append((reach, x0))
        reach = max(reach, x1)
    return gutters


def _column(segment: Segment, gutters: list[tuple[float, float]]) -> int:
    return sum(segment.x0 >= right - 0.01 for _, right in gutters)


def _trimmed(rows: list[Row], start: int, end: int, gutters: list[tuple[float, float]]) -> tuple[int, int]:
    """The band of a table without lines above and below it, which happen to be short."""
    if not gutters or _is_prose(rows[start:end], gutters):
        return start, end
    several = [i for i in range(start, end) if len({_column(s, gutters) for s in rows[i].segments}) > 1]
    if not several:
        return start, start
    start, last = several[0], several[-1]
    pitches = [a - b for a, b in _pairs([row.middle for row in rows[start : last + 1]])]
    usual = median(pitches) if pitches else 0
    while last + 1 < end and rows[last].middle - rows[last + 1].middle < TABLE_GAP * usual:
        if 0 in {_column(s, gutters) for s in rows[last + 1].segments}:
            break  # a line of text below the table
        last += 1
    for i, pitch in enumerate(pitches, start):
        if pitch > 2 * TABLE_GAP * usual:  # the longest part; the rest is looked at as lines
            return (start, i + 1) if i + 1 - start >= last - i else (i + 1, last + 1)
    return start, last + 1


def _is_band(rows: Sequence[Row], gutters: list[tuple[float, float]]) -> bool:
    columns: dict[int, list[Segment]] = {}
    for row in rows:
        for segment in row.segments:
            columns.setdefault(_column(segment, gutters), []).append(segment)
    if len(columns) < 2 or any(segment.field for row in rows for segment in row.segments):
        return False
    if _is_prose(rows, gutters):
        return all(len(column) >= 3 for column in columns.values())
    if all(_MARK.fullmatch(segment.text) for segment in columns.get(0, [])):
        return False  # a list
    if len(columns) == 2 and all(segment.text.endswith(":") for segment in columns.get(0, [])):
        return False  # labels with their values
    n_several = sum(len({_column(s, gutters) for s in row.segments}) > 1 for row in rows)
    return n_several >= (2 if len(gutters) > 1 else 3)


def _is_prose(rows: Sequence[Row], gutters: list[tuple[float, float]]) -> bool:
    """Whether columns hold running text: several words a line, and lines that fill the column."""
    columns: dict[int, list[Segment]] = {}
    for row in rows:
        for segment in row.segments:
            columns.setdefault(_column(segment, gutters), []).append(segment)
    if len(columns) > 4:
        return False
    for column in columns.values():
        widest = max(s.x1 for s in column) - min(s.x0 for s in column)
        words = mean(_n_words(s.text) for s in column)
        if len(column) < 2 or words < MIN_WORDS or mean(s.x1 - s.x0 for s in column) < MIN_FILL * widest:
            return False
    return True


def _n_words(text: str) -> float:
    """Words of a text; those of scripts without spaces are taken to be of three characters."""
    return max(len(text.split()), sum(map(_is_wide, text)) / 3)


def _band_text(rows: list[Row], gutters: list[tuple[float, float]], vocabulary: frozenset[str], depth: int) -> str:
    if not _is_prose(rows, gutters):
        return _table(rows, gutters)
    columns: list[list[Segment]] = [[] for _ in range(len(gutters) + 1)]
    for row in rows:
        for segment in row.segments:
            columns[_column(segment, gutters)].append(segment)
    if sum(_is_rtl(row.text) for row in rows) > len(rows) / 2:
        columns.reverse()
    text = ""
    for column in filter(None, columns):
        width = max(s.x1 for s in column) - min(s.x0 for s in column)
        after = text_of(rows_of(column), width, vocabulary, depth + 1)
        text = _joined_columns(text, after, vocabulary) if text else after
    return text


def _joined_columns(text: str, after: str, vocabulary: frozenset[str]) -> str:
    """A sentence goes on at the top of the next column."""
    if text.endswith((HYPHEN, "-")) and after[:1].isalpha():
        return "".join(_mended(text, after, vocabulary))
    return f"{text} {after}" if text[-1:] not in ".!?:|" and after[:1].islower() else f"{text}\n\n{after}"


def _table(rows: list[Row], gutters: list[tuple[float, float]]) -> str:
    pitches = [a - b for a, b in _pairs([row.middle for row in rows])]
    usual = median(pitches) if pitches else 0
    cells: list[list[str]] = []
    for i, row in enumerate(rows):
        line = [""] * (len(gutters) + 1)
        for segment in row.segments:
            column = _column(segment, gutters)
            line[column] = f"{line[column]} {segment.text}".strip()
        goes_on = cells and not line[0] and rows[i - 1].middle - row.middle < 0.8 * usual
        if goes_on:  # a cell of several lines
            cells[-1] = [f"{a} {b}".strip() for a, b in zip(cells[-1], line, strict=True)]
        else:
            cells.append(line)
    return markdown.table([[cell.replace(HYPHEN, "-") for cell in line] for line in cells])


# Lines and paragraphs


def _edge(rows: Sequence[Row], width: float) -> float | None:
    """Where text is wrapped: the right end of the longest line, if lines reach it as wrapped ones do."""
    if not rows:
        return None
    left, right = min(row.x0 for row in rows), max(row.x1 for row in rows)
    if right >= width - 1.25 * max(left, 0) - 0.08 * width and right - left > 0.6 * width:
        return right  # the margins are alike
    if all(row.is_mono for row in rows):
        return None  # code
    reach = short = 0
    for row, following in _pairs(rows):
        if _reaches(row, following, right):
            reach += not following.text[:1].isupper() and not following.text[:1].isdigit()
        elif row.text[-1:] not in ".!?:;" and row.middle - following.middle < 2 * row.height:
            short += 1
    return right if reach >= 2 and reach > short else None


def _reaches(row: Row, following: Row, edge: float) -> bool:
    """Whether the first word of the next line had no room on this one."""
    text = following.text
    n_first = 1 if _is_wide(text[:1]) else len(text.partition(" ")[0])
    first = (following.x1 - following.x0) * n_first / max(len(text), 1)
    return row.x1 + 0.2 * row.height + first > edge - 0.3 * row.height


def _lines(rows: Sequence[Row], edge: float | None, vocabulary: frozenset[str]) -> str:
    if not rows:
        return ""
    gaps = [above.middle - below.middle for above, below in _pairs(rows)]
    usual = median([gap for gap in gaps if gap > 0] or [0])
    parts = [_indented(rows[0], rows)]
    for gap, (row, following) in zip(gaps, _pairs(rows), strict=True):
        far = bool(usual) and (gap > PARAGRAPH_GAP * usual or gap < 0)
        if far or _ITEM.match(following.text) or not _goes_on(row, following, edge):
            parts += ["\n\n" if far else "\n", _indented(following, rows)]
        else:
            parts += _mended(parts.pop(), following.text, vocabulary)
    return "".join(parts).replace(HYPHEN, "-")


def _indented(row: Row, rows: Sequence[Row]) -> str:
    """A line with the spaces before and in it, where letters are all of one width, as in code."""
    first = row.segments[0]
    if not row.is_mono:
        return row.text
    pitch, at = (first.x1 - first.x0) / len(first.text), min(other.x0 for other in rows if other.is_mono)
    text = ""
    for segment in row.segments:
        n_spaces = round((segment.x0 - at) / pitch) if pitch > 0 else 0
        text += " " * min(max(n_spaces, bool(text)), MAX_INDENT) + segment.text
        at = segment.x1
    return text


def _goes_on(row: Row, following: Row, edge: float | None) -> bool:
    if row.text.endswith(HYPHEN):
        return following.text[:1].isalpha()
    if row.is_form or following.is_form or edge is None or not _reaches(row, following, edge):
        return False
    indented = following.x0 - row.x0 > 0.8 * row.height and not _ITEM.match(row.text)
    return not (indented and row.text[-1:] in ".!?:")


def _mended(text: str, after: str, vocabulary: frozenset[str]) -> list[str]:
    """Parts of two lines as one. A hyphen goes before a small letter, unless it belongs to the word."""
    if not (text.endswith(HYPHEN) or re.search(r"[^\W\d_]-$", text[-2:])):
        return [text, "" if _is_wide(text[-1:]) and _is_wide(after[:1]) else " ", after]
    text = text[:-1]
    first = re.split(r"[^\w-]", text[-MAX_WORD:])[-1]
    rest = re.match(r"[\w-]*", after)[0]  # type: ignore[index]
    keeps = not after[:1].islower() or first.lower() in _FIRST_PARTS or f"{first}-{rest}".lower() in vocabulary
    if keeps and f"{first}{rest}".lower() not in vocabulary:
        return [text, "-", after]
    return [text, after]


def _is_wide(char: str) -> bool:
    """Of a script that puts no spaces between words."""
    return bool(char) and unicodedata.east_asian_width(char) in "WF" and not "\uac00" <= char <= "\ud7a3"


def _pairs(items: Sequence[T]) -> list[tuple[T, T]]:
    return list(zip(items, items[1:], strict=False))
