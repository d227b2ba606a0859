"""Rows of questions about documents: schema, and the text of passages.

A row is a dict: ``{id, question, answers: [...], documents: [{title, text, is_gold}], source, licence, split, meta}``.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from training.corpus import read_file

QARow = dict[str, Any]

FIELDS = ("id", "question", "answers", "documents", "split")


def read_questions(paths: Iterable[Path | str], split: str) -> Iterator[QARow]:
    """Rows of a split, with the file's name as ``dataset``.

    Raises
    ------
    ValueError
        If a row lacks a field; names file, row and field.
    """
    for path in map(Path, paths):
        for number, row in enumerate(read_file(path), 1):
            missing = [field for field in FIELDS if field not in row]
            if missing:
                raise ValueError(f"{path.name}, row {number}: it lacks {', '.join(missing)}")
            if row["split"] == split:
                yield {"dataset": path.name.split(".")[0], **row}


def passage(document: dict[str, Any]) -> str:
    """A document as the model reads it: title, if any, on a line before the text."""
    return f"{document['title']}\n{document['text']}" if document["title"] else document["text"]


def gold_answer(row: QARow) -> str:
    """The first answer that a gold document contains, or else the first answer."""
    gold = "\n".join(d["text"] for d in row["documents"] if d["is_gold"]).casefold()
    return next((a for a in row["answers"] if a.strip().casefold() in gold), row["answers"][0]).strip()
