"""Scanned pages: named in the notes without OCR, read with it, told if it is not installed."""

import io
import sys

import pypdfium2 as pdfium
import pytest
from fpdf import FPDF
from PIL import ImageOps

from blockrag.documents import Limits, load
from blockrag.documents import pdf as pdf_module
from blockrag.errors import DocumentError
from tests.document_files import pdf

SENTENCE = "The warden keeps a list of all vessels that pass under the bridge, and sends it to the town."


def scanned(*pages: str, stamp: str = "", text_first: str = "") -> bytes:
    """A PDF whose pages are pictures of text, with a stamp in real text on each, behind a page of real text."""
    document = FPDF(format=(148, 210))
    document.set_font("helvetica", size=12)
    if text_first:
        document.add_page()
        document.multi_cell(0, 6, text_first)
    for page in pages:
        made = pdf(page)
        picture = pdfium.PdfDocument(made)[0].render(scale=150 / 72).to_pil()
        out = io.BytesIO()
        ImageOps.grayscale(picture).save(out, "PNG")
        document.add_page()
        document.image(out, 0, 0, document.w, document.h)
        if stamp:
            document.text(20, 200, stamp)
    return bytes(document.output())


def read(data: bytes, ocr: bool = False):
    return pdf_module.read("f.pdf", data, Limits(), ocr)


def test_scanned_pages_are_named_where_they_are_not_read():
    content = read(scanned("One.", "Two.", text_first=SENTENCE))
    assert content.notes == ("Pages 2-3 have no text (scanned?).",) and SENTENCE[:20] in content.text
    with pytest.raises(DocumentError, match=r"scanned pages only.*--ocr"):
        read(scanned("One."))


def test_a_picture_with_a_stamp_is_named_too():
    content = read(scanned("One.", stamp="EXHIBIT 7", text_first=SENTENCE))
    assert "EXHIBIT 7" in content.text
    assert content.notes == ("Page 2 is a picture with a few letters; text in a picture is read by OCR alone (--ocr).",)


def test_ocr_that_is_not_installed_is_told_only_where_it_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    assert read(pdf(SENTENCE), ocr=True).text.strip()
    with pytest.raises(DocumentError, match=r"pip install 'blockrag\[ocr\]'"):
        read(scanned("One."), ocr=True)


@pytest.mark.slow
def test_scanned_pages_are_read_by_ocr_in_the_sandbox_and_told():
    pytest.importorskip("rapidocr")
    data = scanned(
        SENTENCE + " It closes at nine.\n\nDer Zoll beträgt 1,850 Gulden.", text_first=SENTENCE, stamp="EXHIBIT 7"
    )
    document = load(data, "f.pdf", ocr=True)
    assert document.n_pages == 2
    page = document.text.partition("\f")[2]
    for part in (SENTENCE, "It closes at nine.", "beträgt 1,850 Gulden.", "EXHIBIT"):
        assert part in page
    assert any(
        note.startswith("Page 2 was read by OCR (Latin, Chinese and Japanese letters only); ")
        for note in document.notes
    )


@pytest.mark.slow
def test_pages_without_anything_stay_named_with_ocr():
    pytest.importorskip("rapidocr")
    with pytest.raises(DocumentError, match="OCR found no text"):
        read(pdf(""), ocr=True)
