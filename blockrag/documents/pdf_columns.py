"""Columns and tables of a PDF page, found by the gaps between its text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, median

from blockrag.documents import markdown
from blockrag.documents.pdf_rows import Row, is_wide, pairs
from blockrag.documents.pdf_words import HYPHEN, Segment

TABLE_GAP = 1.45
"""A table ends where rows are further apart than this, in multiples of its usual distance."""

LINE_GAP = 1.3
"""Lines of one column are not further apart than this, in multiples of the column's usual distance."""

GUTTER, PROSE_GUTTER = 0.3, 0.8
"""Least width of the gap between columns of a table and of running text, in multiples of the letters' height."""

MIN_WORDS, MIN_FILL = 2.5, 0.7
"""Columns of running text have more words a line, and fuller lines, than columns of a table."""

FULL_WORDS, FULL_FILL, MIN_FULL, FULL_SHARE = 4, 0.85, 5, 0.4
"""A column of running text with other things in it has at least `MIN_FULL` lines, and this share of its lines, of so
many words that fill it so far."""

MIN_NEAR = 2
"""Rows that must leave a gap free where a near row has a wide blank alone."""

MIN_TABLE, TITLE_SIZE = 3, 1.2
"""Fewest rows of a table across columns of text; least height of a title above them, in multiples of their letters'."""

MAX_BREAK = 2.1
"""Rows further apart than this, in multiples of their usual distance, are of different tables."""

MAX_COLUMNS = 4
"""Most columns of running text."""

MAX_BANDS = 500
"""Most stretches of a page that are looked at."""

_MARK = re.compile(r"\d{1,3}(\.\d{1,3})+|(\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]|\(\w{1,4}\)|[-•‣◦▪*–—]")


@dataclass(slots=True)
class Band:
    """Rows from `start` to `end` that a gap divides into columns; `gutters` are the gaps."""

    start: int
    end: int
    gutters: list[tuple[float, float]]


def bands_of(rows: list[Row]) -> list[Band]:
    """Stretches of rows that are columns or tables: the longest first, without overlap; in order."""
    _part_columns(rows)
    candidates: list[tuple[int, int, float, float]] = []
    for i, row in enumerate(rows):
        if row.is_mono or row.is_block:
            continue  # code and typewritten tables keep their spaces
        for left, right in _gaps(rows, i):
            if any(a <= i < b and left < hi and lo < right for a, b, lo, hi in candidates):
                continue  # of a band that was found already
            if right - left >= GUTTER * row.height and len(candidates) < MAX_BANDS:
                candidates.append(_extended(rows, i, left, right))
    chosen: list[Band] = []
    for start, end, *_ in sorted(candidates, key=lambda c: c[0] - c[1]):
        if all(end <= band.start or band.end <= start for band in chosen):
            gutters = _gutters(rows[start:end])
            start, end = _with_ends(rows, *_trimmed(rows, start, end, gutters))
            gutters = _gutters(rows[start:end]) if start < end else []
            if gutters and _is_band(rows[start:end], gutters):
                chosen += _parted(rows, start, end, gutters)
    return sorted(chosen, key=lambda band: band.start)


def _parted(rows: list[Row], start: int, end: int, gutters: list[tuple[float, float]]) -> list[Band]:
    """A band of running text, parted where a table stands across its columns; without a title above it."""
    if not is_prose(rows[start:end], gutters):
        return [Band(start, end, gutters)]
    if _is_title(rows[start], rows[start + 1 : end]):
        start += 1
    pitches = [a - b for a, b in pairs([row.middle for row in rows[start:end]])]
    most = LINE_GAP * median(pitches)
    cuts = [start, *(i for i, pitch in enumerate(pitches, start + 1) if pitch > most), end]
    bands, begin = list[Band](), start
    for first, last in pairs(cuts):
        inner = _gutters(rows[first:last])
        if last - first < MIN_TABLE or len(inner) <= len(gutters):
            continue
        is_table = all(n_words(s.text) < FULL_WORDS for row in rows[first:last] for s in row.segments)
        if is_table and _is_band(rows[first:last], inner) and not is_prose(rows[first:last], inner):
            bands += [Band(begin, first, gutters)] * (first > begin) + [Band(first, last, inner)]
            begin = last
    return bands + [Band(begin, end, gutters)] * (end > begin)


