"""PPTX to Markdown, one page per slide: title, text, lists, tables, charts, diagrams, speaker notes, comments."""

import io
from collections.abc import Iterable, Iterator
from functools import partial

import pptx
from lxml.etree import XPath, _Element
from pptx.slide import Slide

from blockrag.documents import drawings, markdown
from blockrag.documents.document import PAGE_BREAK, Content, Limits, counted
from blockrag.documents.number_formats import number_text
from blockrag.documents.word_runs import formula, shifted
from blockrag.documents.zips import check_inflated, parse_xml, qualified_name

_NAMESPACES = {
    "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
    "a14": "http://schemas.microsoft.com/office/drawing/2010/main",
    "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
    "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
    "p": "http://schemas.openxmlformats.org/presentationml/2006/main",
}


_name = partial(qualified_name, namespaces=_NAMESPACES)


_PLACEHOLDER = XPath("./p:nvSpPr/p:nvPr/p:ph", namespaces=_NAMESPACES)
_TABLES = XPath("./a:graphic/a:graphicData/a:tbl", namespaces=_NAMESPACES)
_COMMENTS = XPath(".//p:text/text() | .//*[local-name()='txBody']//a:t/text()", namespaces=_NAMESPACES)
_IS_HIDDEN = XPath("boolean(./*/p:cNvPr[@hidden = '1' or @hidden = 'true'])", namespaces=_NAMESPACES)
_HIDDEN = XPath("count(.//p:cNvPr[@hidden = '1' or @hidden = 'true'])", namespaces=_NAMESPACES)
_PICTURES = XPath(".//p:pic[not(ancestor::mc:Fallback)]", namespaces=_NAMESPACES)
_TITLES, _LISTS = ("title", "ctrTitle"), ("body", "obj", "vert")
_NUMBERS = {
    "alphaLc": "lowerLetter", "alphaUc": "upperLetter", "romanLc": "lowerRoman", "romanUc": "upperRoman",
    "circleNum": "decimalEnclosedCircle", "ea1": "japaneseCounting", "thaiAlpha": "thaiLetters",
    "thaiNum": "thaiNumbers", "hindiNum": "hindiNumbers", "hebrew2": "hebrew2", "arabic1Minus": "arabicAlpha",
    "arabic2Minus": "arabicAbjad", "arabicDb": "decimalFullWidth",
}  # fmt: skip
_FURNITURE = ("ftr", "sldNum", "dt", "hdr")
"""Placeholders that repeat on every slide."""


def read(name: str, data: bytes, limits: Limits) -> Content:
    """Slides joined by `PAGE_BREAK`: title as a heading, other shapes in order, speaker notes."""
    check_inflated(name, data, limits)
    slides = list(pptx.Presentation(io.BytesIO(data)).slides)
    text = PAGE_BREAK.join(markdown.paragraphs(_parts(slide)) for slide in slides)
    return Content(text, notes=tuple(_notes(slides)))


def _notes(slides: list[Slide]) -> Iterator[str]:
    hidden = [str(i) for i, slide in enumerate(slides, start=1) if slide.element.get("show") in ("0", "false")]
    if hidden:
        yield f"{counted(len(hidden), 'slide is', 'slides are')} hidden but read: {', '.join(hidden)}."
    if n_hidden := int(sum(_HIDDEN(slide.element) for slide in slides)):
        yield f"{counted(n_hidden, 'hidden shape was', 'hidden shapes were')} left out."
    n_pictures = sum(len(_PICTURES(slide.element)) for slide in slides)
    if n_pictures:
        yield f"{counted(n_pictures, 'picture was', 'pictures were')} left out."


def _parts(slide: Slide) -> Iterator[str]:
    tree = slide.element.find(f"{_name('p:cSld')}/{_name('p:spTree')}")
    yield from _shapes(sorted(tree, key=lambda shape: not _is_title(shape)), slide)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        yield from _paragraphs(slide.notes_slide.notes_text_frame._txBody, is_list=False)
    for relation in slide.part.rels.values():
        if relation.reltype.endswith("/comments") and not relation.is_external:
            for text in _COMMENTS(parse_xml(relation.target_part.blob)):
                yield f"[Comment: {text.strip()}]"


def _is_title(shape: _Element) -> bool:
    return any(placeholder.get("type", "obj") in _TITLES for placeholder in _PLACEHOLDER(shape))


