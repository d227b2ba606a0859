"""Words of a PDF page with their boxes, form values and notes included, through PDFium."""

import dataclasses
import math
import re
import unicodedata
from collections.abc import Iterator
from ctypes import byref, c_int, c_void_p, cast, create_string_buffer
from dataclasses import dataclass
from statistics import median
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from blockrag.documents.pdf_rules import Grid, grids

HYPHEN = "\ufffe"
"""Ends a word whose hyphen PDFium takes for one of a line's end."""

UNKNOWN = "\ufffd"
"""Stands for a drawn letter that the file does not identify."""

SPLIT_GAP = 0.6
"""Words further apart than this, in multiples of their height, are of different segments."""

WIDE_BLANK = 0.35
"""Wider than the usual blank between words, in multiples of their height: columns may be so near each other."""

SMALL, MAX_SCRIPT = 0.93, 4
"""Letters lower than this, in multiples of the height of those before them, are above or below the line; and the most
letters of a superscript that a gap parts from its word."""

TOUCHING = (-0.3, 0.1)
"""Gap between two parts of one word, in multiples of its height."""

MIN_SHIFT = 0.15
"""Least distance between the middles of such letters and of the line, in multiples of the line's height."""

LEAST_SPLIT, BLANK, MAX_TRACKING = 5, 0.18, 0.05
"""Fewest characters of words between which PDFium may have overlooked a blank; its least width, and the most usual
distance of letters where blanks can be told, both in multiples of the letters' height."""

_HYPHENS = "\x02\ufffe"
_TOKEN = re.compile(rf"[^\s\0{_HYPHENS}]+[{_HYPHENS}]?")
_READ_AS: dict[int, str | None] = {
    **dict.fromkeys(map(ord, _HYPHENS + "\xad\ufeff\uffff")),
    **{0xFB00 + i: text for i, text in enumerate(("ff", "fi", "fl", "ffi", "ffl", "st", "st"))},
}
"""Ligatures are read as their letters; soft hyphens and marks of byte order are dropped."""

_INVISIBLE = 3
"""PDF's text render mode that draws nothing."""

_FIXED_PITCH = 1
"""Bit of a PDF font's flags, which the standard fonts lack."""

_MONO_NAME, _NAME_BYTES = re.compile(rb"(?i)courier|mono|consol|menlo|typewriter"), 128

_NOTES = (pdfium_c.FPDF_ANNOT_FREETEXT, pdfium_c.FPDF_ANNOT_TEXT, pdfium_c.FPDF_ANNOT_HIGHLIGHT)
_CHECKED = (pdfium_c.FPDF_FORMFIELD_CHECKBOX, pdfium_c.FPDF_FORMFIELD_RADIOBUTTON)
_TICKED, _EMPTY = "[x]", "[ ]"


@dataclass(slots=True)
class Segment:
    """Words side by side on one line.

    `x0` to `x1` runs along the line and `bottom` to `top` across it, in points, whichever way the text is turned;
    `turn` is the text's angle in quarters. `field` marks a form's value, which belongs to the text before it; `mono`,
    a font whose letters are all of one width; `cell`, the ruled table, row and column that it stands in. `block` marks
    the Markdown of a whole table; `blanks` are the offsets of words behind a wide blank (0 in text from right to
    left), with where it begins and ends.
    """

    text: str
    x0: float
    x1: float
    bottom: float
    top: float
    turn: int = 0
    field: bool = False
    mono: bool = False
    cell: tuple[int, int, int] | None = None
    block: bool = False
    blanks: list[tuple[int, float, float]] = dataclasses.field(default_factory=list)

    @property
    def height(self) -> float:
        """Of the letters, in points."""
        return self.top - self.bottom

    @property
    def middle(self) -> float:
        """Height of the line's middle above the page's edge."""
        return (self.top + self.bottom) / 2


def segments(page: pdfium.PdfPage, form: pdfium.PdfFormEnv | None) -> tuple[list[Segment], int]:
    """Text of a page in the order of the file, then the values of its form; and the number of invisible characters."""
    textpage = page.get_textpage()
    found: list[Segment] = []
    n_invisible = 0
    handle, ruled = textpage.raw, grids(page)
    parts = (part for token in _tokens(textpage) for part in _parts(handle, *token))
    for token, first, last in parts:
        word = _word(handle, token, first, last)
        text = word.text
        if not text:
            continue
        if pdfium_c.FPDFTextObj_GetTextRenderMode(pdfium_c.FPDFText_GetTextObject(handle, first)) == _INVISIBLE:
            n_invisible += len(text)
        word.cell = _cell(word, ruled)
        if found and _beside(found[-1], word):
            _append(found[-1], word)
        else:
            word.mono = _is_mono(handle, first)
            found.append(word)
    textpage.close()
    for added in _annotations(page, form):
        added.cell = _cell(added, ruled)
        found.append(added)
    return found, n_invisible


