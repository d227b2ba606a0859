"""Path or bytes -> Document. Decides the type, reads, and checks that something readable came out."""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from blockrag.documents import media
from blockrag.documents.chat import turns_of_csv, turns_of_json, turns_of_jsonl
from blockrag.documents.document import Document
from blockrag.documents.limits import Limits
from blockrag.documents.sandbox import parse_apart
from blockrag.documents.text import check_length, decode
from blockrag.errors import DocumentError

MAX_NAME = 200
_TURNS = {media.JSON: turns_of_json, media.JSONL: turns_of_jsonl, media.CSV: turns_of_csv}
_DEFAULT = Limits()
_SURROGATE = re.compile("[\\ud800-\\udfff]")
"""Half of a character, which JSON can spell (an export that cut an emoji in two) and no encoding can hold."""


def load(source: str | os.PathLike[str] | bytes, name: str | None = None, limits: Limits = _DEFAULT) -> Document:
    """Read a document.

    Parameters
    ----------
    source : path or bytes
        Of bytes only the content tells the type, unless a `name` comes with them.
    name : str, optional
        Shown to the user, and its suffix is what the content is compared with; the path's own name by default. Folders
        and control characters in it are dropped.
    limits : Limits
        What reading may cost.

    Raises
    ------
    DocumentError
        If it cannot be read; the reason says why and what to do.
    """
    name = _label(name if name is not None else "unnamed" if isinstance(source, bytes) else os.fspath(source))
    data = source if isinstance(source, bytes) else _read(name, Path(source), limits)
    if len(data) > limits.max_bytes:
        raise DocumentError(name, f"it has more than {limits.max_bytes / 2**20:g} MB, the most that is read; split it")
    if not data:
        raise DocumentError(name, "the file is empty")
    kind = media.media_type(name, data)
    text = _text(name, kind, data, limits)
    if not text.strip():
        raise DocumentError(name, "there is no text in it")
    check_length(name, text, limits)
    return Document(name, kind, text)


def load_many(
    sources: Iterable[str | os.PathLike[str] | bytes], limits: Limits = _DEFAULT
) -> Iterator[Document | DocumentError]:
    """Read documents one by one; one that cannot be read comes as its error, and the rest goes on."""
    for source in sources:
        try:
            yield load(source, limits=limits)
        except DocumentError as error:
            yield error


def _label(name: str) -> str:
    """The last part of a path, as a label: printable, of bounded length, its suffix kept."""
    last = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    label = "".join(c for c in last if c.isprintable()).strip() or "unnamed"
    stem, dot, suffix = label.rpartition(".")
    if len(label) <= MAX_NAME or len(suffix) > 10:
        return label[:MAX_NAME]
    return stem[: MAX_NAME - len(suffix) - 1] + dot + suffix


def _read(name: str, path: Path, limits: Limits) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise DocumentError(name, "this is a folder; give the files in it")
        if not stat.S_ISREG(mode):  # a pipe or a device may never end
            raise DocumentError(name, "this is no ordinary file; give a file, or its bytes")
        with open(path, "rb") as file:
            return file.read(limits.max_bytes + 1)
    except FileNotFoundError as error:
        raise DocumentError(name, "there is no such file") from error
    except OSError as error:
        raise DocumentError(name, f"it cannot be opened ({error.strerror})") from error
    except ValueError as error:  # a NUL in the path
        raise DocumentError(name, f"this cannot be the path of a file ({error})") from error


def _text(name: str, kind: str, data: bytes, limits: Limits) -> str:
    if kind in media.RICH or kind == media.HTML:
        return parse_apart(name, kind, data, limits)
    text = decode(name, data)
    turns = _TURNS[kind](text) if kind in _TURNS else None
    return _SURROGATE.sub("\ufffd", turns) if turns else text
