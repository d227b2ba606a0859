"""Reading order of a PDF page: lines, columns, tables and paragraphs, from the boxes of its text."""

import re
from collections.abc import Sequence
from statistics import median

from blockrag.documents import markdown
from blockrag.documents.pdf_columns import bands_of, column_of, is_prose, n_words, table
from blockrag.documents.pdf_rows import Row, is_wide, pairs, rows_of
from blockrag.documents.pdf_words import HYPHEN, Segment, is_rtl

PARAGRAPH_GAP = 1.25
"""A paragraph ends where lines are further apart than this, in multiples of the page's usual distance."""

DOUBLE_GAP, MAX_SPACING = 1.6, 2.2
"""Without a wrapped line, a blank line is between lines further apart than the nearest two, or than their height, by
these factors."""

MAX_INDENT, MAX_WORD = 80, 60
"""Most spaces before a line of code, and most letters of a word that a hyphen divides."""

MAX_ROWS = 2_000
"""A page with more lines is read line by line: looking for its columns would take too long."""

OTHER_SIZE = 1.25
"""Lines whose letters differ in height by more than this factor are of different paragraphs."""

MIN_WRAPPED_WORDS = 4
"""Lines of fewer words, on a page whose text does not reach its margin, are a list."""

MAX_CELL = 1_500
"""A ruled cell with more characters is a frame around text, and no table's."""

_ITEM = re.compile(
    r"\d{1,2}(\.\d{1,2})+\.?\s+(?![a-z])\w|(\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]\s|\(\w{1,4}\)\s|[-•‣◦▪*–—]\s"
)
_FIRST_PARTS = frozenset(
    "all anti co cross ex far half high ill long low mid multi near non post pre pro quasi self semi short so two well"
    " peut celui celle ceux celles nord sud demi vice"
    " three four five six seven eight nine ten old new open free full".split()
)
"""Words of English and French that keep their hyphen before a small letter: well-known, peut-être."""


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
    bands = bands_of(rows) if depth < 3 and len(rows) <= MAX_ROWS else []
    plain = [row for i, row in enumerate(rows) if not any(band.start <= i < band.end for band in bands)]
    edge = _edge(plain, width)
    parts, done = [], 0
    for band in bands:
        parts.append(_lines(rows[done : band.start], edge, vocabulary))
        parts.append(_band_text(rows[band.start : band.end], band.gutters, vocabulary, depth))
        done = band.end
    parts.append(_lines(rows[done:], edge, vocabulary))
    return "\n\n".join(part for part in parts if part)


def _band_text(rows: list[Row], gutters: list[tuple[float, float]], vocabulary: frozenset[str], depth: int) -> str:
    if not is_prose(rows, gutters):
        return table(rows, gutters)
    columns: list[list[Segment]] = [[] for _ in range(len(gutters) + 1)]
    for row in rows:
        for segment in row.segments:
            columns[column_of(segment, gutters)].append(segment)
    if sum(is_rtl(row.text) for row in rows) > len(rows) / 2:
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


# Lines and paragraphs


