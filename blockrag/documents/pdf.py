"""PDF to text, page by page, through PDFium. Paragraphs are found by the distance of lines."""

import re
from collections.abc import Sequence
from ctypes import byref, c_double
from itertools import accumulate
from statistics import median

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from blockrag.documents.document import PAGE_BREAK, Content, Limits
from blockrag.errors import DocumentError

PARAGRAPH_GAP = 1.25
"""A paragraph ends where baselines are further apart than this, in multiples of the page's usual distance."""

_HYPHEN = "\ufffe"
"""PDFium's mark for a hyphen at the end of a line, whose line break it has removed."""
_ITEM = re.compile(r"\d{1,3}[.)]\s")


def read(name: str, data: bytes, limits: Limits) -> Content:
    """Pages joined by `PAGE_BREAK`, with the lines of each paragraph joined.

    Raises
    ------
    DocumentError
        If it is encrypted, damaged, too long, or has no text layer.
    """
    try:
        pdf = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower() or b"/Encrypt" in data:
            raise DocumentError(name, "the PDF is encrypted; save it without a password") from error
        raise DocumentError(name, f"the PDF is damaged ({error})") from error
    if len(pdf) > limits.max_pages:
        raise DocumentError(name, f"the PDF has {len(pdf)} pages; at most {limits.max_pages} are read")
    pages = [_page_text(pdf[i]) for i in range(len(pdf))]
    if not any(page.strip() for page in pages):
        raise DocumentError(name, "the PDF has no text layer (scanned pages only); run it through OCR first")
    return Content(PAGE_BREAK.join(pages))


def unwrap(page: str) -> str:
    """Join lines that the page's width broke, and words that a hyphen divided.

    A line continues if the next one begins in lower case, if it is wide and does not end a sentence, or if it is almost
    full; never across a blank line or into a list item. A hyphen is removed only before lower case: "Anglo-" + "Saxon"
    keeps it, "well-" + "known" loses it, because a page does not distinguish the two kinds.
    """
    page = re.sub(rf"(?<=[^\W\d_]){_HYPHEN}(?=[a-zß-öø-ÿ])", "", page).replace(_HYPHEN, "-")
    lines = [line.rstrip() for line in page.split("\n")]
    widest = max(map(len, lines))
    text = ""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        wide = len(line) >= 0.9 * widest or (len(line) >= 0.75 * widest and line[-1:] not in ".!?:")
        lower = following[:1].islower()
        goes_on = bool(line) and (lower or (wide and following[:1].isalnum() and not _ITEM.match(following)))
        if goes_on and lower and re.search(r"[^\W\d_]-$", line):
            text += line[:-1]
        else:
            text += line + (" " if goes_on else "\n")
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def _page_text(page: pdfium.PdfPage) -> str:
    textpage = page.get_textpage()
    lines = textpage.get_text_range().replace("\r\n", "\n").split("\n")
    text = unwrap("\n".join(_parted(lines, _baselines(textpage, lines))))
    textpage.close()
    page.close()
    return text


def _baselines(textpage: pdfium.PdfTextPage, lines: Sequence[str]) -> list[float]:
    """Height of each line's first visible character above the bottom of the page, in points."""
    x, y = c_double(), c_double()
    heights = []
    starts = accumulate((_n_units(line) + 2 for line in lines), initial=0)  # 2 for the line's \r\n
    for line, start in zip(lines, starts, strict=False):
        first = start + len(line) - len(line.lstrip())
        char = pdfium_c.FPDFText_GetCharIndexFromTextIndex(textpage, first)
        pdfium_c.FPDFText_GetCharOrigin(textpage, char, byref(x), byref(y))  # no such char: y stays
        heights.append(y.value)
    return heights


def _n_units(text: str) -> int:
    """Length in UTF-16 units, which PDFium counts in."""
    return len(text) + sum(char > "\uffff" for char in text)


def _parted(lines: Sequence[str], heights: Sequence[float]) -> list[str]:
    """Lines with a blank line inserted at each larger gap."""
    gaps = [above - below for above, below in zip(heights, heights[1:], strict=False)]
    usual = median([gap for gap in gaps if gap > 0] or [0])
    parted = list(lines[:1])
    for line, gap in zip(lines[1:], gaps, strict=True):
        parted += ["", line] if usual and gap > PARAGRAPH_GAP * usual else [line]
    return parted
