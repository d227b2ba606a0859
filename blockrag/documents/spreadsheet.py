"""Spreadsheets of Excel (XLSX, XLSM, XLSB, XLS) to Markdown tables, a page for each sheet."""

import datetime
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice

from lxml.etree import SubElement, XPath, _Element
from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

from blockrag.documents import drawings, markdown
from blockrag.documents.document import PAGE_BREAK, Content, Limits, counted
from blockrag.documents.zips import ZIP, check_inflated, parse_xml
from blockrag.errors import DocumentError

MAX_CELLS = 20_000_000
"""Most cells of the area between a sheet's outermost cells, empty ones counted."""

_COMMENTS = XPath("//*[local-name()='comment']")
_CHART = re.compile(r"xl/charts/chart\d+\.xml", re.IGNORECASE)
_COMMENT = re.compile(r"xl/(?:comments/)?comments?\d*\.xml", re.IGNORECASE)
_FORMULA = re.compile(
    rb"<(?:\w+:)?c\b(?![^>]*\bt=[\"']str)[^>]*><(?:\w+:)?f\b[^>]*(?:/>|>[^<]*</(?:\w+:)?f>)\s*"
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v></(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
"""A cell with a formula whose value was never computed; that of a text may be empty."""
_SHEET = re.compile(r"xl/worksheets/.*\.xml", re.IGNORECASE)
_REFERENCE = re.compile(rb"""\br\s*=\s*["']([A-Za-z]{0,4})(\d{1,10})["']""")
_REFERENCE_BYTES, _CHUNK_BYTES = 30, 1 << 20
_DRAWING, _DIAGRAM = re.compile(r"xl/drawings/drawing\d+\.xml"), re.compile(r"xl/diagrams/data\d+\.xml")
_BOXES = XPath("//*[local-name()='sp']/*[local-name()='txBody']")
_REFERENCES = XPath("//*[local-name()='numRef' or local-name()='strRef'][not(.//*[local-name()='pt'])]")
_RANGE = re.compile(
    r"(?P<sheet>'(?:[^']|'')+'|[^'!]+)!\$?(?P<c1>[A-Z]{1,3})\$?(?P<r1>\d{1,7})(?::\$?(?P<c2>[A-Z]{1,3})\$?(?P<r2>\d{1,7}))?"
)
_THREADED = re.compile(r"^\[Threaded comment\].*?Comment: ")
"""What a program that knows no threads shows before a comment."""
_ERROR = re.compile(
    rb"<(?:\w+:)?c\b[^>]*\bt=[\"']e[\"'][^>]*>(?:<(?:\w+:)?f\b[^>]*(?:/>|>[^<]*</(?:\w+:)?f>))?<(?:\w+:)?v>([^<]*)<"
)
_UNSEEN = re.compile(rb"<(?:\w+:)?(?:row|col)\b[^>]*\shidden=[\"'](?:1|true)[\"']")
_PICTURE = re.compile(r"xl/media/", re.IGNORECASE)


def read(name: str, data: bytes, limits: Limits) -> Content:
    """Sheets joined by `PAGE_BREAK`: name, tables, and at the end the file's charts and comments. Formulas are read as
    the values that were saved with them.

    Raises
    ------
    DocumentError
        If it is encrypted, or a sheet's area is too large.
    """
    is_zip = data.startswith(ZIP)
    if is_zip:
        check_inflated(name, data, limits)
        _check_areas(name, data)
    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
    except PasswordError as error:
        raise DocumentError(name, "it is encrypted; save it without a password") from error
    except CalamineError as error:
        raise DocumentError(name, f"the file is damaged ({error})") from error
    sheets, notes = [], []
    for sheet in book.sheets_metadata:
        found = book.get_sheet_by_name(sheet.name) if sheet.typ == SheetTypeEnum.WorkSheet else None
        if found is None and sheet.typ == SheetTypeEnum.ChartSheet:
            continue  # its chart is among those of the file
        if found is None:
            notes.append(f'The sheet "{sheet.name}" has no cells and was left out.')
            continue
        if sheet.visible != SheetVisibleEnum.Visible:
            notes.append(f'The sheet "{sheet.name}" is hidden but read.')
        tables = "\n\n".join(grids(map(cell_text, row) for row in found.iter_rows()))
        sheets.append(f"{markdown.heading(sheet.name, 1)}\n\n{tables}\n" if tables else "")
    extras = list(_extras(data, book)) if is_zip else []
    sheets += ["\n\n".join(extras) + "\n"] if extras else []
    return Content(PAGE_BREAK.join(filter(None, sheets)), notes=(*notes, *(_left_out(data) if is_zip else ())))


def grids(rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A Markdown table for each stretch of rows that are not empty, without columns that are empty in all of them."""
    stretch: list[list[str]] = []
    for row in rows:
        cells = list(row)
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            stretch.append(cells)
        elif stretch:
            yield _grid(stretch)
            stretch = []
    if stretch:
        yield _grid(stretch)


def cell_text(value: object) -> str:
    """A cell's value as text: whole numbers without a point, dates by ISO 8601."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return f"{Decimal(repr(value)):f}".removesuffix(".0")
    if isinstance(value, datetime.datetime):
        text = value.isoformat(" ")
        return text.removesuffix(" 00:00:00")
    return " ".join(str(value).split())


def _check_areas(name: str, data: bytes) -> None:
    """Refuse a sheet whose outermost cells span a huge area, all of which the parser would hold in memory."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.namelist():
            if not _SHEET.match(member):
                continue
            n_rows, n_columns, before = 0, 0, b""
            with archive.open(member) as sheet:
                while chunk := sheet.read(_CHUNK_BYTES):
                    for letters, digits in set(_REFERENCE.findall(before[-_REFERENCE_BYTES:] + chunk)):
                        n_rows, n_columns = max(n_rows, int(digits)), max(n_columns, _column_number(letters))
                    before = chunk
            if n_rows * n_columns > MAX_CELLS:
                raise DocumentError(
                    name, f"a sheet's area has {n_rows:,} rows and {n_columns:,} columns; delete stray cells"
                )


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = 26 * number + letter - ord("A") + 1
    return number


def _grid(rows: list[list[str]]) -> str:
    """A single cell is a line of text, such as a title."""
    first = min(next(i for i, cell in enumerate(row) if cell) for row in rows)
    if all(len(row) == first + 1 for row in rows):
        return "\n".join(row[first] for row in rows)
    return markdown.table([row[first:] for row in rows])


def _extras(data: bytes, book: CalamineWorkbook) -> Iterator[str]:
    """Charts, text boxes, diagrams and comments of the file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in sorted(archive.namelist()):
            if _CHART.fullmatch(member):
                chart = parse_xml(archive.read(member))
                _fill(chart, book)
                yield drawings.chart(chart)
            elif _DRAWING.fullmatch(member):
                yield from filter(None, (drawings.text_of(box) for box in _BOXES(parse_xml(archive.read(member)))))
            elif _DIAGRAM.fullmatch(member):
                yield drawings.diagram(parse_xml(archive.read(member)))
            elif _COMMENT.fullmatch(member):
                for comment in _COMMENTS(parse_xml(archive.read(member))):
                    text = _THREADED.sub("", " ".join("".join(comment.itertext()).split()))
                    yield f"[Comment at {comment.get('ref', '')}: {text}]"


def _fill(chart: _Element, book: CalamineWorkbook) -> None:
    """Give the points of a chart that were not saved with it the values of the cells that it refers to."""
    sheets: dict[str, list[list[object]]] = {}
    for reference in _REFERENCES(chart):
        found = _RANGE.fullmatch(reference.findtext("{*}f") or "")
        name = found["sheet"].replace("''", "'").strip("'") if found else ""
        if found is None or name not in book.sheet_names:
            continue
        sheet = book.get_sheet_by_name(name)
        top, left = sheet.start or (0, 0)
        columns = [_column_number(found[key].encode()) - 1 for key in ("c1", "c2") if found[key]]
        lines = [int(found[key]) - 1 for key in ("r1", "r2") if found[key]]
        if name not in sheets:
            sheets[name] = sheet.to_python(skip_empty_area=True)
        rows = sheets[name]
        area = (row[max(columns[0] - left, 0) : max(columns[-1] + 1 - left, 0)]
                for row in rows[max(lines[0] - top, 0) : max(lines[-1] + 1 - top, 0)])  # fmt: skip
        for place, value in enumerate(islice((cell for row in area for cell in row), drawings.MAX_POINTS)):
            point = SubElement(reference, f"{{{drawings.CHART}}}pt", idx=str(place))
            SubElement(point, f"{{{drawings.CHART}}}v").text = cell_text(value)


def _left_out(data: bytes) -> Iterator[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.namelist()
        n_pictures = sum(bool(_PICTURE.match(member)) for member in members)
        n_formulas = n_unseen = 0
        errors: list[str] = []
        for sheet in (archive.read(member) for member in members if _SHEET.match(member)):
            n_formulas += len(_FORMULA.findall(sheet))
            n_unseen += len(_UNSEEN.findall(sheet))
            errors += (error.decode("utf-8", "replace") for error in _ERROR.findall(sheet))
    if errors:
        kinds = ", ".join(sorted(set(errors))[:8])
        yield f"{counted(len(errors), 'cell holds an error', 'cells hold errors')} ({kinds}), left empty."
    if n_unseen:
        yield f"{counted(n_unseen, 'row or column is', 'rows or columns are')} hidden but read."
    if n_formulas:
        subject = counted(n_formulas, "formula has", "formulas have")
        yield f"{subject} no saved value and was left empty; open and save the file in a spreadsheet program."
    if n_pictures:
        yield f"{counted(n_pictures, 'picture was', 'pictures were')} left out."
