"""PDF to text, page by page, through PDFium: columns, tables, wrapped lines, forms. Running heads are left out."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

import pypdfium2 as pdfium

from blockrag.documents.document import PAGE_BREAK, Content, Limits, counted
from blockrag.documents.pdf_layout import PARAGRAPH_GAP, text_of, with_ruled_tables
from blockrag.documents.pdf_ocr import SCRIPTS, PageOCR, is_scan
from blockrag.documents.pdf_rows import Row, pairs, rows_of
from blockrag.documents.pdf_words import UNKNOWN, segments
from blockrag.errors import DocumentError

MIN_REPEATS = 3
"""A line at the same height on this many pages is a running head or foot."""

_N_EDGE_ROWS = 3
"""Lines at the top and at the bottom of a page that may be running heads and feet."""

_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}
_NUMBER = re.compile(r"\d+|(?:^|(?<=[\s–—-]))(?:[ivxlc]{1,8}|[IVXLC]{1,8})(?=[\s–—-]|$)")
"""A number in Arabic digits, or in Roman ones that stand alone."""

_FOOTNOTE = re.compile(r"(?:[*†‡§¶]{1,3} ?|\^?\d{1,3}[.)]? |\^\d{1,3})[^\W\d].*[.?!]")
"""A sentence behind a mark or number."""

_HYPHENATED = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


@dataclass
class _Pages:
    """Lines of each page, and its width along its text; page numbers (from 1) by what is said of them in notes."""

    rows: list[list[Row]] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    invisible: dict[int, int] = field(default_factory=dict)
    damaged: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    pictures: list[int] = field(default_factory=list)
    by_ocr: list[int] = field(default_factory=list)
    n_uncertain: int = 0


def read(name: str, data: bytes, limits: Limits, ocr: bool = False) -> Content:
    """Pages joined by `PAGE_BREAK`, each in reading order; with `ocr`, scanned ones by OCR.

    Raises
    ------
    DocumentError
        If it is encrypted, damaged, too long, or has no text; with `ocr`, if that is not installed.
    """
    pdf = _open(name, data)
    if len(pdf) > limits.max_pages:
        raise DocumentError(name, f"the PDF has {len(pdf)} pages; at most {limits.max_pages} are read")
    pages = _pages(name, pdf, ocr)
    if len(pages.damaged) == len(pdf):
        raise DocumentError(name, "the PDF is damaged (none of its pages can be opened)")
    if not any(pages.rows):
        raise DocumentError(
            name,
            "OCR found no text on its pages"
            if ocr
            else "the PDF has no text layer (scanned pages only); read it by OCR (--ocr, or ocr=True)",
        )
    heads = _running_heads(pages.rows)
    vocabulary = _vocabulary(pages.rows)
    texts = [text_of(rows, width, vocabulary) for rows, width in zip(pages.rows, pages.widths, strict=True)]
    text = PAGE_BREAK.join(text + "\n" if text else "" for text in texts)
    notes = [*_notes(pages, heads)]
    if n_unknown := text.count(UNKNOWN):
        notes.append(
            f"{counted(n_unknown, 'letter is', 'letters are')} not named in the file; {UNKNOWN} stands for each."
        )
    return Content(text, notes=tuple(notes))


def _open(name: str, data: bytes) -> pdfium.PdfDocument:
    try:
        pdf = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower() or b"/Encrypt" in data:
            raise DocumentError(name, "the PDF is encrypted; save it without a password") from error
        raise DocumentError(name, f"the PDF is damaged ({error})") from error
    pdf.init_forms()
    return pdf


def _pages(name: str, pdf: pdfium.PdfDocument, ocr: bool) -> _Pages:
    pages, reader = _Pages(), None
    for number in range(1, len(pdf) + 1):
        try:
            page = pdf[number - 1]
        except pdfium.PdfiumError:
            pages.damaged.append(number)
            pages.rows.append([])
            pages.widths.append(0)
            continue
        found, n_invisible = segments(page, pdf.formenv)
        width, height = page.get_size()
        turned = bool(found) and (found[0].turn + page.get_rotation() // 90) % 2 == 1
        is_picture = is_scan(page, found)
        if is_picture and ocr:
            reader = reader or PageOCR(name)
            found, n_invisible, turned = reader.segments(page), 0, False
            pages.by_ocr.append(number)
        elif is_picture and found:
            pages.pictures.append(number)
        if not found:
            pages.empty.append(number)
        pages.rows.append(rows_of(with_ruled_tables(found)))
        pages.widths.append(height if turned else width)
        if n_invisible:
            pages.invisible[number] = n_invisible
        page.close()
    pages.n_uncertain = reader.n_uncertain if reader else 0
    return pages


def _vocabulary(pages: Iterable[list[Row]]) -> frozenset[str]:
    """Words that stand whole on a line, compounds with their hyphens."""
    return frozenset(
        word.lower() for rows in pages for row in rows for word in _HYPHENATED.findall(row.text.rpartition(" ")[0])
    )


def _running_heads(pages: list[list[Row]]) -> list[tuple[str, int]]:
    """Remove lines above or below the text that repeat at the same height on several pages; returns each with its
    number of pages."""
    found: dict[tuple[str, int], list[tuple[int, Row]]] = {}
    for number, rows in enumerate(pages):
        for row in _margins(rows):
            key = (_NUMBER.sub("#", row.text), round(row.middle / 2))
            found.setdefault(key, []).append((number, row))
    repeated = [places for places in found.values() if len(places) >= MIN_REPEATS and _counts_pages(places)]
    alike = {id(row) for places in repeated for _, row in places}
    heads = []
    for places in repeated:
        if not any(_is_text(row, pages[number], alike) for number, row in places):
            heads.append(places)
    for places in heads:
        for number, row in places:
            pages[number].remove(row)
    return [(places[0][1].text, len(places)) for places in heads]


def _is_text(row: Row, rows: list[Row], alike: set[int]) -> bool:
    """Whether a repeated line is text all the same: a footnote, or the end of a sentence beside other lines."""
    if _FOOTNOTE.fullmatch(row.text):
        return True
    reads_on = row.text[:1].islower() or row.text[-1:] in ".?!"
    return reads_on and any(id(other) not in alike for other in _group(row, rows))


def _group(row: Row, rows: list[Row]) -> list[Row]:
    """The lines around one that no wide gap parts from it."""
    wide, at = _wide_gap(rows), rows.index(row)
    start = next((i for i in range(at, 0, -1) if rows[i - 1].middle - rows[i].middle > wide), 0)
    end = next((i for i in range(at + 1, len(rows)) if rows[i - 1].middle - rows[i].middle > wide), len(rows))
    return rows[start:end]


def _wide_gap(rows: list[Row]) -> float:
    """Lines further apart than this are not of one paragraph."""
    return PARAGRAPH_GAP * median([gap for a, b in pairs(rows) if (gap := a.middle - b.middle) > 0] or [0])


def _margins(rows: list[Row]) -> list[Row]:
    """Lines at the top and bottom of a page that a wide gap parts from the text; all of a page with few lines."""
    gaps = [above.middle - below.middle for above, below in pairs(rows)]
    wide = _wide_gap(rows)
    if len(rows) <= _N_EDGE_ROWS:
        return rows
    top = next((i + 1 for i in reversed(range(_N_EDGE_ROWS)) if i < len(gaps) and gaps[i] > wide), 0)
    bottom = next((j + 1 for j in range(len(gaps) - _N_EDGE_ROWS, len(gaps)) if j >= 0 and gaps[j] > wide), len(rows))
    return rows[:top] + rows[max(bottom, top) :]


def _counts_pages(places: Sequence[tuple[int, Row]]) -> bool:
    """Whether each number in a repeated line is always the same, or grows with the pages."""
    numbers = [[_number(digits) for digits in _NUMBER.findall(row.text)] for _, row in places]
    for column in zip(*numbers, strict=True):
        constant = all(number == column[0] for number in column)
        pages = [page for page, _ in places]
        growing = all(0 < column[i + 1] - column[i] <= max(pages[i + 1] - pages[i], 1) for i in range(len(column) - 1))
        if not (constant or growing):
            return False
    return True


def _number(digits: str) -> int:
    """A number in Arabic or Roman digits."""
    if digits.isdigit():
        return int(digits[:18])
    values = [_ROMAN[digit] for digit in digits.lower()]
    return sum(-a if a < b else a for a, b in pairs([*values, 0]))


def _notes(pages: _Pages, heads: list[tuple[str, int]]) -> Iterator[str]:
    if pages.empty:
        yield f"{_subject(pages.empty, 'has', 'have')} no text (scanned?)."
    if pages.pictures:
        yield (
            f"{_subject(pages.pictures, 'is a picture', 'are pictures')} with a few letters; text in a picture is read "
            "by OCR alone (--ocr)."
        )
    if pages.by_ocr:
        uncertain = counted(pages.n_uncertain, "line is", "lines are")
        yield f"{_subject(pages.by_ocr, 'was', 'were')} read by OCR ({SCRIPTS} only); {uncertain} uncertain."
    if pages.damaged:
        yield f"{_subject(pages.damaged, 'is', 'are')} damaged and left out."
    for text, n_pages in Counter(dict(heads)).most_common():
        yield f'The line "{text[:100]}", repeated on {n_pages} pages, was left out.'
    if pages.invisible:
        n_chars, places = sum(pages.invisible.values()), _ranges(sorted(pages.invisible))
        where = f"page {places}" if len(pages.invisible) == 1 else f"pages {places}"
        yield f"{n_chars:,} characters on {where} are drawn invisibly, as under a scan; they were read."


def _subject(numbers: Sequence[int], one: str, many: str) -> str:
    return f"Page {_ranges(numbers)} {one}" if len(numbers) == 1 else f"Pages {_ranges(numbers)} {many}"


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers as "3, 5-9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)
