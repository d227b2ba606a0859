"""DOCX to Markdown: headings, numbered lists, tables, text boxes, notes and comments in order; headers once."""

import io
import re
from collections.abc import Iterator

import docx
from docx.document import Document as WordDocument
from docx.oxml.ns import qn
from lxml.etree import XPath, _Element

from blockrag.documents import drawings, markdown
from blockrag.documents.document import Content, Limits, counted
from blockrag.documents.word_numbering import Numbering
from blockrag.documents.word_runs import Runs, is_on
from blockrag.documents.zips import check_inflated, parse_xml

_NAMESPACES = {
    "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
    "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
    "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
}
_P, _TABLE, _ROW, _CELL = (qn(f"w:{tag}") for tag in ("p", "tbl", "tr", "tc"))
_GONE = "[not(ancestor::mc:Fallback or ancestor::w:moveFrom or ancestor::w:del)]"
"""Excludes what would be read twice: copies of drawings for old readers, and text that was moved."""
_BLOCKS = XPath(f".//*[self::w:p or self::w:tbl][not(ancestor::w:tbl)]{_GONE}", namespaces=_NAMESPACES)
_CELLS = XPath("./w:tc | ./w:sdt/w:sdtContent/w:tc | ./w:customXml/w:tc", namespaces=_NAMESPACES)
_ROWS = XPath("./w:tr | ./w:sdt/w:sdtContent/w:tr | ./w:customXml/w:tr | ./w:ins/w:tr", namespaces=_NAMESPACES)
_PICTURES = XPath(f".//a:blip{_GONE}", namespaces=_NAMESPACES)
_JOINS_NEXT = XPath("boolean(./w:pPr/w:rPr/w:del and following-sibling::*[1][self::w:p])", namespaces=_NAMESPACES)
"""A paragraph whose end was deleted."""
_DELETED_ROW = XPath("boolean(./w:trPr/w:del)", namespaces=_NAMESPACES)

_NOTE_PARTS = {"footnoteReference": "footnotes", "endnoteReference": "endnotes", "commentReference": "comments"}
_PAGE_NUMBER = re.compile(r"(?:\w+\s+)?[\d\s/.|–-]*(?:(?:of|von|de|sur)\s+\d*)?", re.IGNORECASE)
MAX_SPAN = 64
"""Most columns that a cell of a table may span."""


def read(name: str, data: bytes, limits: Limits) -> Content:
    """Paragraphs and tables in order. Heading styles become headings; tracked insertions are included, deletions not.

    Reads the XML directly: python-docx's paragraphs omit tracked insertions, content controls, formulas and text boxes.
    """
    check_inflated(name, data, limits)
    return _Reader(docx.Document(io.BytesIO(data))).content()


