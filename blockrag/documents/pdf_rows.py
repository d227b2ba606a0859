"""Lines of a PDF page: segments of text side by side."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from blockrag.documents.pdf_words import Segment

T = TypeVar("T")


@dataclass(slots=True)
class Row:
    """Segments on one line, from left to right."""

    segments: list[Segment]

    @property
    def text(self) -> str:
        """The segments' text."""
        return " ".join(segment.text for segment in self.segments)

    @property
    def is_form(self) -> bool:
        """Whether a form's value stands in it."""
        return any(segment.field for segment in self.segments)

    @property
    def is_mono(self) -> bool:
        """Whether its letters are all of one width."""
        return all(segment.mono for segment in self.segments)

    @property
    def is_block(self) -> bool:
        """Whether a whole table stands in it."""
        return any(segment.block for segment in self.segments)

    @property
    def x0(self) -> float:
        """Where it begins."""
        return min(segment.x0 for segment in self.segments)

    @property
    def x1(self) -> float:
        """Where it ends."""
        return max(segment.x1 for segment in self.segments)

    @property
    def middle(self) -> float:
        """Height of the line's middle."""
        return max(self.segments, key=lambda segment: segment.height).middle

    @property
    def height(self) -> float:
        """Of its letters."""
        return max(segment.height for segment in self.segments)


def rows_of(found: Iterable[Segment]) -> list[Row]:
    """Lines from top to bottom. Text that is turned otherwise than most of the page comes last."""
    rows: list[Row] = []
    by_turn: dict[int, list[Segment]] = {}
    for segment in found:
        by_turn.setdefault(segment.turn, []).append(segment)
    for group in sorted(by_turn.values(), key=len, reverse=True):
        current: Row | None = None
        for segment in sorted(group, key=lambda s: -s.middle):
            if current and abs(segment.middle - current.middle) < 0.4 * min(current.height, segment.height):
                current.segments.append(segment)
            else:
                current = Row([segment])
                rows.append(current)
    for row in rows:
        row.segments.sort(key=lambda segment: segment.x0)
        row.segments = _merged_fields(row.segments)
        if sum(is_rtl(segment.text) for segment in row.segments) > len(row.segments) / 2:
            row.segments.reverse()
    return rows


def _merged_fields(segments: list[Segment]) -> list[Segment]:
    """A form's value follows the text on its left."""
    merged: list[Segment] = []
    for segment in segments:
        if segment.field and merged:
            before = merged[-1]
            text = f"{before.text} {segment.text}"
            merged[-1] = Segment(text, before.x0, segment.x1, before.bottom, before.top, before.turn, field=True)
        else:
            merged.append(segment)
    return merged


def is_rtl(text: str) -> bool:
    return any(unicodedata.bidirectional(char) in ("R", "AL") for char in text)


def is_wide(char: str) -> bool:
    """Of a script that puts no spaces between words."""
    return bool(char) and unicodedata.east_asian_width(char) in "WF" and not "\uac00" <= char <= "\ud7a3"


def pairs(items: Sequence[T]) -> list[tuple[T, T]]:
    return list(zip(items, items[1:], strict=False))
