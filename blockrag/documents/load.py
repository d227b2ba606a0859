"""Load a document from a path or bytes: determine its type, read it, check that it has text."""

import codecs
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from blockrag.arguments import flag, instance, path_of, shown
from blockrag.documents import media, readers
from blockrag.documents.base64_runs import without_base64
from blockrag.documents.document import MAX_NOTE, MAX_NOTES, Content, Document, Limits, without_surrogates
from blockrag.documents.sandbox import parse_apart
from blockrag.documents.text import check_length, decode_as, with_line_breaks
from blockrag.errors import ArgumentError, DocumentError

MAX_NAME = 200
_DEFAULT = Limits()
_NAMES_ENCODING = {*media.RICH, media.EML, media.MBOX}


def load(
    source: str | os.PathLike[str] | bytes,
    name: str | None = None,
    limits: Limits = _DEFAULT,
    encoding: str | None = None,
    ocr: bool = False,
) -> Document:
    """Read a document.

    Parameters
    ----------
    source : path or bytes
        The type of bytes without a `name` follows from their content alone.
    name : str, optional
        Shown to the user; its suffix is compared with the content. By default the name of the path. Folders and control
        characters are removed from it. It also becomes the document's source, folders kept; without it, the source is
        the absolute path, or a hash of the bytes.
    limits : Limits
    encoding : str, optional
        Encoding of a text file. By default it is detected; a note says if it was guessed.
    ocr : bool
        Read scanned pages of a PDF by OCR (the ``[ocr]`` extra), some seconds each; notes name them. Without it, notes
        name pages that have no text.

    Raises
    ------
    DocumentError
        If it cannot be read; the reason says why, and what to do.
    ArgumentError
    """
    instance("limits", limits, Limits)
    flag("ocr", ocr)
    if not isinstance(source, bytes):
        source = path_of("source", source)
    origin = _origin(source, name)
    name = _label(name if name is not None else "unnamed" if isinstance(source, bytes) else os.fspath(source))
    data = source if isinstance(source, bytes) else _read(name, Path(source), limits)
    if len(data) > limits.max_bytes:
        raise DocumentError(name, f"it has more than {limits.max_bytes / 2**20:g} MB, which is the limit; split it")
    if not data:
        raise DocumentError(name, "the file is empty")
    kind = media.media_type(name, data)
    if encoding is not None:
        data = _transcoded(name, kind, data, encoding)
    content = without_base64(_content(name, kind, data, limits, ocr))
    text = with_line_breaks(content.text)
    if not text.strip():
        raise DocumentError(name, "it contains no text")
    check_length(name, text, limits)
    return Document(name, kind, without_surrogates(text), origin, encoding or content.encoding, _brief(content.notes))


def load_many(
    sources: Iterable[str | os.PathLike[str] | bytes],
    limits: Limits = _DEFAULT,
    encoding: str | None = None,
    ocr: bool = False,
) -> Iterator[Document | DocumentError]:
    """Read documents one by one. A document that cannot be read is yielded as its error, and the rest follow.

    `encoding` is that of text files; files whose suffix belongs to a format that names its own are read as usual.

    Raises
    ------
    ArgumentError
        If `sources` is one path: its letters are none. If a source is neither a path nor bytes.
    """
    if isinstance(sources, str | bytes | os.PathLike) or not isinstance(sources, Iterable):
        raise ArgumentError(f"sources is {shown(sources)}; give a list of paths")
    for source in sources:
        if (unusable := _unusable(source)) is not None:
            yield unusable
            continue
        try:
            yield load(source, limits=limits, encoding=_encoding_for(source, encoding), ocr=ocr)
        except DocumentError as error:
            yield error


def _unusable(source: str | os.PathLike[str] | bytes) -> DocumentError | None:
    """The error of a text that cannot be a path, or None."""
    if isinstance(source, str | os.PathLike):
        try:
            path_of("a source", source)
        except ArgumentError as error:
            return DocumentError(_label(os.fspath(source)), str(error))
    return None


def _encoding_for(source: str | os.PathLike[str] | bytes, encoding: str | None) -> str | None:
    """`encoding` for a text file; None for a file whose suffix belongs to a format that names its own."""
    suffix = "" if isinstance(source, bytes) else path_of("a source", source).suffix.lower()
    return None if media.SUFFIXES.get(suffix) in _NAMES_ENCODING else encoding


def _origin(source: str | os.PathLike[str] | bytes, name: str | None) -> str:
    """The document's source: the name given to it, the absolute path, or a hash of bytes without a name. Printable, and
    different for each path."""
    if name is None and isinstance(source, bytes):
        return f"sha256:{hashlib.sha256(source).hexdigest()}"
    origin = os.path.abspath(os.fspath(source)) if name is None else name
    whole = str(origin).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in whole)


def _label(name: str) -> str:
    """The last part of a path as a label: printable, of bounded length, with its suffix."""
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
            raise DocumentError(name, "this is a folder; pass the files in it")
        if not stat.S_ISREG(mode):  # a pipe or a device may never end
            raise DocumentError(name, "this is not a regular file; pass a file, or its bytes")
        with open(path, "rb") as file:
            return file.read(limits.max_bytes + 1)
    except FileNotFoundError as error:
        raise DocumentError(name, "there is no such file") from error
    except OSError as error:
        raise DocumentError(name, f"it cannot be opened ({error.strerror})") from error
    except ValueError as error:  # a NUL in the path
        raise DocumentError(name, f"this is not a valid path ({error})") from error


def _brief(notes: tuple[str, ...]) -> tuple[str, ...]:
    """The notes within `MAX_NOTES` and `MAX_NOTE`, each on one line."""
    brief = [" ".join(without_surrogates(note).split())[:MAX_NOTE] for note in dict.fromkeys(notes)]
    if len(brief) > MAX_NOTES:
        brief = [*brief[: MAX_NOTES - 1], f"{len(brief) - MAX_NOTES + 1} more notes."]
    return tuple(brief)


def _transcoded(name: str, kind: str, data: bytes, encoding: str) -> bytes:
    """`data` in UTF-8 with a mark, which every reader of text takes before any declaration in the file."""
    if kind in (media.EML, media.MBOX):
        raise DocumentError(name, "a message names its own encodings; leave the encoding out")
    if kind in media.RICH:
        raise DocumentError(name, f"{media.RICH[kind]} names its own encodings; leave the encoding out")
    return codecs.BOM_UTF8 + without_surrogates(decode_as(name, data, encoding)).encode("utf-8")


def _content(name: str, kind: str, data: bytes, limits: Limits, ocr: bool) -> Content:
    if kind in readers.IN_PROCESS:
        return readers.load(kind)(name, data, limits)
    readers.require_libraries(name, kind)
    return parse_apart(name, kind, data, limits, ocr)
