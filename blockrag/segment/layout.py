"""Where the format of a text lets a block begin: at records only, never behind a heading, not inside a unit."""

from dataclasses import dataclass

import numpy as np

from blockrag.segment.markup import find_markup
from blockrag.segment.records import record_starts


@dataclass(frozen=True, eq=False)
class Layout:
    """The layout of one text.

    Attributes
    ----------
    records : np.ndarray or None
        int64, the first visible characters of the records, outside which no candidate is; None for a text without
        records.
    headings : np.ndarray
        int64 ``(headings, 2)``: no block begins after the first and before the second offset, so that a heading and
        the beginning of its text stay together.
    units : np.ndarray
        int64 ``(units, 2)``, the same of fenced code and the like; a unit above the maximum is cut all the same.
    """

    records: np.ndarray | None
    headings: np.ndarray
    units: np.ndarray

    def allows(self, chars: np.ndarray) -> np.ndarray:
        """Whether a block may begin at each of these offsets, bool of the same shape."""
        allowed = ~(_inside(chars, self.headings) | _inside(chars, self.units))
        return allowed if self.records is None else allowed & np.isin(chars, self.records)

    def parts_heading(self, char: int) -> bool:
        """Whether a boundary at `char` would leave a heading, or a piece of one, at the end of a block."""
        return bool(_inside(np.array([char]), self.headings)[0])


def read_layout(text: str, media_type: str) -> Layout:
    """The layout of a text in a format."""
    records = record_starts(text, media_type)
    if records is not None:
        return Layout(records, np.empty((0, 2), np.int64), np.empty((0, 2), np.int64))
    headings, units = find_markup(text, media_type)
    spans = [(heading.start, _first_visible(text, heading.end) + 1) for heading in headings]
    return Layout(None, _merged(spans), _merged(units))


def _first_visible(text: str, char: int) -> int:
    """The next visible character from `char` on, or the end of the text."""
    while char < len(text) and text[char].isspace():
        char += 1
    return char


def _merged(spans: list[tuple[int, int]]) -> np.ndarray:
    """Spans in order, those that overlap joined."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1] - 1:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return np.array(merged, np.int64).reshape(-1, 2)


def _inside(chars: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Whether each offset is after the start and before the end of one of the spans, which do not overlap."""
    if not len(spans):
        return np.zeros(chars.shape, bool)
    before = np.searchsorted(spans[:, 0], chars, "left") - 1  # the last span that starts before the offset
    return (before >= 0) & (chars < spans[np.maximum(before, 0), 1])