def _tokens(textpage: pdfium.PdfTextPage) -> Iterator[tuple[str, int, int]]:
    """Runs of characters without white space, with the indices of their first and last character."""
    for found in _TOKEN.finditer(_characters(textpage)):
        yield found[0], found.start(), found.end() - 1


def _characters(textpage: pdfium.PdfTextPage) -> str:
    """One character for each of PDFium's, so that offsets are its indices."""
    n_chars = textpage.count_chars()
    text = textpage.get_text_range() if n_chars else ""
    if len(text) == n_chars:
        return text
    codes = (pdfium_c.FPDFText_GetUnicode(textpage.raw, i) for i in range(n_chars))
    return "".join(chr(c) if 0 < c < 0xD800 or 0xE000 <= c <= 0x10FFFF else UNKNOWN for c in codes)


def is_rtl(text: str) -> bool:
    """Whether text has letters that are written from right to left."""
    return any(unicodedata.bidirectional(char) in ("R", "AL") for char in text)


def _parts(handle: object, token: str, first: int, last: int) -> Iterator[tuple[str, int, int]]:
    """Words of a token: PDFium overlooks narrow blanks, as behind wide letters in justified text."""
    if len(token) < LEAST_SPLIT or token[-1] in _HYPHENS or _turn(handle, first):
        yield token, first, last
        return
    boxes = [_box(handle, i) for i in range(first, last + 1)]
    gaps = [b.left - a.right for a, b in zip(boxes, boxes[1:], strict=False)]
    height, begin = boxes[0].top - boxes[0].bottom, 0
    if median(map(abs, gaps)) < MAX_TRACKING * height:
        for i, gap in enumerate(gaps, start=1):
            if BLANK * height < gap < SPLIT_GAP * height and token[i - 1 : i + 1].isascii():
                yield token[begin:i], first + begin, first + i - 1
                begin = i
    yield token[begin:], first + begin, last


def _word(handle: object, token: str, first: int, last: int) -> Segment:
    turn = _turn(handle, first)
    a, b = _box(handle, first), _box(handle, last)
    outer = min(a.left, b.left), min(a.bottom, b.bottom), max(a.right, b.right), max(a.top, b.top)
    text = token
    if is_rtl(token) and not turn:
        boxes = [_box(handle, i) for i in range(first, last + 1)]  # letters differ in height
        outer = outer[0], min(box.bottom for box in boxes), outer[2], max(box.top for box in boxes)
        text = token[::-1] if a.left < b.left else token  # as it is drawn, not as it is read
    elif not turn and len(token) > 1 and _object(handle, first) != _object(handle, last):
        text = _with_scripts(token, [_box(handle, i) for i in range(first, last + 1)])
    text = text.translate(_READ_AS)
    return _turned(text + (HYPHEN if text and token[-1] in _HYPHENS else ""), outer, turn)


def _with_scripts(token: str, boxes: list[Any]) -> str:
    """A token with ``^`` before letters that are small and raised, ``_`` before small and lowered ones."""
    main = max(boxes, key=lambda box: box.top - box.bottom)
    height, middle = main.top - main.bottom, main.top + main.bottom
    text, before = "", ""
    for char, box in zip(token, boxes, strict=True):
        shift = (box.top + box.bottom - middle) / 2
        sign = ""
        if box.top - box.bottom < SMALL * height and abs(shift) > MIN_SHIFT * height:
            sign = "^" if shift > 0 else "_"
        text += sign + char if sign and sign != before and text[-1:].isalnum() else char
        before = sign
    return text


def _box(handle: object, char: int) -> Any:
    box = pdfium_c.FS_RECTF()
    pdfium_c.FPDFText_GetLooseCharBox(handle, char, byref(box))
    return box


def _object(handle: object, char: int) -> int | None:
    """Address of the text object that a character belongs to: a run in one font and size."""
    return cast(pdfium_c.FPDFText_GetTextObject(handle, char), c_void_p).value


def _turn(handle: object, char: int) -> int:
    return round(pdfium_c.FPDFText_GetCharAngle(handle, char) / (math.pi / 2)) % 4


