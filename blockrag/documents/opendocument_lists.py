"""Numbers of lists and headings of OpenDocument, as its reader sees them (ODF 1.3, part 3, 16.31 to 16.36)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from lxml.etree import _Element

from blockrag.documents.number_formats import format_of, number_text
from blockrag.documents.zips import qualified_name

_ODF = "urn:oasis:names:tc:opendocument:xmlns:"
_name = partial(
    qualified_name,
    namespaces={"text": f"{_ODF}text:1.0", "style": f"{_ODF}style:1.0"},
)
_FORMATS = {"1": "decimal", "a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman", "": "none"}
_NUMBERED = (_name("text:list-level-style-number"), _name("text:outline-level-style"))
MAX_LEVELS = 10


@dataclass(frozen=True, slots=True)
class Level:
    """How one level is numbered: `n_shown` levels joined by points between `prefix` and `suffix`, or a `pattern` in
    which ``%1%`` stands for the number of level 1."""

    prefix: str
    format: str
    suffix: str
    start: int
    n_shown: int
    pattern: str


class ListStyle:
    """Levels of a list style or of the headings.

    Parameters
    ----------
    levels : iterable of elements
        Those that number; bullets have none.
    """

    def __init__(self, levels: Iterable[_Element] = ()):
        self._levels = dict(_level(level) for level in levels if level.tag in _NUMBERED)

    def start(self, level: int) -> int:
        """First number of a level, from 1."""
        return self._levels[level].start if level in self._levels else 1

    def label(self, numbers: Sequence[int]) -> str | None:
        """What stands before an item with these numbers, one a level; None where there is a bullet or nothing."""
        level = self._levels.get(len(numbers))
        if level is None:
            return None

        def number(at: int) -> str:
            shown = 1 <= at <= len(numbers)
            return number_text(numbers[at - 1], self._levels[at].format) if shown and at in self._levels else ""

        if level.pattern:
            return re.sub(r"%(\d{1,2})%", lambda found: number(int(found[1])), level.pattern)
        parts = map(number, range(len(numbers) - level.n_shown + 1, len(numbers) + 1))
        return level.prefix + ".".join(filter(None, parts)) + level.suffix


def _level(element: _Element) -> tuple[int, Level]:
    stated = element.get(_name("style:num-format"), "")  # such as "一, 二, 三, ..." beyond the usual ones
    pattern = next((value for name, value in element.attrib.items() if str(name).endswith("}num-list-format")), "")
    return _integer(element.get(_name("text:level")), 0), Level(
        element.get(_name("style:num-prefix"), ""),
        _FORMATS.get(stated) or format_of(stated.partition(",")[0].strip()),
        element.get(_name("style:num-suffix"), ""),
        _integer(element.get(_name("text:start-value")), 1),
        max(1, min(_integer(element.get(_name("text:display-levels")), 1), MAX_LEVELS)),
        str(pattern),
    )


def _integer(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else default


class Counters:
    """Numbers of the lists of a document, which a later list may continue."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, int], tuple[tuple[int, ...], int]] = {}

    def first(self, element: _Element, name: str, style: ListStyle, above: tuple[int, ...]) -> int:
        """First number of a list in the style `name`, below items with the numbers `above`."""
        level = len(above) + 1
        parents, last = self._last.get((name, level), ((), 0))
        lists = (element, *element.iterancestors(_name("text:list")))
        return last + 1 if last and parents == above and any(map(_continues, lists)) else style.start(level)

    def keep(self, name: str, numbers: tuple[int, ...]) -> None:
        """Remember the numbers of an item."""
        self._last[name, len(numbers)] = numbers[:-1], numbers[-1]


class Outline:
    """Numbers of the headings that stand in no list."""

    def __init__(self, style: ListStyle):
        self._style = style
        self._numbers = [0] * MAX_LEVELS

    def label(self, heading: _Element, level: int) -> str:
        """The number of the next heading; empty if it has none."""
        if heading.get(_name("text:is-list-header")) == "true" or not 0 < level <= MAX_LEVELS:
            return ""
        numbers = self._numbers
        for above in range(1, level):
            numbers[above - 1] = numbers[above - 1] or self._style.start(above)
        numbers[level - 1] = numbers[level - 1] + 1 if numbers[level - 1] else self._style.start(level)
        numbers[level:] = [0] * (MAX_LEVELS - level)
        return self._style.label(tuple(numbers[:level])) or ""


def start_of(item: _Element, number: int) -> int:
    """The number of an item: its own start value, or the next one."""
    return _integer(item.get(_name("text:start-value")), number)


def _continues(element: _Element) -> bool:
    return element.get(_name("text:continue-numbering")) == "true" or bool(element.get(_name("text:continue-list")))
