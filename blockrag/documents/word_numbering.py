"""Numbers of headings and list items, computed as Word shows them (ECMA-376, 17.9)."""

import re
from dataclasses import dataclass, field

from docx.oxml.ns import qn
from lxml.etree import _Element

from blockrag.documents.number_formats import number_text

MAX_DEPTH = 9
"""Levels of a list."""


@dataclass(slots=True)
class Level:
    """How one level of a list is numbered. `text` holds %1 to %9, the numbers of the levels; `restart` is the level,
    from 1, after which it starts anew (0: never; None: after any higher one)."""

    start: int = 1
    format: str = "decimal"
    text: str = ""
    restart: int | None = None
    legal: bool = False
    style: str = ""


@dataclass(slots=True)
class _List:
    """A definition of a list with its counters."""

    levels: dict[int, Level]
    counters: list[int | None] = field(default_factory=lambda: [None] * MAX_DEPTH)


class Numbering:
    """The lists of a document, with their numbers so far.

    Parameters
    ----------
    numbering : element, optional
        Root of ``numbering.xml``.
    """

    def __init__(self, numbering: _Element | None):
        self._lists: dict[str, _List] = {}
        self._of_number: dict[str, str] = {}
        self._overrides: dict[str, dict[int, int]] = {}
        linked: dict[str, str] = {}
        if numbering is None:
            return
        for abstract in numbering.iterchildren(qn("w:abstractNum")):
            id = abstract.get(qn("w:abstractNumId"), "")
            levels = dict(map(_level, abstract.iterchildren(qn("w:lvl"))))
            self._lists[id] = _List(levels)
            if style := _value(abstract, "w:styleLink"):
                linked[style] = id
        for abstract in numbering.iterchildren(qn("w:abstractNum")):
            if (style := _value(abstract, "w:numStyleLink")) in linked:
                self._lists[abstract.get(qn("w:abstractNumId"), "")] = self._lists[linked[style]]
        for number in numbering.iterchildren(qn("w:num")):
            self._read_number(number)

    def label(self, number_id: str, depth: int) -> str | None:
        """Number of the next paragraph of a list: "2.1", "(a)", "-" for any bullet; None if there is no such list."""
        found = self._lists.get(self._of_number.get(number_id, ""))
        level = found.levels.get(depth) if found else None
        if found is None or level is None or not 0 <= depth < MAX_DEPTH:
            return None
        if number_id in self._overrides:  # a list that begins anew, at its first paragraph
            for at, start in self._overrides.pop(number_id).items():
                found.counters[at] = start - 1
        self._count(found, depth)
        return _shown(found, level)

    def depth_of(self, number_id: str, style: str) -> int:
        """The level of a list that belongs to a style of paragraphs; 0 if none does."""
        found = self._lists.get(self._of_number.get(number_id, ""))
        levels = found.levels.items() if found and style else ()
        return next((depth for depth, level in levels if level.style == style), 0)

    def _read_number(self, number: _Element) -> None:
        id = number.get(qn("w:numId"), "")
        abstract = _value(number, "w:abstractNumId") or ""
        self._of_number[id] = abstract
        for override in number.iterchildren(qn("w:lvlOverride")):
            depth, start = _integer(override.get(qn("w:ilvl"))), _value(override, "w:startOverride")
            if start is not None and 0 <= depth < MAX_DEPTH:
                self._overrides.setdefault(id, {})[depth] = _integer(start)
            level = override.find(qn("w:lvl"))
            if level is not None and abstract in self._lists:  # a definition of its own
                own = _List({**self._lists[abstract].levels, **dict([_level(level)])})
                self._of_number[id] = f"{abstract}/{id}"
                self._lists[f"{abstract}/{id}"] = own

    @staticmethod
    def _count(found: _List, depth: int) -> None:
        for above in range(depth):
            if found.counters[above] is None:
                found.counters[above] = found.levels[above].start if above in found.levels else 1
        now = found.counters[depth]
        found.counters[depth] = found.levels[depth].start if now is None else now + 1
        for below in range(depth + 1, MAX_DEPTH):
            restart = found.levels[below].restart if below in found.levels else None
            if restart is None or restart > depth:
                found.counters[below] = None


def _shown(found: _List, level: Level) -> str:
    if level.format == "bullet":
        return "-"

    def number(match: re.Match[str]) -> str:
        at = int(match[1]) - 1
        of = found.levels.get(at, level)
        value = found.counters[at]
        format = "decimal" if level.legal and of.format != "none" else of.format
        return number_text(of.start if value is None else value, format)

    return re.sub(r"%([1-9])", number, level.text).strip()


def _level(element: _Element) -> tuple[int, Level]:
    restart = _value(element, "w:lvlRestart")
    return _integer(element.get(qn("w:ilvl"))), Level(
        _integer(_value(element, "w:start"), 1),
        _value(element, "w:numFmt") or "decimal",
        _value(element, "w:lvlText") or "",
        None if restart is None else _integer(restart),
        element.find(qn("w:isLgl")) is not None,
        _value(element, "w:pStyle") or "",
    )


def _value(element: _Element, tag: str) -> str | None:
    found = element.find(qn(tag))
    return None if found is None else found.get(qn("w:val"))


def _integer(text: str | None, default: int = 0) -> int:
    return int(text) if text and re.fullmatch(r"-?\d{1,9}", text) else default
