"""PDF to text, page by page, through PDFium: columns, tables, wrapped lines, forms. Running heads are left out."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import median

import pypdfium2 as pdfium

from blockrag.documents.document import PAGE_BREAK, Content, Limits, counted
from blockrag.documents.pdf_layout import PARAGRAPH_GAP, text_of, with_ruled_tables
from blockrag.documents.pdf_rows import Row, rows_of
from blockrag.documents.pdf_words import UNKNOWN, segments
from blockrag.errors import DocumentError

MIN_REPEATS = 3
"""A line at the same height on this many pages is a running head or foot."""

_N_EDGE_ROWS = 3
"""Lines at the top and at the bottom of a page that may be running heads and feet."""

_HYPHENATED = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def read(name: str, data: bytes, limits: Limits) -> Content:
    """Pages joined by `PAGE_BREAK`, each in reading order.

    Raises
    ------
    DocumentError
        If it is encrypted, damaged, too long, or has no text layer.
    """
    pdf = _open(name, data)
    if len(pdf) > limits.max_pages:
        raise DocumentError(name, f"the PDF has {len(pdf)} pages; at most {limits.max_pages} are read")
    pages, widths, invisible, damaged = _pages(pdf)
    if len(damaged) == len(pages):
        raise DocumentError(name, "the PDF is damaged (none of its pages can be opened)")
    if not any(pages):
        raise DocumentError(name, "the PDF has no text layer (scanned pages only); run it through OCR first")
    empty = [i for i, rows in enumerate(pages, start=1) if not rows and i not in damaged]
    heads = _running_heads(pages)
    vocabulary = _vocabulary(pages)
    texts = [text_of(rows, width, vocabulary) for rows, width in zip(pages, widths, strict=True)]
    text = PAGE_BREAK.join(text + "\n" if text else "" for text in texts)
    notes = [*_notes(empty, damaged, invisible, heads)]
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


def _pages(pdf: pdfium.PdfDocument) -> tuple[list[list[Row]], list[float], dict[int, int], list[int]]:
    """Lines of each page, its width along its text, the number of invisible characters by page, and damaged pages."""
    pages: list[list[Row]] = []
    widths: list[float] = []
    invisible: dict[int, int] = {}
    damaged: list[int] = []
    for i in range(len(pdf)):
        try:
            page = pdf[i]
        except pdfium.PdfiumError:
            damaged.append(i + 1)
            pages.append([])
            widths.append(0)
            continue
        found, n_invisible = segments(page, pdf.formenv)
        pages.append(rows_of(with_ruled_tables(found)))
        width, height = page.get_size()
        turned = bool(found) and (found[0].turn + page.get_rotation() // 90) % 2 == 1
        widths.append(height if turned else width)
        if n_invisible:
            invisible[i + 1] = n_invisible
        page.close()
    return pages, widths, invisible, damaged


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
            key = (re.sub(r"\d+", "#", row.text), round(row.middle / 2))
            found.setdefault(key, []).append((number, row))
    heads = []
    for places in found.values():
        if len(places) >= MIN_REPEATS and _counts_pages(places):
            heads.append((places[0][1].text, len(places)))
            for number, row in places:
                pages[number].remove(row)
    return heads


def _margins(rows: list[Row]) -> list[Row]:
    """Lines at the top and bottom of a page that a wide gap parts from the text; all of a page with few lines."""
    gaps = [above.middle - below.middle for above, below in zip(rows, rows[1:], strict=False)]
    wide = PARAGRAPH_GAP * median([gap for gap in gaps if gap > 0] or [0])
    if len(rows) <= _N_EDGE_ROWS:
        return rows
    top = next((i + 1 for i in reversed(range(_N_EDGE_ROWS)) if i < len(gaps) and gaps[i] > wide), 0)
    bottom = next((j + 1 for j in range(len(gaps) - _N_EDGE_ROWS, len(gaps)) if j >= 0 and gaps[j] > wide), len(rows))
    return rows[:top] + rows[max(bottom, top) :]


def _counts_pages(places: Sequence[tuple[int, Row]]) -> bool:
    """Whether each number in a repeated line is always the same, or grows with the pages."""
    numbers = [[int(digits[:18]) for digits in re.findall(r"\d+", row.text)] for _, row in places]
    for column in zip(*numbers, strict=True):
        constant = all(number == column[0] for number in column)
        pages = [page for page, _ in places]
        growing = all(0 < column[i + 1] - column[i] <= max(pages[i + 1] - pages[i], 1) for i in range(len(column) - 1))
        if not (constant or growing):
            return False
    return True


def _notes(
    empty: list[int], damaged: list[int], invisible: dict[int, int], heads: list[tuple[str, int]]
) -> Iterator[str]:
    if empty:
        subject = f"Page {_ranges(empty)} has" if len(empty) == 1 else f"Pages {_ranges(empty)} have"
        yield f"{subject} no text (scanned?)."
    if damaged:
        subject = f"Page {_ranges(damaged)} is" if len(damaged) == 1 else f"Pages {_ranges(damaged)} are"
        yield f"{subject} damaged and left out."
    for text, n_pages in Counter(dict(heads)).most_common():
        yield f'The line "{text[:100]}", repeated on {n_pages} pages, was left out.'
    if invisible:
        n_chars, places = sum(invisible.values()), _ranges(sorted(invisible))
        pages = f"page {places}" if len(invisible) == 1 else f"pages {places}"
        yield f"{n_chars:,} characters on {pages} are drawn invisibly, as under a scan; they were read."


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers as "3, 5-9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)
