"""OpenDocument (ODT, ODS, ODP) to Markdown: headings, lists, tables, notes, comments, sheets and slides."""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType

from lxml.etree import XPath, _Element

from blockrag.documents import markdown
from blockrag.documents.document import PAGE_BREAK, Content, Limits, counted
from blockrag.documents.html_inline import formula
from blockrag.documents.opendocument_lists import Counters, ListStyle, Outline, start_of
from blockrag.documents.spreadsheet import grids
from blockrag.documents.word_runs import shifted
from blockrag.documents.zips import check_inflated, parse_xml, qualified_name
from blockrag.errors import DocumentError

_ODF = "urn:oasis:names:tc:opendocument:xmlns:"
_NAMESPACES = {
    prefix: f"{_ODF}{name}:1.0"
    for prefix, name in (
        ("office", "office"), ("text", "text"), ("table", "table"), ("draw", "drawing"), ("style", "style"),
        ("presentation", "presentation"),
    )
}  # fmt: skip

_DC = "http://purl.org/dc/elements/1.1/"

MAX_REPEATS = 1_000
"""Most repetitions of a row or cell with text that are written out."""

MAX_OBJECTS = 10_000
"""Members of the file among which embedded formulas and charts are looked for."""

MAX_DEPTH = 100
"""Levels of nested elements that are read."""

_BULLETS = ListStyle()


_name = partial(qualified_name, namespaces=_NAMESPACES)


_HEADERS = XPath("//style:master-page/*[self::style:header or self::style:footer]", namespaces=_NAMESPACES)
_STYLES = XPath("//style:style", namespaces=_NAMESPACES)
_LIST_STYLES = XPath("//text:list-style", namespaces=_NAMESPACES)
_PICTURES = XPath("count(//draw:image[not(../draw:object)])", namespaces=_NAMESPACES)
_CELL_TEXTS = XPath(".//*[self::text:p or self::text:h][not(ancestor::office:annotation)]", namespaces=_NAMESPACES)
_ROWS = XPath(".//table:table-row[ancestor::table:table[1] = $table]", namespaces=_NAMESPACES)
_SKIPPED = {
    _name(tag)
    for tag in ("text:tracked-changes", "text:sequence-decls", "text:variable-decls", "text:table-of-content-source",
                "office:forms", "table:shapes", "text:page-number", "text:page-count", "text:ruby-text",
                "text:user-field-decls", "text:note-citation")
}  # fmt: skip


def read(name: str, data: bytes, limits: Limits) -> Content:
    """Text in order; sheets and slides joined by `PAGE_BREAK`.

    Raises
    ------
    DocumentError
        If it is encrypted.
    """
    check_inflated(name, data, limits)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if "META-INF/manifest.xml" in names and b"encryption-data" in archive.read("META-INF/manifest.xml"):
            raise DocumentError(name, "it is encrypted; save it without a password")
        content = parse_xml(archive.read("content.xml"))
        styles = parse_xml(archive.read("styles.xml")) if "styles.xml" in names else None
        objects = {
            member.removesuffix("/content.xml"): parse_xml(archive.read(member))
            for member in names[:MAX_OBJECTS]
            if member.endswith("/content.xml")
        }
    return _Reader(content, styles, objects).content()


