"""The header of a table (CSV, TSV), which goes with every block of it that the model is given."""

import csv
import io
import re

TABLES = ("text/csv", "text/tab-separated-values")
"""Media types of tables."""
SAMPLE_CHARS = 4096
"""Beginning of a text that tells its header."""
MAX_HEADER_CHARS = 1000

_SEPARATOR = re.compile(r"sep=(.)\n")
"""A first line that tells Excel the separator."""
_YEAR = re.compile(r"(?:19|20)\d\d")


def delimiter_of(header: str) -> str:
    """The separator of a table, by its first line."""
    return max(",;\t|", key=header.count)


def header_of(media_type: str, sample: str) -> str:
    """The first row of a table with its line end, if it is a header: names, as many as the next rows have cells. Empty
    otherwise.

    Parameters
    ----------
    media_type : str
    sample : str
        The first `SAMPLE_CHARS` characters of the text.
    """
    if media_type not in TABLES:
        return ""
    stated = _SEPARATOR.match(sample)
    sample = sample[stated.end() :] if stated else sample
    first = sample.partition("\n")[0]
    lines = io.StringIO(sample, newline="\n")
    reader = csv.reader(lines, delimiter=stated[1] if stated else delimiter_of(first))
    rows, n_lines = [], 0
    try:
        for row, _ in zip(reader, range(4), strict=False):
            n_lines = n_lines or reader.line_num
            rows.append(row)
    except csv.Error:
        return ""
    complete = [row for row in rows[1 : -1 if len(rows) > 2 else None] if row]  # the last one may be cut
    header = "".join(list(io.StringIO(sample, newline="\n"))[:n_lines])
    if len(header) > MAX_HEADER_CHARS or len(rows) < 2 or not rows[1]:
        return ""
    is_table = len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in complete)
    return header if is_table and _are_names(rows[0]) else ""


def _are_names(row: list[str]) -> bool:
    """Whether cells are the names of columns: different, most of them there, no numbers but years."""
    names = [name.strip() for name in row if name.strip()]
    if 2 * len(names) < len(row) or len(set(names)) < len(names):
        return False
    return not _is_number(names[0]) and not any(_is_number(name) and not _YEAR.fullmatch(name) for name in names)


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().replace(",", "."))
    except ValueError:
        return False
    return True