def _is_title(row: Row, below: Sequence[Row]) -> bool:
    """Whether a row stands in larger letters in the middle above columns."""
    if len(row.segments) > 1 or not below:
        return False
    left, right = min(other.x0 for other in below), max(other.x1 for other in below)
    is_central = abs(row.x0 + row.x1 - left - right) < 2 * row.height and row.x0 > left + row.height
    return is_central and row.height > TITLE_SIZE * median(other.height for other in below)


def _part_columns(rows: list[Row]) -> None:
    """Part segments at wide blanks that continue a gap of the rows near them: columns may be nearer in one row."""
    gaps = [[(a.x1, b.x0) for a, b in pairs(sorted(row.segments, key=lambda s: s.x0))] for row in rows]
    for i, row in enumerate(rows):
        if row.is_mono or row.is_block or not any(segment.blanks for segment in row.segments):
            continue
        near = [j for j in range(i - 2, i + 3) if 0 <= j < len(rows) and 0 < abs(j - i)]
        near = [j for j in near if abs(rows[j].middle - row.middle) < 2.5 * abs(j - i) * row.height]
        least, parts = GUTTER * row.height, []
        for segment in row.segments:
            for offset, left, right in reversed([blank for blank in segment.blanks if blank[0]]):
                n_rows = sum(any(min(b, right) - max(a, left) >= least for a, b in gaps[j]) for j in near)
                if n_rows >= MIN_NEAR:
                    parts.append(replace(segment, text=segment.text[offset:], x0=right, blanks=[]))
                    segment.text, segment.x1 = segment.text[: offset - 1], left
            parts.append(segment)
        row.segments = sorted(parts, key=lambda s: s.x0, reverse=row.segments[0].x0 > row.segments[-1].x0)


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
            narrowed = None if rows[j].is_mono or rows[j].is_block else _narrowed(rows[j], left, right)
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


def column_of(segment: Segment, gutters: list[tuple[float, float]]) -> int:
    return sum(segment.x0 >= right - 0.01 for _, right in gutters)


def _trimmed(rows: list[Row], start: int, end: int, gutters: list[tuple[float, float]]) -> tuple[int, int]:
    """The band of a table without lines above and below it, which happen to be short."""
    if not gutters or is_prose(rows[start:end], gutters):
        return start, end
    several = [i for i in range(start, end) if len({column_of(s, gutters) for s in rows[i].segments}) > 1]
    if not several:
        return start, start
    start, last = several[0], several[-1]
    pitches = [a - b for a, b in pairs([row.middle for row in rows[start : last + 1]])]
    usual = median(pitches) if pitches else 0
    while last + 1 < end and rows[last].middle - rows[last + 1].middle < TABLE_GAP * usual:
        if 0 in {column_of(s, gutters) for s in rows[last + 1].segments}:
            break  # a line of text below the table
        last += 1
    for i, pitch in enumerate(pitches, start):
        if pitch > MAX_BREAK * usual:  # the longest part; the rest is looked at as lines
            return (start, i + 1) if i + 1 - start >= last - i else (i + 1, last + 1)
    return start, last + 1


def _with_ends(rows: list[Row], start: int, end: int) -> tuple[int, int]:
    """Columns of running text with the lines above and below them that stand in one column alone."""
    gutters = _gutters(rows[start:end]) if start < end else []
    if not gutters or not is_prose(rows[start:end], gutters):
        return start, end
    most = LINE_GAP * median([a - b for a, b in pairs([row.middle for row in rows[start:end]])])
    while start and 0 < rows[start - 1].middle - rows[start].middle < most and _leaves_free(rows[start - 1], gutters):
        start -= 1
    while end < len(rows) and 0 < rows[end - 1].middle - rows[end].middle < most and _leaves_free(rows[end], gutters):
        end += 1
    return start, end


