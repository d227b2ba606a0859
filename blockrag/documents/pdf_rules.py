"""Ruled tables of a PDF page: the lines that are drawn on it, and the cells between them."""

from bisect import bisect
from collections.abc import Iterator, Sequence
from ctypes import byref, c_float
from dataclasses import dataclass

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

MAX_OBJECTS = 5_000
"""A page with more drawn objects is a drawing, and its lines are not looked at."""

MAX_LINES = 600
"""Most lines in one direction; a page with more is a drawing too."""

NEAR = 2.5
"""Lines closer than this, in points, are one line, and lines that end so close to another touch it."""

MIN_LENGTH = 6.0
"""Shorter lines, in points, rule nothing."""


@dataclass(frozen=True)
class Line:
    """A line along one axis: where it is on the other, and from where to where it runs."""

    at: float
    start: float
    end: float


@dataclass(frozen=True)
class Grid:
    """A ruled table: its vertical lines from left to right, and its horizontal ones from bottom to top."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]

    def cell(self, x: float, y: float) -> tuple[int, int] | None:
        """Row from the top and column of a point; None if it is outside."""
        column, row = bisect(self.xs, x) - 1, bisect(self.ys, y) - 1
        if not (0 <= column < len(self.xs) - 1 and 0 <= row < len(self.ys) - 1):
            return None
        return len(self.ys) - 2 - row, column


def grids(page: pdfium.PdfPage) -> list[Grid]:
    """Ruled tables with at least two rows and two columns."""
    n_objects = pdfium_c.FPDFPage_CountObjects(page.raw)
    if not 0 < n_objects <= MAX_OBJECTS:
        return []
    across: list[Line] = []
    down: list[Line] = []
    for (x0, y0), (x1, y1) in _strokes(page, n_objects):
        if abs(y1 - y0) < 1 and abs(x1 - x0) >= MIN_LENGTH:
            across.append(Line((y0 + y1) / 2, min(x0, x1), max(x0, x1)))
        elif abs(x1 - x0) < 1 and abs(y1 - y0) >= MIN_LENGTH:
            down.append(Line((x0 + x1) / 2, min(y0, y1), max(y0, y1)))
        if len(across) > MAX_LINES or len(down) > MAX_LINES:
            return []
    found = []
    for horizontal, vertical in _connected(across, down):
        grid = Grid(_merged(line.at for line in vertical), _merged(line.at for line in horizontal))
        if len(grid.xs) > 2 and len(grid.ys) > 2:
            found.append(grid)
    return found


def _strokes(page: pdfium.PdfPage, n_objects: int) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Straight lines of the page's paths, in points."""
    matrix, x, y = pdfium_c.FS_MATRIX(), c_float(), c_float()
    for i in range(n_objects):
        item = pdfium_c.FPDFPage_GetObject(page.raw, i)
        if pdfium_c.FPDFPageObj_GetType(item) != pdfium_c.FPDF_PAGEOBJ_PATH:
            continue
        pdfium_c.FPDFPageObj_GetMatrix(item, byref(matrix))
        first = before = (0.0, 0.0)
        for j in range(min(pdfium_c.FPDFPath_CountSegments(item), MAX_OBJECTS)):
            segment = pdfium_c.FPDFPath_GetPathSegment(item, j)
            pdfium_c.FPDFPathSegment_GetPoint(segment, byref(x), byref(y))
            point = (
                matrix.a * x.value + matrix.c * y.value + matrix.e,
                matrix.b * x.value + matrix.d * y.value + matrix.f,
            )
            kind = pdfium_c.FPDFPathSegment_GetType(segment)
            if kind == pdfium_c.FPDF_SEGMENT_MOVETO:
                first = point
            elif kind == pdfium_c.FPDF_SEGMENT_LINETO:
                yield before, point
            if pdfium_c.FPDFPathSegment_GetClose(segment):
                yield point, first
            before = point


def _connected(across: Sequence[Line], down: Sequence[Line]) -> Iterator[tuple[list[Line], list[Line]]]:
    """Lines that cross or touch each other, directly or through others."""
    left, waiting = set(range(len(down))), set(range(len(across)))
    while left:
        columns, rows, fresh = set[int](), set[int](), {left.pop()}
        while fresh:
            columns |= fresh
            touched = {i for i in waiting if any(_touch(across[i], down[j]) for j in fresh)}
            waiting -= touched
            rows |= touched
            fresh = {j for j in left if any(_touch(across[i], down[j]) for i in touched)}
            left -= fresh
        yield [across[i] for i in rows], [down[j] for j in columns]


def _touch(across: Line, down: Line) -> bool:
    return across.start - NEAR <= down.at <= across.end + NEAR and down.start - NEAR <= across.at <= down.end + NEAR


def _merged(places: Iterator[float]) -> tuple[float, ...]:
    """Places in order, those close together as one."""
    merged: list[float] = []
    for place in sorted(places):
        if not merged or place - merged[-1] > NEAR:
            merged.append(place)
    return tuple(merged)