class _Reader:
    def __init__(
        self, content: _Element, styles: _Element | None, objects: Mapping[str, _Element] = MappingProxyType({})
    ):
        self._content, self._styles, self._objects = content, styles, objects
        self._hidden: set[str] = set()
        self._titles = {"Title"}
        self._align: dict[str, str] = {}
        self._lists: dict[str, ListStyle] = {}
        self._counters, self._outline = Counters(), Outline(_BULLETS)
        self._pending: list[str] = []
        self._n_notes = 0
        self._shut: list[str] = []
        self._hidden_tables: set[str] = set()
        self._left_out: Counter[str] = Counter()
        for root in (styles, content):
            if root is not None:
                self._read_styles(root)

    def content(self) -> Content:
        """The document's text and what was left out of it."""
        body = self._content.find(_name("office:body"))
        document = next(iter(body)) if body is not None and len(body) else self._content
        if document.tag == _name("office:spreadsheet"):
            sheets = list(document.iterchildren(_name("table:table")))
            pages = [self._sheet(sheet) for sheet in sheets]
            self._shut = [sheet.get(_name("table:name"), "") for sheet in sheets if self._is_hidden(sheet)]
        elif document.tag == _name("office:presentation"):
            pages = [markdown.paragraphs(self._slide(page)) for page in document.iterchildren(_name("draw:page"))]
        else:
            pages = [markdown.paragraphs([*self._margins("header"), *self._blocks(document), *self._margins("footer")])]
        return Content(PAGE_BREAK.join(filter(None, pages)), notes=tuple(self._notes()))

    def _notes(self) -> Iterator[str]:
        for n, one, many in (
            (self._left_out["hidden"], "character of hidden text was", "characters of hidden text were"),
            (self._left_out["ruby"], "reading above a word (ruby) was", "readings above words (ruby) were"),
            (self._left_out["repeats"], "repeated row or cell was", "repeated rows or cells were"),
            (int(_PICTURES(self._content)), "picture was", "pictures were"),
            (self._left_out["objects"], "embedded object was", "embedded objects were"),
        ):
            if n:
                yield f"{counted(n, one, many)} left out."
        yield from (f'The sheet "{name}" is hidden but read.' for name in self._shut)

    def _read_styles(self, root: _Element) -> None:
        for style in _STYLES(root):
            id = style.get(_name("style:name"), "")
            if style.get(_name("style:parent-style-name")) == "Title":
                self._titles.add(id)
            for properties in style.iterchildren(_name("style:table-properties")):
                if properties.get(_name("table:display")) == "false":
                    self._hidden_tables.add(id)
            for properties in style.iterchildren(_name("style:text-properties")):
                if properties.get(_name("text:display")) == "none":
                    self._hidden.add(id)
                position = properties.get(_name("style:text-position"), "").split()
                if position and position[0].rstrip("%") not in ("0", ""):
                    below = position[0] == "sub" or position[0].startswith("-")
                    self._align[id] = "subscript" if below else "superscript"
        for style in _LIST_STYLES(root):
            self._lists[style.get(_name("style:name"), "")] = ListStyle(style)
        for style in root.iter(_name("text:outline-style")):
            self._outline = Outline(ListStyle(style))

    def _margins(self, kind: str) -> Iterator[str]:
        """Headers or footers, each text once."""
        found = [] if self._styles is None else [e for e in _HEADERS(self._styles) if e.tag == _name(f"style:{kind}")]
        yield from dict.fromkeys("\n".join(filter(str.strip, self._blocks(element))) for element in found)

    def _blocks(self, parent: _Element, depth: int = 0) -> Iterator[str]:
        """Paragraphs, lists and tables; notes and comments follow the paragraph that refers to them."""
        for element in parent if depth < MAX_DEPTH else ():
            tag = element.tag
            if tag == _name("text:h"):
                text = self._text(element)
                label = self._outline.label(element, _level_of(element)) if text.strip() else ""
                yield self._heading(element, label, text) if text.strip() else ""
            elif tag == _name("text:p"):
                text = self._text(element)
                is_title = text.strip() and element.get(_name("text:style-name")) in self._titles
                yield markdown.heading(text, 1) if is_title else text
            elif tag == _name("text:list"):
                yield from self._list(element, "", depth + 1)
            elif tag == _name("table:table"):
                yield from grids(self._rows(element))
            elif tag in (_name("draw:object"), _name("draw:object-ole")):
                yield from self._embedded(element, depth)
            elif tag == _name("text:section") and element.get(_name("text:display")) == "none":
                self._left_out["hidden"] += sum(len("".join(p.itertext())) for p in element.iter(_name("text:p")))
            elif isinstance(tag, str) and tag not in _SKIPPED and tag != _name("office:annotation"):
                yield from self._blocks(element, depth + 1)
            yield from self._pending
            self._pending = []

    def _list(
        self, element: _Element, name: str, depth: int, above: tuple[int, ...] = (), indent: int = 0
    ) -> Iterator[str]:
        """Items with their numbers, below items with the numbers `above`; headings among them as headings."""
        name = element.get(_name("text:style-name"), name)
        style = self._lists.get(name, _BULLETS)
        number = self._counters.first(element, name, style, above)
        for item in element if depth < MAX_DEPTH else ():
            number, first, inner = start_of(item, number), True, indent + 1
            for child in item:
                if child.tag == _name("text:list"):
                    parent = number - 1 if first and number > style.start(len(above) + 1) else number
                    yield from self._list(child, name, depth + 1, (*above, parent), inner)
                elif (text := self._text(child)).strip():
                    is_numbered = first and item.tag == _name("text:list-item")
                    label = style.label((*above, number)) if is_numbered else ""
                    if child.tag == _name("text:h"):
                        yield self._heading(child, label or "", text)
                        inner = 0
                    else:
                        yield markdown.item(text, indent, ((label or "").strip() or "-") if is_numbered else " ")
                    first = False
                yield from self._pending
                self._pending = []
            if not first and item.tag == _name("text:list-item"):
                self._counters.keep(name, (*above, number))
                number += 1

    def _heading(self, element: _Element, label: str, text: str) -> str:
        return markdown.heading(f"{label} {text}", _level_of(element))

    def _text(self, element: _Element, depth: int = 0) -> str:
        """Text of a paragraph; what stands in frames and notes becomes pending."""
        parts = [_folded(element.text)]
        for child in element if depth < MAX_DEPTH else ():
            parts += [self._inline(child, depth), _folded(child.tail)]
        return "".join(parts).replace("\xad", "")

    def _inline(self, child: _Element, depth: int) -> str:
        tag = child.tag
        if tag == _name("text:s"):
            count = child.get(_name("text:c"), "1")
            return " " * (min(int(count[:4]), MAX_REPEATS) if count.isdigit() else 1)
        if tag in (_name("text:tab"), _name("text:line-break")):
            return "\t" if tag == _name("text:tab") else "\n"
        if tag == _name("text:note"):
            body = child.find(_name("text:note-body"))
            self._n_notes += 1
            number, text = self._n_notes, " ".join(self._plain(body))
            self._pending.append(f"[^{number}]: {text}")
            return f"[^{number}]"
        if tag == _name("office:annotation"):
            self._pending.append(self._comment(child))
            return ""
        if tag == _name("draw:frame"):
            if child.find(_name("draw:object")) is not None and (
                text := self._formula(child.find(_name("draw:object")))
            ):
                return text
            waiting, self._pending = self._pending, []
            self._pending = [*waiting, *self._blocks(child, depth + 1)]
            return ""
        if tag == _name("text:ruby"):
            self._left_out["ruby"] += 1
        if tag in _SKIPPED or not isinstance(tag, str):
            return ""
        text, style = self._text(child, depth + 1), child.get(_name("text:style-name"), "")
        if style in self._hidden or tag == _name("text:hidden-text"):
            self._left_out["hidden"] += len(text)
            return ""
        return shifted(text, self._align.get(style, ""))

    def _comment(self, annotation: _Element) -> str:
        author = " ".join((annotation.findtext(f"{{{_DC}}}creator") or "").split())
        return f"[Comment{' by ' + author if author else ''}: {' '.join(self._plain(annotation))}]"

    def _object(self, element: _Element) -> _Element | None:
        return self._objects.get(element.get("{http://www.w3.org/1999/xlink}href", "").removeprefix("./").rstrip("/"))

    def _formula(self, element: _Element) -> str:
        root = self._object(element)
        return formula(root) if root is not None and root.tag.rpartition("}")[2] == "math" else ""

    def _embedded(self, element: _Element, depth: int) -> Iterator[str]:
        """A formula, or the titles and the table of a chart; anything else is left out."""
        root = self._object(element)
        if root is None or depth >= MAX_DEPTH:
            self._left_out["objects"] += element.getnext() is None or element.getnext().tag != element.tag
        elif text := self._formula(element):
            yield text
        else:
            yield from _Reader(root, None)._blocks(root, depth + 1)

    def _plain(self, element: _Element | None) -> Iterator[str]:
        """Texts of the paragraphs in a note, comment or cell."""
        for paragraph in [] if element is None else _CELL_TEXTS(element):
            yield " ".join(self._text(paragraph).split())
        if element is not None and element.tag == _name("office:annotation"):
            yield from (" ".join(self._text(p).split()) for p in element.iter(_name("text:p")))

    # Tables, sheets, slides

    def _rows(self, table: _Element) -> Iterator[list[str]]:
        for row in table.iter(_name("table:table-row")):
            if next(row.iterancestors(_name("table:table"))) is not table:
                continue
            cells = self._cells(row)
            repeats = self._repeats(row, "rows", any(cells))
            for _ in range(repeats):
                yield cells

    def _cells(self, row: _Element) -> list[str]:
        cells: list[str] = []
        for cell in row.iterchildren(_name("table:table-cell"), _name("table:covered-table-cell")):
            text = " ".join(self._plain(cell)) or _value(cell)
            for annotation in cell.iterchildren(_name("office:annotation")):
                self._pending.append(self._comment(annotation))
            cells += [text] * self._repeats(cell, "columns", bool(text))
        return cells

    def _repeats(self, element: _Element, kind: str, has_text: bool) -> int:
        """How often a row or cell is written: once if it is empty, since sheets repeat those to their very end."""
        given = element.get(_name(f"table:number-{kind}-repeated"), "1")
        wanted = int(given[:9]) if given.isdigit() else 1
        most = MAX_REPEATS if has_text else 1 if kind == "rows" else 64
        if has_text and wanted > most:
            self._left_out["repeats"] += wanted - most
        return max(1, min(wanted, most))

    def _is_hidden(self, sheet: _Element) -> bool:
        return sheet.get(_name("table:style-name"), "") in self._hidden_tables

    def _sheet(self, table: _Element) -> str:
        tables = [*grids(self._rows(table)), *self._pending]
        self._pending = []
        head = markdown.heading(table.get(_name("table:name"), "Sheet"), 1)
        return "\n\n".join([head, *tables]) + "\n" if tables else ""

    def _slide(self, page: _Element) -> Iterator[str]:
        for shape in page:
            texts = list(self._blocks(shape))
            if shape.get(_name("presentation:class")) == "title":
                title = " ".join(filter(str.strip, texts))
                yield markdown.heading(title, 1) if title else ""
            else:
                yield from texts


def _folded(text: str | None) -> str:
    """Text of the file with each run of white space as one blank, as OpenDocument defines it."""
    return re.sub(r"[ \t\r\n]+", " ", text or "")


def _value(cell: _Element) -> str:
    """The value of a cell that is stored without the text shown for it."""
    values = (cell.get(_name(f"office:{kind}")) for kind in ("string-value", "date-value", "boolean-value", "value"))
    return next(filter(None, values), "")


def _level_of(heading: _Element) -> int:
    stated = heading.get(_name("text:outline-level"), "1")
    return int(stated) if stated.isdigit() and len(stated) < 3 else 1
