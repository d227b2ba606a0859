"""Find the files of a path, a folder, a pattern or a list of them."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from blockrag.arguments import path_of
from blockrag.documents.media import SUFFIXES
from blockrag.errors import DocumentError

STORE_FILE = "index.sqlite"
"""A folder that holds it is an index, not documents."""

Source = str | os.PathLike[str]


def find_files(*sources: Source | Iterable[Source]) -> Iterator[Path]:
    """Files in order: each path itself; all files of a folder that `files_of` takes; all that a pattern matches.

    Raises
    ------
    DocumentError
        If a folder or a pattern has no file.
    ArgumentError
        If a path is empty, or no path.
    """
    for source in sources:
        if not isinstance(source, str | os.PathLike) and isinstance(source, Iterable):
            yield from find_files(*source)
            continue
        path = path_of("a source", source)
        found = [path]
        if path.is_dir():
            found = list(files_of(path)[0])
        elif glob.has_magic(str(path)) and not path.exists():
            found = sorted(match for name in glob.iglob(str(path), recursive=True) if (match := Path(name)).is_file())
        if not found:
            raise DocumentError(str(source), "there is no file here that can be read as a document")
        yield from found


def files_of(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files in a folder and in all folders below it, by path: those with a suffix that is read, and the others.

    Hidden files and folders, links, and folders of an index are passed over.

    Raises
    ------
    DocumentError
        If a folder cannot be listed: its files would look as if they were gone.
    """
    read: list[Path] = []
    others: list[Path] = []
    for where, folders, names in os.walk(folder, onerror=_unlisted):
        if STORE_FILE in names:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(where, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                (read if PurePath(name).suffix.lower() in SUFFIXES else others).append(path)
    return read, others


def _unlisted(error: OSError) -> None:
    raise DocumentError(str(error.filename), f"this folder cannot be listed ({error.strerror})") from error