def _edge(rows: Sequence[Row], width: float) -> float | None:
    """Where text is wrapped: the right end of the longest line, if lines reach it as wrapped ones do."""
    rows = [row for row in rows if not row.is_block]
    if not rows:
        return None
    ends = sorted(row.x1 for row in rows)
    left, right = min(row.x0 for row in rows), ends[-1 - len(ends) // 10]  # some lines hang over
    n_long = sum(end > ends[-1] - 0.05 * width for end in ends)
    for end in (right, ends[-1]) if n_long > 1 else (right,):
        if end >= width - 1.25 * max(left, 0) - 0.08 * width and end - left > 0.6 * width:
            return end  # the margins are alike
    if all(row.is_mono for row in rows):
        return None  # code
    reach = short = 0
    for row, following in pairs(rows):
        if _reaches(row, following, right):
            goes_on = not following.text[:1].isupper() and not following.text[:1].isdigit()
            reach += goes_on and n_words(row.text) >= MIN_WRAPPED_WORDS
        elif row.text[-1:] not in ".!?:;" and row.middle - following.middle < 2 * row.height:
            short += 1
    return right if reach >= 2 and reach > short else None


def _reaches(row: Row, following: Row, edge: float) -> bool:
    """Whether the first word of the next line had no room on this one."""
    text = following.text
    n_first = 1 if is_wide(text[:1]) else len(text.partition(" ")[0])
    first = (following.x1 - following.x0) * n_first / max(len(text), 1)
    return row.x1 + 0.2 * row.height + first > edge - 0.6 * row.height


def with_ruled_tables(found: Sequence[Segment]) -> list[Segment]:
    """The segments of a page, those in a ruled table replaced by its Markdown."""
    tables: dict[int, dict[tuple[int, int], list[Segment]]] = {}
    for segment in found:
        if segment.cell:
            number, row, column = segment.cell
            tables.setdefault(number, {}).setdefault((row, column), []).append(segment)
    written = {}
    for number, cells in tables.items():
        texts = {place: _cell_text(inside) for place, inside in cells.items()}
        if len({column for _, column in cells}) > 1 and max(map(len, texts.values())) <= MAX_CELL:
            written[number] = _ruled_table(texts, [segment for inside in cells.values() for segment in inside])
    kept = [segment for segment in found if not (segment.cell and segment.cell[0] in written)]
    return kept + list(written.values())


def _cell_text(inside: list[Segment]) -> str:
    text = ""
    for row in rows_of(inside):
        text = "".join(_mended(text, row.text, frozenset())) if text else row.text
    return text.replace(HYPHEN, "-")


def _ruled_table(texts: dict[tuple[int, int], str], inside: list[Segment]) -> Segment:
    rows, columns = ({place[axis] for place in texts} for axis in (0, 1))
    grid = [[texts.get((row, column), "") for column in sorted(columns)] for row in sorted(rows)]
    return Segment(
        markdown.table(grid),
        min(segment.x0 for segment in inside),
        max(segment.x1 for segment in inside),
        min(segment.bottom for segment in inside),
        max(segment.top for segment in inside),
        block=True,
    )


def _lines(rows: Sequence[Row], edge: float | None, vocabulary: frozenset[str]) -> str:
    if not rows:
        return ""
    gaps = [above.middle - below.middle for above, below in pairs(rows)]
    usual = _usual_gap(rows, gaps, edge)
    parts, left = [_indented(rows[0], rows)], min(row.x0 for row in rows)
    for gap, (row, following) in zip(gaps, pairs(rows), strict=True):
        far = (bool(usual) and (gap > PARAGRAPH_GAP * usual or gap < 0)) or row.is_block or following.is_block
        is_right = edge is not None and max(row.x0, following.x0) > (left + edge) / 2  # aligned there, as an address
        if far or is_right or _ITEM.match(following.text) or not _goes_on(row, following, edge):
            parts += ["\n\n" if far else "\n", _indented(following, rows)]
        else:
            parts += _mended(parts.pop(), following.text, vocabulary)
    return "".join(parts).replace(HYPHEN, "-")


def _usual_gap(rows: Sequence[Row], gaps: Sequence[float], edge: float | None) -> float:
    """Distance of lines inside a paragraph: the median, or less if most lines are paragraphs, as in a short letter."""
    gaps_down = [(gap, *pair) for gap, pair in zip(gaps, pairs(rows), strict=True) if gap > 0]
    if not gaps_down:
        return 0
    usual = median(gap for gap, *_ in gaps_down)
    full = [(gap, row) for gap, row, following in gaps_down if edge is not None and _reaches(row, following, edge)]
    wrapped = [gap for gap, row in full if row.text[-1:] not in ".!?:;"]
    if len(full) == len(gaps_down):
        return usual
    if wrapped:
        return min(usual, median(wrapped))
    least = min(gap for gap, *_ in gaps_down)
    most = MAX_SPACING * median(row.height for row in rows) / PARAGRAPH_GAP
    return least if DOUBLE_GAP * least < usual else min(usual, most)


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
    if max(row.height, following.height) > OTHER_SIZE * min(row.height, following.height):
        return False  # a heading
    indented = following.x0 - row.x0 > 0.8 * row.height and not _ITEM.match(row.text)
    return not (indented and row.text[-1:] in ".!?:")


def _mended(text: str, after: str, vocabulary: frozenset[str]) -> list[str]:
    """Parts of two lines as one. A hyphen goes before a small letter, unless it belongs to the word."""
    if not (text.endswith(HYPHEN) or re.search(r"[^\W\d_]-$", text[-2:])):
        return [text, "" if is_wide(text[-1:]) and is_wide(after[:1]) else " ", after]
    text = text[:-1]
    first = re.split(r"[^\w-]", text[-MAX_WORD:])[-1]
    rest = re.match(r"[\w-]*", after)[0]  # type: ignore[index]
    keeps = not after[:1].islower() or first.lower() in _FIRST_PARTS or f"{first}-{rest}".lower() in vocabulary
    if keeps and f"{first}{rest}".lower() not in vocabulary:
        return [text, "-", after]
    return [text, after]
