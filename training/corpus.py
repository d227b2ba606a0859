"""Rows of segmented documents: schema and files.

A row is a dict: ``{id, category, source, licence, split, text, boundaries: [{char, level}], headings: [[start,
end]]}``. Offsets are characters of `text`; level 1 is the coarsest; offset 0 is always a boundary. A heading belongs
to the block after it.
"""

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Boundary = dict[str, int]

FIELDS = ("id", "category", "source", "licence", "split", "text", "boundaries", "headings")
SPLITS = ("train", "dev", "test")


def read_rows(paths: Iterable[Path | str]) -> Iterator[Row]:
    """Rows of ``.jsonl``, ``.jsonl.zst`` and ``.parquet`` files, checked. ``dataset`` defaults to the file's name.

    Raises
    ------
    ValueError
        If a file has another type or a row violates the schema; names file, row and reason.
    """
    for path in map(Path, paths):
        for number, row in enumerate(read_file(path), 1):
            try:
                check(row)
            except ValueError as error:
                raise ValueError(f"{path.name}, row {number} ({row.get('id', 'without an id')}): {error}") from error
            yield {"dataset": path.name.split(".")[0], **row}


def check(row: Row) -> None:
    """Raise `ValueError` if `row` violates the schema."""
    missing = [field for field in FIELDS if field not in row]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    chars = [boundary["char"] for boundary in row["boundaries"]]
    if any(b <= a for a, b in pairwise(chars)) or (chars and not 0 <= chars[0] <= chars[-1]):
        raise ValueError("its boundaries do not increase from 0 on")
    if chars and chars[-1] >= max(1, len(row["text"])):
        raise ValueError(f"a boundary is at character {chars[-1]} of a text of {len(row['text'])}")
    if any(not 0 <= start <= end <= len(row["text"]) for start, end in row["headings"]):
        raise ValueError("a heading lies outside the text")


def first_of_each(rows: Iterable[Row], n: int, *fields: str) -> Iterator[Row]:
    """The first `n` rows for each value of `fields`; all if `n` is 0."""
    counts: Counter[tuple] = Counter()
    for row in rows:
        key = tuple(row.get(field) for field in fields)
        counts[key] += 1
        if not n or counts[key] <= n:
            yield row


def some_documents(rows: Iterable[Row], split: str, n: int, most_chars: int) -> Iterator[Row]:
    """The first `n` documents of each source in a split, of at most `most_chars` characters; 0 means no limit."""
    fitting = (row for row in rows if row["split"] == split and (not most_chars or len(row["text"]) <= most_chars))
    return first_of_each(fitting, n, "dataset")


def read_file(path: Path) -> Iterator[Row]:
    """Rows of one file, unchecked."""
    if path.suffix == ".parquet":
        import pyarrow.parquet  # noqa: PLC0415  (only the library for this type of file)

        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(64):
            yield from batch.to_pylist()
    elif path.name.endswith(".jsonl.zst"):
        import zstandard  # noqa: PLC0415

        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            yield from _parse(io.TextIOWrapper(stream, "utf-8", newline="\n"), path)
    elif path.suffix == ".jsonl":
        with path.open(encoding="utf-8", newline="\n") as lines:
            yield from _parse(lines, path)
    else:
        raise ValueError(f"{path} is neither .jsonl, .jsonl.zst nor .parquet.")


def _parse(lines: Iterable[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path.name}, row {number}: it is not JSON ({error})") from error


def first_visible(text: str, char: int) -> int:
    """The first visible character at or after `char`, or the end of the text."""
    while char < len(text) and text[char].isspace():
        char += 1
    return char
