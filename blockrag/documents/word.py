"""DOCX to Markdown: headings, lists, tables and text boxes in order, without headers and footers."""

import io
import re
from collections.abc import Iterator

import docx
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml.ns import qn
from docx.styles.style import ParagraphStyle
from lxml.etree import XPath, _Element

from blockrag.documents import markdown
from blockrag.documents.document import Content, Limits
from blockrag.documents.zips import check_inflated

_NAMESPACES = {
    "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
    "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
}
_P, _TABLE, _ROW, _CELL, _TEXTBOX = (qn(f"w:{tag}") for tag in ("p", "tbl", "tr", "tc", "txbxContent"))
_GONE = "[not(ancestor::mc:Fallback or ancestor::w:moveFrom)]"
"""Excludes what would be read twice: copies of drawings for old readers, and text that was moved."""
_BLOCKS = XPath(f".//*[self::w:p or self::w:tbl][not(ancestor::w:tbl)]{_GONE}", namespaces=_NAMESPACES)
_RUNS = XPath(
    f".//w:r/*[self::w:t or self::w:tab or self::w:br or self::w:cr or self::w:noBreakHyphen]{_GONE} | .//m:t",
    namespaces=_NAMESPACES,
)
_NUMBERING = XPath("./w:pPr/w:numPr", namespaces=_NAMESPACES)
_DEPTH = XPath("string(./w:pPr/w:numPr/w:ilvl/@w:val)", namespaces=_NAMESPACES)
_SIGNS = {qn("w:tab"): "\t", qn("w:br"): "\n", qn("w:cr"): "\n", qn("w:noBreakHyphen"): "-"}


def read(name: str, data: bytes, limits: Limits) -> Content:
    """Paragraphs and tables in order. Heading styles become headings; tracked insertions are included, deletions not.

    Reads the XML directly: python-docx's paragraphs omit tracked insertions, content controls, formulas and text boxes.
    """
    check_inflated(name, data, limits)
    document = docx.Document(io.BytesIO(data))
    styles = [style for style in document.styles if style.type == WD_STYLE_TYPE.PARAGRAPH]
    levels = {style.style_id: _level(style) for style in styles}
    lists = {style.style_id for style in styles if (style.name or "").startswith("List")}
    return Content(markdown.paragraphs(_block(block, levels, lists) for block in _BLOCKS(document.element.body)))


def _level(style: ParagraphStyle) -> int:
    """Level of a heading style or a style derived from one, 0 for others."""
    for candidate in (style, style.base_style):
        if candidate is not None:
            found = re.fullmatch(r"(?:heading|title)\s*(\d?)", (candidate.name or "").lower())
            if found:
                return int(found[1] or 1)
    return 0


def _block(element: _Element, levels: dict[str, int], lists: set[str]) -> str:
    if element.tag == _TABLE:
        return "\n".join(markdown.row(_cells(row)) for row in _own(element, _ROW, _TABLE))
    text = _text(element)
    if not text.strip():
        return ""
    if levels.get(element.style):
        return markdown.heading(text, levels[element.style])
    if element.style in lists or _NUMBERING(element):
        return markdown.item(text, int(_DEPTH(element) or 0))
    return text


def _cells(row: _Element) -> Iterator[str]:
    return (" ".join(_text(paragraph) for paragraph in cell.iter(_P)) for cell in _own(row, _CELL, _ROW))


def _text(paragraph: _Element) -> str:
    """Text of a paragraph without its text boxes, whose paragraphs are visited separately."""
    mine = (run for run in _RUNS(paragraph) if next(run.iterancestors(_P)) is paragraph)
    return "".join(_SIGNS.get(run.tag) or run.text or "" for run in mine)


def _own(element: _Element, tag: str, within: str) -> Iterator[_Element]:
    """Descendants of `element` that are not inside a nested element of the same kind."""
    return (found for found in element.iter(tag) if next(found.iterancestors(within)) is element)
