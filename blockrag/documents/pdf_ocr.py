"""Scanned pages of a PDF: which they are, and their text by OCR (RapidOCR, the ``[ocr]`` extra)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from blockrag.documents.pdf_words import Segment
from blockrag.errors import DocumentError

DPI, MAX_PIXELS = 200, 16_000_000
"""Resolution of a page's picture, and most pixels of it; a larger page gets fewer dots per inch."""

SCRIPTS = "Latin, Chinese and Japanese letters"
"""What the models of the extra read; other scripts come out as wrong letters."""

UNCERTAIN = 0.85
"""Confidence below which a line is counted as uncertain."""

MAX_STAMP = 100
"""A page that is a picture may have fewer letters than this, such as a stamp or a number, and still be a scan."""

PICTURE_SHARE = 0.8
"""Smallest share of a page that its pictures cover if it is a scan."""

_PICTURE_DEPTH = 3


class PageOCR:
    """Reads pages by OCR.

    Attributes
    ----------
    n_uncertain : int
        Lines read so far with a confidence below `UNCERTAIN`.

    Raises
    ------
    DocumentError
        If RapidOCR is not installed.
    """

    def __init__(self, name: str):
        try:
            from rapidocr import RapidOCR  # noqa: PLC0415  (an extra)
        except ImportError as error:
            reason = f"OCR needs RapidOCR ({error}); install it with pip install 'blockrag[ocr]'"
            raise DocumentError(name, reason) from error
        self._read = RapidOCR(params={"Global.log_level": "error"})
        self.n_uncertain = 0

    def segments(self, page: pdfium.PdfPage) -> list[Segment]:
        """The lines of a page as it is shown, in the order found."""
        width, height = page.get_size()
        scale = min(DPI / 72, (MAX_PIXELS / max(width * height, 1)) ** 0.5)
        bitmap = page.render(scale=scale, may_draw_forms=False)
        found: Any = self._read(np.ascontiguousarray(bitmap.to_numpy()))
        bitmap.close()
        lines = []
        for box, text, score in zip(*(() if part is None else part for part in (found.boxes, found.txts, found.scores)),
                                    strict=True):  # fmt: skip
            if words := " ".join(text.split()):
                x, y = np.asarray(box)[:, 0] / scale, height - np.asarray(box)[:, 1] / scale
                lines.append(Segment(words, float(x.min()), float(x.max()), float(y.min()), float(y.max())))
                self.n_uncertain += score < UNCERTAIN
        return lines


def is_scan(page: pdfium.PdfPage, found: Sequence[Segment]) -> bool:
    """Whether a page is without text, or is a picture with a few letters on it."""
    if not found:
        return True
    if sum(len(segment.text) for segment in found) >= MAX_STAMP:
        return False
    width, height = page.get_size()
    pictures = page.get_objects([pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=_PICTURE_DEPTH)
    return sum(map(_area, pictures)) >= PICTURE_SHARE * width * height


def _area(picture: pdfium.PdfObject) -> float:
    left, bottom, right, top = picture.get_bounds()
    return (right - left) * (top - bottom)
