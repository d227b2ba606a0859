"""Files of every rich format, created for tests of documents."""

import io
import zipfile
from pathlib import Path

import docx
import pptx
import xlsxwriter
from fpdf import FPDF

from blockrag.documents import media

FIELD = Path(__file__).with_name("field")
"""Small files of the kinds that people bring; made for this project."""


def pdf(*pages: str, password: str | None = None) -> bytes:
    document = FPDF()
    document.set_font("helvetica", size=12)
    for page in pages:
        document.add_page()
        document.multi_cell(0, 6, page)
    if password:
        document.set_encryption(owner_password=password, user_password=password)
    return bytes(document.output())


def word() -> bytes:
    document = docx.Document()
    document.add_heading("The harbour", 1)
    document.add_paragraph("Ships come in at high tide.")
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "tide", "high"
    document.add_heading("The pier", 2)
    document.add_paragraph("It is long.")
    return saved(document)


def slides() -> bytes:
    deck = pptx.Presentation()
    for title, body in (("First", "One point."), ("Second", "Another point.")):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text, slide.placeholders[1].text = title, body
    slide.notes_slide.notes_text_frame.text = "Speak slowly."
    return saved(deck)


CONTAINER = '<container xmlns="urn:x"><rootfiles><rootfile full-path="OPS/p.opf"/></rootfiles></container>'
PACKAGE = (
    '<package xmlns="urn:y"><manifest><item id="b" href="../two%20b.xhtml"/><item id="a" href="one.xhtml#top"/>'
    '<item id="c" href="cover.svg" media-type="image/svg+xml"/></manifest>'
    '<spine><itemref idref="c"/><itemref idref="a"/><itemref idref="b"/></spine></package>'
)
ONE = "<html><head><title/></head><body><h1>Start</h1><p>It began<br/>at sea.</p></body></html>"
TWO = "<html><body><h1>End</h1><p>It ended on land.</p></body></html>"


def epub(**changed: str | None) -> bytes:
    """A book of two chapters; `changed` gives other content for a member, or none at all."""
    members = {
        "META-INF/container.xml": CONTAINER,
        "OPS/p.opf": PACKAGE,
        "OPS/one.xhtml": ONE,
        "two b.xhtml": TWO,
        **changed,
    }
    return zipped({name: content for name, content in members.items() if content is not None})


def zipped(members: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def saved(document) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def workbook(fill) -> bytes:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        fill(book)
    return out.getvalue()


ODF = "urn:oasis:names:tc:opendocument:xmlns"
SPACES = " ".join(
    f'xmlns:{prefix}="{ODF}:{name}:1.0"'
    for prefix, name in (
        ("office", "office"), ("text", "text"), ("table", "table"), ("draw", "drawing"), ("style", "style"),
        ("presentation", "presentation"), ("manifest", "manifest"),
    )
)  # fmt: skip


def opendocument(kind: str, body: str, styles: str = "", **members: str) -> bytes:
    content = (
        f"<office:document-content {SPACES}><office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>"
    )
    mimetype = {"text": media.ODT, "spreadsheet": media.ODS, "presentation": media.ODP}[kind]
    return zipped({"mimetype": mimetype, "content.xml": content, **members})
