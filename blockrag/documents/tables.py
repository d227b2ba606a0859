"""The header of a table (CSV, TSV), which goes with every block of it that the model is given."""

import csv
import io

TABLES = ("text/csv", "text/tab-separated-values")
"""Media types of tables."""
SAMPLE_CHARS = 4096
"""Beginning of a text that tells its header."""
MAX_HEADER_CHARS = 1000


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
    first, end, rest = sample.partition("\n")
    if media_type not in TABLES or not rest or len(first) > MAX_HEADER_CHARS or rest.startswith("\n"):
        return ""
    delimiter = delimiter_of(first)
    try:
        rows = [
            row for row, _ in zip(csv.reader(io.StringIO(sample), delimiter=delimiter), range(4), strict=False) if row
        ]
    except csv.Error:
        return ""
    complete = rows[:-1] if len(rows) > 2 else rows  # the last one may be cut
    names = rows[0]
    is_header = all(name.strip() and not _is_number(name) for name in names) and len(set(names)) == len(names)
    is_one_line = next(csv.reader([first], delimiter=delimiter)) == names
    is_table = len(names) > 1 and all(len(row) == len(names) for row in complete)
    return first + end if is_header and is_one_line and is_table else ""


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().replace(",", "."))
    except ValueError:
        return False
    return True
