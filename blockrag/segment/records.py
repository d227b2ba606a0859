"""Where the records of a text begin: rows of tables, lines of JSON, cues, stamped lines of logs and chats, settings."""

import csv
import io
import re
from collections.abc import Callable, Iterator

import numpy as np

from blockrag.documents import media
from blockrag.documents.tables import delimiter_of

MIN_STAMPED = 0.3
"""Least share of the lines of a log or a chat that begin with a time; the others continue a record."""
_MAX_ROW_LINES = 500
"""Lines of the longest row of a table. A longer one means that a quotation mark is just a sign."""
_LINE = re.compile(r"^[ \t\ufeff]*(?=\S)", re.MULTILINE)
_JSON_LINE = re.compile(r"^[ \t]*(?=[{\[])", re.MULTILINE)
_CUE = re.compile(r"^(?=\[\d+:\d\d)", re.MULTILINE)
_MONTHS = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_LEVELS = "(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL|SEVERE)"
_STAMP = re.compile(
    r"^[\u200e\u200f\ufeff]?(?:<\d{1,3}>(?:\d{1,2}[ ])?)?"  # the priority of syslog
    r"(?:[^\s\[\]][^\n\[\]]{0,63},[ ](?=\[))?"  # the name before the time, in Telegram
    rf"(?:[\[(<]?{_LEVELS}[\])>]?:?[ \t]{{1,8}}[-|]?[ ]?)?[\[(<]?(?:"
    r"\d{1,4}\u200f?(?:[-./]|\.[ ]|년[ ])\d{1,2}\u200f?(?:[-./]|\.[ ]|월[ ])\d{1,4}(?:\.|일)?[,،]?[T ]{1,2}"
    r"(?:(?:à|às|klo|kl\.|um|오전|오후|上午|下午|午前|午後)[ ]?)?\d{1,2}[:.]\d{2}"  # 2024-03-01T10:00, 1/23/23, 3:19 PM
    r"|(?<=\[)\d{1,2}:\d{2}\][ ]|\d{1,2}:\d{2}\t\S"  # IRC, LINE
    rf"|(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?[ ])?{_MONTHS}[a-z]*[ ]{{1,2}}\d{{1,2}},?[ ](?:\d{{4}},?[ ])?"
    r"\d{1,2}:\d{2}"
    rf"|\d{{1,2}}[/ -]{_MONTHS}[a-z]*[/ -]\d{{2,4}}[ :]\d{{1,2}}:\d{{2}}"
    rf"|[\da-fA-F.:]{{3,45}}[ ]\S{{1,60}}[ ][^\[\n]{{1,60}}[ ]\[\d{{1,2}}/{_MONTHS}/\d{{4}}:"  # access logs
    r"|[IWEF]\d{4}[ ]\d{2}:\d{2}:\d{2}\.\d|\d{2}-\d{2}[ ]\d{2}:\d{2}:\d{2}\.\d"  # glog, logcat
    r"|\d{1,2}:\d{2}:\d{2}(?:[.,]\d{1,6})?[\])]?[ ]|\d{10}(?:\.\d+)?[\])]?[ ])",
    re.MULTILINE,
)
_SCALAR = re.compile(r"^(?P<indent>[ ]*)(?:(?:- +)*[^\s#][^\n]*?:[ \t]+|(?:- +)+)[|>][-+0-9]{0,2}[ \t]*$", re.MULTILINE)
_QUOTED = re.compile(r"""^[^\n#"']*=[ \t]*(?P<mark>\"{3}|'{3})""", re.MULTILINE)
_CONTINUED = re.compile(r"(?:[^\n]*\\\n)+")


def record_starts(text: str, media_type: str) -> np.ndarray | None:
    """First visible characters of the records, int64, increasing; None if the text is not a list of records."""
    reader = _READERS.get(media_type)
    found = reader(text) if reader else None
    return None if found is None else np.fromiter(found, np.int64)