def _leaves_free(row: Row, gutters: list[tuple[float, float]]) -> bool:
    return not (row.is_mono or row.is_block) and all(_narrowed(row, left, right) for left, right in gutters)


def _is_band(rows: Sequence[Row], gutters: list[tuple[float, float]]) -> bool:
    columns: dict[int, list[Segment]] = {}
    for row in rows:
        for segment in row.segments:
            columns.setdefault(column_of(segment, gutters), []).append(segment)
    if len(columns) < 2 or any(segment.field for row in rows for segment in row.segments):
        return False
    if is_prose(rows, gutters):
        wide = PROSE_GUTTER * median(row.height for row in rows)
        return all(len(column) >= 3 for column in columns.values()) and all(b - a >= wide for a, b in gutters)
    if len(columns) == 2 and all(_MARK.fullmatch(segment.text) for segment in columns.get(0, [])):
        return False  # a list
    if len(columns) == 2 and all(segment.text.endswith(":") for segment in columns.get(0, [])):
        return False  # labels with their values
    n_several = sum(len({column_of(s, gutters) for s in row.segments}) > 1 for row in rows)
    return n_several >= (2 if len(gutters) > 1 else 3)


def is_prose(rows: Sequence[Row], gutters: list[tuple[float, float]]) -> bool:
    """Whether columns hold running text: several words a line, and lines that fill the column. Headings, formulas and
    tables may stand between them."""
    columns: dict[int, list[list[Segment]]] = {}
    for row in rows:
        for column, line in _by_column(row, gutters).items():
            columns.setdefault(column, []).append(line)
    return len(columns) <= MAX_COLUMNS and all(map(_is_text, columns.values()))


def _by_column(row: Row, gutters: list[tuple[float, float]]) -> dict[int, list[Segment]]:
    line: dict[int, list[Segment]] = {}
    for segment in row.segments:
        line.setdefault(column_of(segment, gutters), []).append(segment)
    return line


def _is_text(lines: list[list[Segment]]) -> bool:
    """Whether the lines of a column, or many of them, are full of words."""
    segments = [segment for line in lines for segment in line]
    width = max(s.x1 for s in segments) - min(s.x0 for s in segments)
    fill = mean(s.x1 - s.x0 for s in segments)
    if len(segments) > 1 and mean(n_words(s.text) for s in segments) >= MIN_WORDS and fill >= MIN_FILL * width:
        return True
    full = sum(len(line) == 1 and n_words(line[0].text) >= FULL_WORDS and line[0].x1 - line[0].x0 >= FULL_FILL * width
               for line in lines)  # fmt: skip
    return full >= max(MIN_FULL, FULL_SHARE * len(lines))


def n_words(text: str) -> float:
    """Words of a text; those of scripts without spaces are taken to be of three characters."""
    return max(len(text.split()), sum(map(is_wide, text)) / 3)


def table(rows: list[Row], gutters: list[tuple[float, float]]) -> str:
    pitches = [a - b for a, b in pairs([row.middle for row in rows])]
    usual = median(pitches) if pitches else 0
    cells: list[list[str]] = []
    for i, row in enumerate(rows):
        line = [""] * (len(gutters) + 1)
        for segment in row.segments:
            column = column_of(segment, gutters)
            line[column] = f"{line[column]} {segment.text}".strip()
        is_near = bool(cells) and not line[0] and rows[i - 1].middle - row.middle < 0.8 * usual
        if is_near or (cells and not line[0] and _ends(line, cells[-1])):  # a cell of several lines
            cells[-1] = [f"{a} {b}".strip() for a, b in zip(cells[-1], line, strict=True)]
        else:
            cells.append(line)
    return markdown.table([[cell.replace(HYPHEN, "-") for cell in line] for line in cells])


def _ends(line: list[str], above: list[str]) -> bool:
    """Whether the only cell of a row goes on with the sentence above it."""
    filled = [i for i, cell in enumerate(line) if cell]
    return (
        len(filled) == 1 and line[filled[0]][0].islower() and above[filled[0]][-1:] not in ("", ".", ";", ":", "!", "?")
    )