class _Reader:
    def __init__(self, document: WordDocument):
        self._part = document.part
        self._body = document.element.body
        self._styles = {style.get(qn("w:styleId"), ""): style for style in document.styles.element.iter(qn("w:style"))}
        self._numbering = Numbering(self._root("numbering"))
        self._notes = {kind: self._notes_of(part) for kind, part in _NOTE_PARTS.items()}
        self._pending: list[str] = []
        self._n_notes, self._joined = 0, ""
        hidden = {
            id
            for id, style in self._styles.items()
            if (p := style.find(qn("w:rPr"))) is not None and is_on(p, "w:vanish")
        }
        self._runs = Runs(hidden, self._refer)

    def content(self) -> Content:
        """The document's text and what was left out of it."""
        parts = [*self._margins("header"), *self._blocks(self._body), *self._margins("footer")]
        return Content(markdown.paragraphs(parts), notes=tuple(self._left_out()))

    def _left_out(self) -> Iterator[str]:
        n_pictures = len(_PICTURES(self._body))
        n_embedded = sum(relation.reltype.endswith("/aFChunk") for relation in self._part.rels.values())
        for n, one, many in (
            (self._runs.left_out["hidden"], "character of hidden text was", "characters of hidden text were"),
            (self._runs.left_out["ruby"], "reading above a word (ruby) was", "readings above words (ruby) were"),
            (n_pictures, "picture was", "pictures were"),
            (n_embedded, "embedded document was", "embedded documents were"),
        ):
            if n:
                yield f"{counted(n, one, many)} left out."

    def _root(self, kind: str) -> _Element | None:
        """Root of the part that the document refers to as `kind`."""
        for relation in self._part.rels.values():
            if relation.reltype.endswith(f"/{kind}") and not relation.is_external:
                return parse_xml(relation.target_part.blob)
        return None

    def _notes_of(self, part: str) -> dict[str, _Element]:
        root = self._root(part)
        return {} if root is None else {note.get(qn("w:id"), ""): note for note in root}

    def _refer(self, kind: str, id: str) -> str:
        """Mark of a note, whose text follows its paragraph."""
        note = self._notes[kind].pop(id, None)
        if note is None:
            return ""
        text = " ".join(" ".join(self._runs.text(paragraph).split()) for paragraph in note.iter(_P)).strip()
        if kind == "commentReference":
            author = note.get(qn("w:author"), "")
            self._pending.append(f"[Comment{' by ' + author if author else ''}: {text}]")
            return ""
        self._n_notes += 1
        self._pending.append(f"[^{self._n_notes}]: {text}")
        return f"[^{self._n_notes}]"

    def _margins(self, kind: str) -> Iterator[str]:
        """Headers or footers, each text once; page numbers alone are none."""
        seen = set()
        for relation in list(self._part.rels.values()):
            if relation.reltype.endswith(f"/{kind}") and not relation.is_external:
                text = "\n".join(self._blocks(parse_xml(relation.target_part.blob))).strip()
                if text and text not in seen and not _PAGE_NUMBER.fullmatch(text):
                    yield text
                seen.add(text)

    def _blocks(self, root: _Element) -> Iterator[str]:
        for element in _BLOCKS(root):
            yield from self._table(element) if element.tag == _TABLE else self._paragraph(element)
            yield from self._pending
            self._pending.clear()

    def _paragraph(self, element: _Element) -> Iterator[str]:
        text, self._joined = self._joined + self._runs.text(element), ""
        if _JOINS_NEXT(element):
            self._joined = text
            return
        level = self._heading_level(element)
        label, depth = self._label(element) if text.strip() else (None, 0)
        numbered = f"{label} {text}" if label else text
        if level and text.strip():
            yield markdown.heading(text if label == "-" else numbered, level)
        elif label:
            yield markdown.item(text, depth, label)
        else:
            yield text
        yield from drawings.linked(element, self._part)

    def _style_of(self, paragraph: _Element) -> str:
        found = paragraph.find(f"{qn('w:pPr')}/{qn('w:pStyle')}")
        return "" if found is None else found.get(qn("w:val"), "")

    def _lineage(self, style_id: str) -> Iterator[_Element]:
        """A style and those that it is based on."""
        seen = set()
        while style_id in self._styles and style_id not in seen:
            seen.add(style_id)
            style = self._styles[style_id]
            yield style
            based_on = style.find(qn("w:basedOn"))
            style_id = "" if based_on is None else based_on.get(qn("w:val"), "")

    def _heading_level(self, paragraph: _Element) -> int:
        """Level of a heading style, of a style derived from one, or of an outline; 0 for other paragraphs."""
        styles = list(self._lineage(self._style_of(paragraph)))
        for style in styles:
            name = style.find(qn("w:name"))
            found = re.fullmatch(
                r"(?:heading|title)\s*(\d?)", "" if name is None else name.get(qn("w:val"), "").lower()
            )
            if found:
                return int(found[1] or 1)
        outlines = (_attribute(element, "w:pPr/w:outlineLvl") for element in (paragraph, *styles))
        stated = next(filter(None, outlines), "9")
        return int(stated) + 1 if stated in "012345678" else 0

    def _label(self, paragraph: _Element) -> tuple[str | None, int]:
        """A paragraph's number and depth in its list; no number if it is in none."""
        number_id = depth = None
        styles = list(self._lineage(self._style_of(paragraph)))
        for element in (paragraph, *styles):
            properties = element.find(f"{qn('w:pPr')}/{qn('w:numPr')}")
            if properties is not None:
                number_id = number_id or _attribute(properties, "w:numId") or None
                depth = depth or _attribute(properties, "w:ilvl") or None
        at = int(depth) if depth and depth.isdigit() and len(depth) < 3 else 0
        if number_id not in (None, "0"):
            if depth is None:
                at = self._numbering.depth_of(number_id or "", self._style_of(paragraph))
            label = self._numbering.label(number_id or "", at)
            return ("-" if label is None else label), at  # a list that is not defined has dashes
        is_list = number_id is None and any(_attribute(style, "w:name").startswith("List") for style in styles[:1])
        return ("-" if is_list else None), at

    # Tables

    def _table(self, table: _Element) -> Iterator[str]:
        rows = [_CELLS(row) for row in _ROWS(table) if not _DELETED_ROW(row)]
        if len(rows) == 1 == len(rows[0]):  # a frame
            yield from self._blocks_of_cell(rows[0][0])
            return
        grid: list[list[str]] = []
        for cells in rows:
            line = [""] * _skipped(cells)
            for cell in cells:
                span, merged = _span(cell)
                above = grid[-1][len(line)] if merged and grid and len(line) < len(grid[-1]) else None
                text = self._cell(cell) if above is None else above
                line += [text, *[""] * (span - 1)]
            grid.append(line)
        yield markdown.table(grid)

    def _blocks_of_cell(self, cell: _Element) -> Iterator[str]:
        for child in cell.iterchildren():
            if child.tag == _P:
                yield from self._paragraph(child)
            elif child.tag == _TABLE:
                yield from self._table(child)

    def _cell(self, cell: _Element) -> str:
        """Text of a cell on one line; a table in it as its rows, parted by semicolons."""
        parts = []
        for element in cell.iter(_P, _TABLE):
            if next(element.iterancestors(_CELL)) is not cell:
                continue
            if element.tag == _TABLE:
                rows = (", ".join(filter(None, map(self._cell, _CELLS(row)))) for row in _ROWS(element))
                parts.append("; ".join(filter(None, rows)))
            else:
                label, _ = self._label(element)
                parts.append(f"{label} {self._runs.text(element)}" if label else self._runs.text(element))
        return " ".join(" ".join(parts).split())


def _skipped(cells: list[_Element]) -> int:
    """Columns that a row leaves free before its first cell."""
    properties = cells[0].getparent().find(qn("w:trPr")) if cells else None
    n_columns = "" if properties is None else _attribute(properties, "w:gridBefore")
    return min(int(n_columns[:4]), MAX_SPAN) if n_columns.isdigit() else 0


def _attribute(element: _Element, tag: str) -> str:
    found = element.find("/".join(map(qn, tag.split("/"))))
    return "" if found is None else found.get(qn("w:val"), "")


def _span(cell: _Element) -> tuple[int, bool]:
    """Columns that a cell spans, and whether it goes on from the row above."""
    properties = cell.find(qn("w:tcPr"))
    if properties is None:
        return 1, False
    span = _attribute(properties, "w:gridSpan")
    merge = properties.find(qn("w:vMerge"))
    goes_on = merge is not None and merge.get(qn("w:val"), "continue") == "continue"
    return (min(int(span), MAX_SPAN) if span.isdigit() and 0 < int(span[:4]) else 1), goes_on
