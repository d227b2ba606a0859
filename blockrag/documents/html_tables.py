"""Tables of HTML: rows of data with every cell under its head, spans filled in."""

import lxml.etree
from lxml.html import HtmlElement

from blockrag.documents import html_inline, markdown

_ROWS = lxml.etree.XPath("./tr | ./thead/tr | ./tbody/tr | ./tfoot/tr")
_IS_LAYOUT = lxml.etree.XPath(
    "boolean(.//table) or count(.//p) > count(td | th) or boolean(.//pre[contains(., '\ufdd0')])"
)
_IS_DATA = lxml.etree.XPath("count(./tr[1]/th | ./thead/tr/th | ./tbody/tr[1]/th) > 1")
_MAX_COLUMNS = 200


def write(root: HtmlElement) -> None:
    """Write each row of data on one line, the first as the head. A row with a table in it, or with several paragraphs
    in a cell, is layout: its cells become paragraphs. A table in a cell of a table with a head stands on one line."""
    for table in reversed(list(root.iter("table"))):
        for foot in table.findall("tfoot"):
            table.append(foot)  # is shown last
        outer = next(table.iterancestors("table"), None)
        if outer is not None and _IS_DATA(outer):
            _inline(table)
    for table in list(root.iter("table")):
        rows = _ROWS(table)
        grid = _grid(rows)
        width = max((len(cells) for cells in grid if cells), default=0)
        lines = iter(markdown.table_lines([cells for cells in grid if cells and any(cells)], width))
        for element in (table, *table.iterchildren("thead", "tbody", "tfoot"), *rows):
            element.text = (element.text or "").strip(" ")
        for element in (*table, *rows):
            element.tail = (element.tail or "").strip(" ")
        for row, cells in zip(rows, grid, strict=True):
            if cells is not None:
                html_inline.replace(row, next(lines) if any(cells) else "")
                row.tail = "\n"


def _inline(table: HtmlElement) -> None:
    """Write a table on one line, its rows parted by semicolons, if all its rows are data."""
    grid = _grid(_ROWS(table))
    if grid and all(cells is not None for cells in grid):
        text = "; ".join(filter(None, (", ".join(filter(None, cells or ())) for cells in grid)))
        html_inline.replace(table, f" {text} ")
        table.tag = "span"


def _grid(rows: list[HtmlElement]) -> list[list[str] | None]:
    """Texts of the cells of each row, those that reach into it from above and from the left repeated; None for rows of
    layout and for empty ones."""
    written: list[list[str] | None] = []
    from_above: dict[int, tuple[int, str]] = {}
    for i, row in enumerate(rows):
        own = [cell for cell in row if cell.tag in ("td", "th")]
        cells: list[str] = []
        is_data = bool(own) and not _IS_LAYOUT(row)
        for cell in own if is_data else ():
            _fill(cells, from_above)
            text = " ".join(cell.text_content().split())
            n_rows = _span(cell, "rowspan") or len(rows)
            for _ in range(min(_span(cell, "colspan") or 1, max(1, _MAX_COLUMNS - len(cells)))):
                if n_rows > 1:
                    from_above[len(cells)] = (min(n_rows, len(rows) - i), text)
                cells.append(text)
        _fill(cells, from_above)
        from_above = {column: (n - 1, text) for column, (n, text) in from_above.items() if n > 1}
        written.append(cells if is_data else None)
    return written


def _fill(cells: list[str], from_above: dict[int, tuple[int, str]]) -> None:
    """Add the cells that reach in from above at the next columns."""
    while len(cells) in from_above:
        cells.append(from_above[len(cells)][1])


def _span(cell: HtmlElement, name: str) -> int:
    text = (cell.get(name) or "1").strip()
    return min(int(text), _MAX_COLUMNS if name == "colspan" else 65534) if text.isascii() and text.isdigit() else 1