def row_starts(text: str) -> list[int] | None:
    """Offsets of the rows of a table; None if the text is none."""
    header = text[: text.find("\n") if "\n" in text else len(text)]
    delimiter = delimiter_of(header)
    if delimiter not in header:
        return None
    rows = _rows(text, delimiter, csv.QUOTE_MINIMAL)
    if rows is None:
        rows = _rows(text, delimiter, csv.QUOTE_NONE)
    if rows is None:
        return None
    width = next((n for _, n in rows), 0)
    alike = sum(n == width for _, n in rows)
    return [start for start, _ in rows] if 2 * alike > len(rows) and len(rows) > 1 else None


def _rows(text: str, delimiter: str, quoting: int) -> list[tuple[int, int]] | None:
    """Offset and number of cells of every row that is not blank; None if the text cannot be read like this."""
    starts: list[int] = []

    def lines() -> Iterator[str]:
        char = 0
        for line in io.StringIO(text, newline="\n"):
            starts.append(char)
            char += len(line)
            yield line

    found, first = [], 0
    reader = csv.reader(lines(), delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    try:
        for row in reader:
            if reader.line_num - first > _MAX_ROW_LINES:
                return None
            if row:
                found.append((starts[first], len(row)))
            first = reader.line_num
    except csv.Error:  # a cell of over 128 KiB
        return None
    return found


def _table(text: str) -> Iterator[int] | None:
    starts = row_starts(text)
    return None if starts is None else (_LINE.match(text, start).end() for start in starts if _LINE.match(text, start))  # type: ignore[union-attr]


def _json_lines(text: str) -> Iterator[int] | None:
    n_lines = len(_LINE.findall(text))
    starts = [found.end() for found in _JSON_LINE.finditer(text)]
    return iter(starts) if starts and len(starts) == n_lines else None


def _cues(text: str) -> Iterator[int] | None:
    starts = [found.end() for found in _CUE.finditer(text)]
    return iter(starts) if starts else None


def _stamped(text: str) -> Iterator[int] | None:
    """Lines that begin with a time, if a good share of the lines does."""
    starts = [found.start() for found in _STAMP.finditer(text)]
    is_list = len(starts) > 2 and len(starts) >= MIN_STAMPED * len(_LINE.findall(text))
    return iter(starts) if is_list else None


def _settings(text: str) -> Iterator[int]:
    """Lines of a configuration, but not those of a block of text in it."""
    end = 0
    for found in _LINE.finditer(text):
        if found.end() < end:
            continue
        yield found.end()
        end = _value_end(text, found.start())


def _value_end(text: str, start: int) -> int:
    """Where the value that a line begins ends, if it is a block of text: a block scalar of YAML, a string of TOML in
    three quotation marks, lines joined by backslashes. 0 if it is none."""
    if scalar := _SCALAR.match(text, start):
        return _scalar_end(text, scalar.end(), len(scalar["indent"]))
    if quoted := _QUOTED.match(text, start):
        close = text.find(quoted["mark"], quoted.end())
        return close + 3 if close > 0 else 0
    continued = _CONTINUED.match(text, start)
    return max(text.find("\n", continued.end()), continued.end() + 1) if continued else 0


def _scalar_end(text: str, start: int, indent: int) -> int:
    """Where the text of a block scalar ends: at the first line that is not indented more than its key."""
    deeper = re.compile(rf"(?:\n[ \t]*(?=\n|\Z)|\n[ ]{{{indent + 1},}}[^\n]*)*")
    return deeper.match(text, start).end()  # type: ignore[union-attr]  # matches the empty string at least


_READERS: dict[str, Callable[[str], Iterator[int] | None]] = {
    media.CSV: _table,
    media.TSV: _table,
    media.JSONL: _json_lines,
    media.SRT: _cues,
    media.VTT: _cues,
    media.TEXT: _stamped,
    media.LOG: lambda text: _stamped(text) or _json_lines(text),
    media.CONFIG: _settings,
}
