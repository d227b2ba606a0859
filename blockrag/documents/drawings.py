"""Charts and diagrams (SmartArt) of Office files, as tables and lists."""

from collections.abc import Iterator
from typing import Any

from lxml.etree import XPath, _Element

from blockrag.documents import markdown
from blockrag.documents.zips import parse_xml

CHART = "http://schemas.openxmlformats.org/drawingml/2006/chart"
"""Namespace of charts."""

_NAMESPACES = {
    "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
    "c": CHART,
    "dgm": "http://schemas.openxmlformats.org/drawingml/2006/diagram",
    "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
    "r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
}


def _path(expression: str) -> XPath:
    return XPath(expression, namespaces=_NAMESPACES)


_LINKS = _path("(.//c:chart/@r:id | .//dgm:relIds/@r:dm)[not(ancestor::mc:Fallback)]")
_TITLE = _path("./c:chart/c:title//a:t/text()")
_SERIES = _path(".//c:ser")
_NAME = _path("string(./c:tx//c:v)")
_CATEGORIES = _path("(./c:cat | ./c:xVal)//c:pt[not(ancestor::c:lvl[preceding-sibling::c:lvl])]")
_VALUES = _path("(./c:val | ./c:yVal)//c:pt")
_AXES = _path(".//*[self::c:catAx or self::c:valAx or self::c:dateAx]/c:title")
_POINTS = _path(".//dgm:pt[not(@type) or @type='node' or @type='asst']")
_PARAGRAPHS = _path(".//a:p")
_TEXT = _path(".//a:t/text()")

MAX_POINTS = 1 << 16
"""Most points of a chart's series."""


def linked(element: _Element, part: Any) -> Iterator[str]:
    """Text of the charts and diagrams in `element`, which belongs to a package's `part`."""
    for id in _LINKS(element):
        if id in part.rels and not part.rels[id].is_external:
            root = parse_xml(part.rels[id].target_part.blob)
            yield diagram(root) if root.tag.endswith("}dataModel") else chart(root)


def chart(root: _Element) -> str:
    """A chart's title, axes and series as a table."""
    series = [(_NAME(found), _points(_CATEGORIES(found)), _points(_VALUES(found))) for found in _SERIES(root)]
    places = sorted({place for _, categories, values in series for place in (*categories, *values)})
    names = {place: text for _, categories, _ in reversed(series) for place, text in categories.items()}
    rows = [["", *(name for name, _, _ in series)]]
    rows += [[names.get(place, ""), *(values.get(place, "") for _, _, values in series)] for place in places]
    title = "".join(_TITLE(root)).strip()
    axes = "; ".join(filter(None, ("".join(_TEXT(axis)).strip() for axis in _AXES(root))))
    head = f"Chart: {title}" if title else "Chart"
    return "\n\n".join([f"{head} ({axes})" if axes else head, *([markdown.table(rows)] if places else [])])


def text_of(box: _Element) -> str:
    """The paragraphs of a text box."""
    return "\n".join(filter(None, ("".join(_TEXT(p)).strip() for p in _PARAGRAPHS(box))))


def diagram(root: _Element) -> str:
    """The texts of a diagram as a list."""
    points = (" ".join("".join(_TEXT(p)) for p in _PARAGRAPHS(point)).strip() for point in _POINTS(root))
    return "\n".join(markdown.item(text) for text in points if text)


def _points(points: list[_Element]) -> dict[int, str]:
    found = {}
    for point in points[:MAX_POINTS]:
        place = point.get("idx", "")
        if place.isdigit() and len(place) < 7:
            found[int(place)] = "".join(point.itertext()).strip()
    return found
