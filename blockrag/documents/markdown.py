"""Markdown that all rich formats are converted to: headings, list items, table rows, paragraphs."""

import re
from collections.abc import Iterable, Sequence

MAX_LEVEL = 6
_ITEM = re.compile(r"\s*(?:-|\d{1,6}(?:\.\d{1,4})*[.)]?|\(?(?:[a-zA-Z]|[ivxlcIVXLC]{1,6})[.)]|\(\d{1,3}\)) ")


def heading(text: str, level: int) -> str:
    """A heading of level 1 (coarsest) to 6, on one line."""
    return f"{'#' * min(max(level, 1), MAX_LEVEL)} {' '.join(text.split())}"


def item(text: str, depth: int = 0, label: str = "-") -> str:
    """An item of a list, indented by its depth from 0, behind its number or a dash."""
    return f"{'  ' * depth}{label} {text.strip()}"


def row(cells: Iterable[str]) -> str:
    """A row of a table, every cell on one line."""
    return "| " + " | ".join(" ".join(cell.split()) for cell in cells) + " |"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its head; short rows are filled up. A single row has no head."""
    return "\n".join(table_lines(rows, max(map(len, rows), default=0)))


def table_lines(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """One string for each row of a table of `width` columns; the first includes the line below the head."""
    lines = [row([*(cell.replace("|", "\\|") for cell in cells), *[""] * (width - len(cells))]) for cells in rows]
    return [lines[0] + "\n|" + " --- |" * width, *lines[1:]] if len(lines) > 1 else lines


def paragraphs(parts: Iterable[str]) -> str:
    """Parts separated by a blank line, list items by a newline; empty parts are dropped."""
    text, before = "", ""
    for part in (part.rstrip() for part in parts if part.strip()):
        tight = _ITEM.match(before) is not None and _ITEM.match(part) is not None
        text += ("\n" if tight else "\n\n" if before else "") + part
        before = part
    return text + "\n" if text else ""
