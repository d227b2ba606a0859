"""The process that `archive` starts to parse a file to import (see `blockrag.documents.sandbox`).

It answers the collection's name and the number of its documents; then, for each, a line of JSON, arrays (candidates,
scores, edits, kinds of the edits) and the text. Sizes are checked before anything is inflated.
"""

import json
import sys
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from typing import Any, BinaryIO

from blockrag.documents.document import MAX_NOTE, MAX_NOTES, Limits
from blockrag.documents.worker import Answer, serve
from storage.errors import ArchiveError

FORMAT = "blockrag-collection"
VERSION = 1
MANIFEST = "collection.json"
EDIT_KINDS = ("added", "removed")
MAX_SOURCE = 4096
"""Characters of a document's source that are kept."""
MAX_RATIO = 200
"""How many times larger a member may be than its packed form; text packs to a fifth, a bomb to a thousandth."""
MAX_LINE_BYTES = 1 << 18
"""Of what is told of one document: its name, source, notes."""
MAX_LISTED = 48
"""Bytes in the list of contents per byte of text: a candidate has some 20, and so has an edit."""


def read(task: dict[str, Any], file: BinaryIO, limits: Limits) -> Answer:
    """See `worker.serve`."""
    try:
        archive = zipfile.ZipFile(file)
        _check_sizes(archive, task["n_documents"], task["n_chars"])
        manifest = json.loads(archive.read(MANIFEST))
        if manifest["format"] != FORMAT or manifest["version"] != VERSION:
            raise ArchiveError("this file has another format, or is from a later version of BlockRAG")
        entries = manifest["documents"]
        if len(entries) != len(archive.infolist()) - 1 or set(archive.namelist()) != {
            MANIFEST, *(f"documents/{i}.txt" for i in range(len(entries)))
        }:  # fmt: skip
            raise ArchiveError("the file does not contain what it lists")
        return {"name": str(manifest["name"])[:1000], "n_documents": len(entries)}, _documents(archive, entries)
    except Exception as error:  # whatever the file makes the parsers raise; all of it is reported
        return {"reason": _reason(error)}, iter(())


def _documents(archive: zipfile.ZipFile, entries: list[dict[str, Any]]) -> Iterator[bytes]:
    for number, entry in enumerate(entries):
        try:
            yield from _document(entry, archive.read(f"documents/{number}.txt"))
        except Exception as error:  # see `read`
            yield json.dumps({"reason": _reason(error)}).encode() + b"\n"
            return


def _document(entry: dict[str, Any], text: bytes) -> list[bytes]:
    chars, scores = array("q", entry["chars"]), array("f", entry["scores"])
    edits, kinds = array("q", (e[0] for e in entry["edits"])), bytes(EDIT_KINDS.index(e[1]) for e in entry["edits"])
    if len(chars) != len(scores) or len(chars) > len(text):
        raise ArchiveError("a document of the file has more candidates than scores or characters")
    told = {
        "name": str(entry["name"])[:200],
        "source": str(entry.get("source") or "")[:MAX_SOURCE],
        "media_type": str(entry["media_type"])[:200],
        "encoding": str(entry.get("encoding", ""))[:64],
        "notes": [str(note)[:MAX_NOTE] for note in entry.get("notes", ())[:MAX_NOTES]],
        "sha256": str(entry["sha256"])[:64],
        "segmenter": str(entry["segmenter"])[:32],
        "bounds": [int(bound) for bound in entry["bounds"]],
        "granularity": float(entry["granularity"]),
        "n_candidates": len(chars),
        "n_edits": len(edits),
        "nbytes": len(text),
    }
    for numbers in (chars, scores, edits):
        if sys.byteorder == "big":
            numbers.byteswap()
    return [json.dumps(told).encode() + b"\n", chars.tobytes(), scores.tobytes(), edits.tobytes(), kinds, text]


def _check_sizes(archive: zipfile.ZipFile, n_documents: int, n_chars: int) -> None:
    members = archive.infolist()
    if len(members) > n_documents + 1:
        raise ArchiveError(f"the file has {len(members)} members; at most {n_documents + 1} are allowed")
    for member in members:
        if member.file_size > MAX_RATIO * max(member.compress_size, 1 << 10):
            raise ArchiveError(f"{member.filename[:80]!r} would grow more than {MAX_RATIO} times when unpacked")
    total = sum(member.file_size for member in members if member.filename != MANIFEST)
    if total > 4 * n_chars:
        raise ArchiveError(f"the file holds {total:,} bytes of text, more than a collection may hold")
    listed = archive.getinfo(MANIFEST).file_size
    most = len(members) * MAX_LINE_BYTES + MAX_LISTED * total
    if listed > most:
        raise ArchiveError(f"its list of contents has {listed:,} bytes; at most {most:,} are allowed for these texts")


def _reason(error: Exception) -> str:
    if isinstance(error, ArchiveError):
        return str(error)
    if isinstance(error, MemoryError):
        return "reading the file needs more memory than is allowed"
    if isinstance(error, zipfile.BadZipFile | zlib.error | NotImplementedError | EOFError | OSError):
        return f"the file is damaged, or is no exported collection ({str(error)[:200]})"
    return f"the file is not an exported collection ({type(error).__name__})"


if __name__ == "__main__":
    serve(read)
