"""Read documents from files, checkouts and data sets as rows."""

import glob
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from blockrag.documents import load
from blockrag.errors import DocumentError
from training.corpus import FIELDS, Row, check
from training.corpus import read_file as read_rows_of
from training.semanticseg.config import Source

Refuse = Callable[[str, str], None]
"""(name, reason), called for each refused file."""


def expand(source: Source, folder: Path) -> list[tuple[str, Path]]:
    """Names and paths of a source's files; the source itself if it has no files.

    Raises
    ------
    ValueError
        If no file matches.
    """
    if source.kind in ("hub", "git"):
        return [(source.name, Path(source.path))]
    found = sorted(map(Path, glob.glob(str(folder / source.path))))
    if not found:
        raise ValueError(f"Source {source.name}: no file at {folder / source.path}.")
    return [(path.name.split(".")[0] if len(found) > 1 else source.name, path) for path in found]


def read_source(source: Source, name: str, path: Path, refuse: Refuse) -> Iterator[Row]:
    """Rows with all fields of `training.corpus`, plus ``dataset`` (the source's name), ``parent`` and ``short``.

    ``split`` and ``boundaries`` are empty if the source has none. Texts marked ``short`` will be packed.
    """
    for row in READERS[source.kind](source, path, refuse):
        row = {"category": source.category, "licence": source.licence, "source": name, "split": "", **row}
        row = {"boundaries": [], "headings": [], "short": False, "dataset": name, **row}
        row.setdefault("parent", row["id"])
        if source.splits and row["split"] not in source.splits:
            continue
        check(row)
        yield {field: row[field] for field in (*FIELDS, "dataset", "parent", "short")}


def _read_folder(source: Source, path: Path, refuse: Refuse) -> Iterator[Row]:
    for file in sorted(path.glob(source.pattern)):
        if not file.is_file() or ".git" in file.parts:
            continue
        try:
            document = load(file)
        except DocumentError as error:
            refuse(str(file.relative_to(path)), str(error))
            continue
        yield {"id": file.relative_to(path).as_posix(), "text": document.text}


def _read_git(source: Source, path: Path, refuse: Refuse) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", "--", source.path, folder], check=True)
        yield from _read_folder(source, Path(folder), refuse)


def _read_jsonl(source: Source, path: Path, refuse: Refuse) -> Iterator[Row]:
    for number, row in enumerate(read_rows_of(path)):
        yield {"id": f"{path.name}:{number}", **row}


def _read_hub(source: Source, path: Path, refuse: Refuse) -> Iterator[Row]:
    from datasets import load_dataset  # noqa: PLC0415  # slow to import

    for number, row in enumerate(load_dataset(source.path, split=source.split)):
        known = {field: row[field] for field in FIELDS if row.get(field) is not None}
        yield {"id": f"{source.path}:{number}", **known, "text": row[source.text_field]}


def _read_passages(source: Source, path: Path, refuse: Refuse) -> Iterator[Row]:
    """Each passage once, with its title as heading. Its split is that of the first row that contains it."""
    seen: set[str] = set()
    for row in read_rows_of(path):
        for passage in row[source.passages_field]:
            if passage["title"] in seen:
                continue
            seen.add(passage["title"])
            title = passage["title"] + "\n\n"
            yield {
                "id": f"{path.name}:{len(seen)}",
                "text": title + passage["text"].strip() + "\n\n",
                "split": row.get("split", ""),
                "licence": row.get("licence", ""),
                "boundaries": [{"char": 0, "level": 1}],
                "headings": [[0, len(title) - 2]],
                "short": True,
            }


READERS = {
    "folder": _read_folder,
    "git": _read_git,
    "jsonl": _read_jsonl,
    "hub": _read_hub,
    "passages": _read_passages,
}