def _shapes(tree: Iterable[_Element], slide: Slide) -> Iterator[str]:
    """Texts of shapes in order, with groups expanded in place; without hidden ones."""
    for shape in tree:
        if _IS_HIDDEN(shape):
            continue
        if shape.tag == _name("mc:AlternateContent"):
            alternatives = (list(_shapes(alternative, slide)) for alternative in shape)
            yield from next((texts for texts in alternatives if any(map(str.strip, texts))), [])
        elif shape.tag == _name("p:grpSp"):
            yield from _shapes(shape, slide)
        elif shape.tag == _name("p:graphicFrame"):
            for table in _TABLES(shape):
                yield markdown.table(_grid(table))
            yield from drawings.linked(shape, slide.part)
        elif shape.tag in (_name("p:sp"), _name("p:cxnSp")):
            yield from _shape(shape)


def _shape(shape: _Element) -> Iterator[str]:
    body = shape.find(_name("p:txBody"))
    placeholders = _PLACEHOLDER(shape)
    kind = placeholders[0].get("type", "obj") if placeholders else ""
    if body is None or kind in _FURNITURE:
        return
    if kind in _TITLES:
        title = " ".join(_paragraphs(body, is_list=False))
        yield markdown.heading(title, 1) if title.strip() else ""
    else:
        yield from _paragraphs(body, kind in _LISTS)


def _paragraphs(body: _Element, is_list: bool) -> Iterator[str]:
    """Paragraphs, those of a list behind a dash or the number that PowerPoint computes."""
    counts: dict[int, tuple[str, int]] = {}
    for paragraph in body.iterchildren(_name("a:p")):
        text, properties = _text(paragraph).strip(), paragraph.find(_name("a:pPr"))
        level = "0" if properties is None else properties.get("lvl", "0")
        depth = int(level) if level.isdigit() and len(level) == 1 else 0
        numbered = None if properties is None else properties.find(_name("a:buAutoNum"))
        is_plain = properties is not None and properties.find(_name("a:buNone")) is not None
        if not text:
            yield text
            continue
        counts = {of: count for of, count in counts.items() if of < depth or (of == depth and numbered is not None)}
        if numbered is not None:
            style, start = numbered.get("type", "arabicPeriod"), numbered.get("startAt", "1")
            first = int(start) if start.isdigit() and len(start) < 6 else 1
            number = counts[depth][1] + 1 if counts.get(depth, ("", 0))[0] == style else first
            counts[depth] = (style, number)
            yield markdown.item(text, depth, _number(number, style))
        else:
            is_bulleted = (is_list or depth or _has_bullet(properties)) and not is_plain
            yield markdown.item(text, depth) if is_bulleted else text


def _has_bullet(properties: _Element | None) -> bool:
    return properties is not None and properties.find(_name("a:buChar")) is not None


def _number(number: int, style: str) -> str:
    """``5.``, ``(e)`` or ``v)`` for the name of a way of numbering, such as ``alphaLcParenBoth``."""
    kind = next((kind for name, kind in _NUMBERS.items() if style.startswith(name)), "decimal")
    text = number_text(number, kind)
    if style.endswith("ParenBoth"):
        return f"({text})"
    if style.endswith("Minus"):
        return f"{text} -"
    return text if style.endswith("Plain") else f"{text})" if style.endswith("ParenR") else f"{text}."


def _text(paragraph: _Element) -> str:
    """Text of a paragraph; a line break in it is a newline."""
    text = ""
    for child in paragraph:
        if child.tag == _name("a:br"):
            text += "\n"
        elif child.tag in (_name("a:r"), _name("a:fld")):
            properties = child.find(_name("a:rPr"))
            baseline = "0" if properties is None else properties.get("baseline", "0")
            align = "" if baseline.strip("0%") == "" else "subscript" if baseline.startswith("-") else "superscript"
            text += shifted("".join(t.text or "" for t in child.iter(_name("a:t"))), align)
        elif child.tag == _name("a14:m"):
            text += "".join(map(formula, child))
        elif child.tag == _name("mc:AlternateContent"):
            text += next(filter(None, map(_text, child)), "")
    return text.replace("\v", "\n")


def _grid(table: _Element) -> list[list[str]]:
    """Cells of a table. A cell over several rows is repeated in each; one over several columns is in the first."""
    grid: list[list[str]] = []
    for row in table.iterchildren(_name("a:tr")):
        line: list[str] = []
        for cell in row.iterchildren(_name("a:tc")):
            merged = cell.get("vMerge") in ("1", "true") and grid and len(line) < len(grid[-1])
            text = " ".join(_text(paragraph) for paragraph in cell.iter(_name("a:p")))
            line.append(grid[-1][len(line)] if merged else text)
        grid.append(line)
    return grid
