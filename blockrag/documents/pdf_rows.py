"""Lines of a PDF page: segments of text side by side."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from blockrag.documents.pdf_words import Segment, is_rtl

ALIKE, MARGIN = 1.04, 3.0
"""Blanks of a justified line differ by at most this factor; and ends of two such lines in points, both together."""

MAX_TALLER = 2.5
"""Words of a line in Arabic script differ in height by at most this factor."""

_NUMBER = re.compile(r"(?<!\S)([.,:;!?،؛؟])(\d[\d.,:%/]*)(?!\S)")
"""A number behind which text from right to left has a mark; it is drawn on its left."""

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
        """Left end."""
        return min(segment.x0 for segment in self.segments)

    @property
    def x1(self) -> float:
        """Right end."""
        return max(segment.x1 for segment in self.segments)

    def has_ends_of(self, other: "Row") -> bool:
        """Whether `other` is a justified line that begins and ends where this one does."""
        is_justified = len(other.segments) == 1 and len(other.segments[0].blanks) > 1
        return is_justified and abs(self.x0 - other.x0) + abs(self.x1 - other.x1) < MARGIN

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
            if current and _is_beside(segment, current):
                current.segments.append(segment)
            else:
                current = Row([segment])
                rows.append(current)
    for row in rows:
        row.segments.sort(key=lambda segment: segment.x0)
        row.segments = _merged_fields(row.segments)
        texts = [segment.text for segment in row.segments]
        if sum(map(is_rtl, texts)) > sum(not is_rtl(text) and any(map(str.isalpha, text)) for text in texts):
            row.segments.reverse()
            for segment in row.segments:
                segment.text = _NUMBER.sub(r"\2\1", segment.text)
    _join_justified(rows)
    return rows


def _is_beside(segment: Segment, row: Row) -> bool:
    """Whether a segment stands on a line. Arabic words differ much in height."""
    least = min(row.height, segment.height)
    if is_rtl(segment.text) and is_rtl(row.text) and max(row.height, segment.height) < MAX_TALLER * least:
        return abs(segment.middle - row.middle) < 0.5 * max(row.height, segment.height)
    return abs(segment.middle - row.middle) < 0.4 * least


def _join_justified(rows: list[Row]) -> None:
    """Make one segment of each line whose blanks are all alike: justified text, and no columns."""
    for row in rows:
        if len(row.segments) > 1 and _has_equal_blanks(row):
            row.segments = [_joined(row.segments)]
    for i, row in enumerate(rows):
        if len(row.segments) == 2 == len(row.text.split()) and any(map(row.has_ends_of, rows[max(i - 1, 0) : i + 2])):
            row.segments = [_joined(row.segments)]


def _has_equal_blanks(row: Row) -> bool:
    ordered = sorted(row.segments, key=lambda s: s.x0)
    blanks = [b.x0 - a.x1 for a, b in pairs(ordered)]
    blanks += [right - left for segment in row.segments for _, left, right in segment.blanks]
    words = row.text.split()
    return (
        len(blanks) > 1
        and len(blanks) >= 0.8 * (len(words) - 1)
        and max(blanks) <= ALIKE * min(blanks)
        and 2 * sum(word[:1].isalpha() for word in words) > len(words)
    )


def _joined(segments: list[Segment]) -> Segment:
    """Segments of a line as one, in the order given."""
    blanks = [(0, b.x1, a.x0) if b.x0 < a.x0 else (0, a.x1, b.x0) for a, b in pairs(segments)]
    return Segment(
        " ".join(segment.text for segment in segments),
        min(segment.x0 for segment in segments),
        max(segment.x1 for segment in segments),
        min(segment.bottom for segment in segments),
        max(segment.top for segment in segments),
        segments[0].turn,
        blanks=blanks + [blank for segment in segments for blank in segment.blanks],
    )


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


def is_wide(char: str) -> bool:
    """Of a script that puts no spaces between words."""
    return bool(char) and unicodedata.east_asian_width(char) in "WF" and not "\uac00" <= char <= "\ud7a3"


def pairs(items: Sequence[T]) -> list[tuple[T, T]]:
    return list(zip(items, items[1:], strict=False))