def _is_mono(handle: object, char: int) -> bool:
    flags, name = c_int(), create_string_buffer(_NAME_BYTES)
    pdfium_c.FPDFText_GetFontInfo(handle, char, name, _NAME_BYTES, byref(flags))
    return bool(flags.value & _FIXED_PITCH or _MONO_NAME.search(name.value))


def _turned(text: str, box: tuple[float, float, float, float], turn: int) -> Segment:
    """A box (left, bottom, right, top) in the coordinates of its text."""
    left, bottom, right, top = box
    if not turn:
        return Segment(text, left, right, bottom, top)
    x0, x1, y0, y1 = {
        1: (-top, -bottom, left, right),
        2: (-right, -left, -top, -bottom),
        3: (bottom, top, -right, -left),
    }[turn]
    return Segment(text, x0, x1, y0, y1, turn)


def _beside(before: Segment, word: Segment) -> bool:
    gap = max(word.x0 - before.x1, before.x0 - word.x1)  # either way of writing
    overlap = min(before.top, word.top) - max(before.bottom, word.bottom)
    height = min(before.height, word.height)
    return (
        word.turn == before.turn
        and word.cell == before.cell
        and not before.text.endswith(HYPHEN)
        and overlap > 0.5 * height
        and -height < gap < SPLIT_GAP * max(before.height, word.height)
    )


def _cell(word: Segment, ruled: list[Grid]) -> tuple[int, int, int] | None:
    for number, grid in enumerate(ruled if word.turn == 0 else ()):
        if found := grid.cell((word.x0 + word.x1) / 2, word.middle):
            return (number, *found)
    return None


def _append(segment: Segment, word: Segment) -> None:
    small = word.height < SMALL * segment.height and len(word.text) <= MAX_SCRIPT
    raised = word.middle > segment.middle + 0.1 * segment.height
    gap = max(word.x0 - segment.x1, segment.x0 - word.x1)
    between = "" if TOUCHING[0] * segment.height < gap < TOUCHING[1] * segment.height else " "
    if gap >= WIDE_BLANK * segment.height and not segment.turn:
        if word.x0 >= segment.x1:
            segment.blanks.append((len(segment.text) + 1, segment.x1, word.x0))
        else:  # from right to left
            segment.blanks.append((0, word.x1, segment.x0))
    segment.text += ("^" if small and raised else between) + word.text
    segment.x0, segment.x1 = min(segment.x0, word.x0), max(segment.x1, word.x1)
    segment.bottom, segment.top = min(segment.bottom, word.bottom), max(segment.top, word.top)


def _annotations(page: pdfium.PdfPage, form: pdfium.PdfFormEnv | None) -> Iterator[Segment]:
    box = pdfium_c.FS_RECTF()
    for i in range(pdfium_c.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium_c.FPDFPage_GetAnnot(page, i)
        kind = pdfium_c.FPDFAnnot_GetSubtype(annotation)
        text = ""
        if kind == pdfium_c.FPDF_ANNOT_WIDGET and form is not None:
            text = _value(form, annotation)
        elif kind in _NOTES:
            text = _string(pdfium_c.FPDFAnnot_GetStringValue, annotation, b"Contents")
        if text.strip() and pdfium_c.FPDFAnnot_GetRect(annotation, byref(box)):
            field = kind == pdfium_c.FPDF_ANNOT_WIDGET
            yield Segment(" ".join(text.split()), box.left, box.right, box.bottom, box.top, 0, field)
        pdfium_c.FPDFPage_CloseAnnot(annotation)


def _value(form: pdfium.PdfFormEnv, annotation: object) -> str:
    """Value of a form's field as the reader sees it; a field without one is empty."""
    kind = pdfium_c.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind in _CHECKED:
        label = _string(pdfium_c.FPDFAnnot_GetFormFieldName, form, annotation)
        return f"{_TICKED if pdfium_c.FPDFAnnot_IsChecked(form, annotation) else _EMPTY} {label}"
    if kind == pdfium_c.FPDF_FORMFIELD_PUSHBUTTON:
        return ""
    return _string(pdfium_c.FPDFAnnot_GetFormFieldValue, form, annotation)


def _string(function: object, *arguments: object) -> str:
    """A string that PDFium writes into a buffer, whose size it tells first."""
    n_bytes = function(*arguments, None, 0)  # type: ignore[operator]
    buffer = create_string_buffer(max(n_bytes, 2))
    pointer = pdfium_c.FPDF_WCHAR.from_buffer(buffer)
    function(*arguments, byref(pointer), n_bytes)  # type: ignore[operator]
    return buffer.raw[: max(n_bytes - 2, 0)].decode("utf-16-le", "replace")
