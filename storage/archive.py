"""Export and import a collection as one file: a zip of ``collection.json`` and ``documents/N.txt``. It holds no vectors
and no KV; indexing makes them again, with the importer's models.

Nothing in a file to import is trusted. Sizes are checked before anything is inflated, names before they are read,
each text against its hash, and each segmentation against its text. A file is imported whole or not at all.
"""

import json
import secrets
import zipfile
import zlib
from collections.abc import Container
from itertools import chain, count
from pathlib import Path
from typing import Any

from blockrag.documents import MAX_NOTE, MAX_NOTES, Document
from blockrag.errors import SegmentationError
from blockrag.index.upgrade import former_source
from blockrag.segment import Edit, Scored, Segmentation, SizeBounds
from storage.collections import IMPORTING, CollectionRecord
from storage.documents import Quota
from storage.errors import ArchiveError, StorageError
from storage.library import Library
from storage.segmentations import NewSegmentation

FORMAT = "blockrag-collection"
VERSION = 1
MANIFEST = "collection.json"
MAX_MANIFEST_BYTES = 256 << 20
MAX_SOURCE = 4096
"""Characters of a document's source that are kept."""
MAX_RATIO = 200
"""How many times larger a member may be than its packed form; text packs to a fifth, a bomb to a thousandth."""


def export(library: Library, collection: CollectionRecord, path: Path) -> None:
    """Write a collection with its documents, segmentations and edits to `path`."""
    store, documents = library.store, []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, record in enumerate(store.documents.of(collection.id)):
            saved, scored = store.segmentations.get(record.id), store.segmentations.scored(record.id)
            archive.writestr(f"documents/{number}.txt", _encode(store.documents.read(record.id).text))
            documents.append(
                {
                    "name": record.name,
                    "source": record.source,
                    "media_type": record.media_type,
                    "encoding": record.encoding,
                    "notes": record.notes,
                    "sha256": record.sha256,
                    "segmenter": saved.segmenter,
                    "bounds": [saved.bounds.minimum, saved.bounds.maximum],
                    "granularity": saved.granularity,
                    "chars": scored.chars.tolist(),
                    "scores": [round(float(score), 6) for score in scored.scores],
                    "edits": [[edit.char, edit.kind] for edit in saved.edits],
                }
            )
        manifest = {"format": FORMAT, "version": VERSION, "name": collection.name, "documents": documents}
        archive.writestr(MANIFEST, json.dumps(manifest))


def import_(
    library: Library, owner: str, path: Path, name: str = "", most: int = 1_000, taken: Container[str] = ()
) -> CollectionRecord:
    """Create a collection from what `export` wrote, with the name `name` or its own, numbered where that is `taken`.

    Raises
    ------
    ArchiveError
        If the file is no such export, is damaged, or exceeds what a collection may hold.
    ConflictError, LimitError
        As `Collections.create` does.
    """
    title, parts = _read(library, path)
    name = _free(name or title, taken)
    collections, hidden = library.store.collections, secrets.token_hex(16)
    collection = collections.create(IMPORTING, hidden)  # no owner sees it until it is whole
    try:
        for document, saved, edits in parts:
            document_id = library.store.documents.add(collection.id, document, saved, library.quota)
            if edits:
                library.store.segmentations.edit(document_id, edits)
        collections.give(collection.id, owner, name, most)
    except StorageError:
        library.delete_collection(collection)
        raise
    return collections.get(owner, collection.token)


def _free(name: str, taken: Container[str]) -> str:
    numbered = (f"{name} ({number})" for number in count(2))
    return next(n for n in chain([name], numbered) if n not in taken)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _read(library: Library, path: Path) -> tuple[str, list[tuple[Document, NewSegmentation, list[Edit]]]]:
    """Read and check the whole file."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, library.quota)
            manifest = json.loads(archive.read(MANIFEST))
            if manifest["format"] != FORMAT or manifest["version"] != VERSION:
                raise ArchiveError("this file has another format, or is from a later version of BlockRAG")
            entries = manifest["documents"]
            if set(archive.namelist()) != {MANIFEST, *(f"documents/{i}.txt" for i in range(len(entries)))}:
                raise ArchiveError("the file does not contain what it lists")
            parts, taken = [], set[str]()
            for number, entry in enumerate(entries):
                source = str(entry.get("source") or former_source(entry["name"], entry["sha256"], taken))
                parts.append(_part(library, entry, source[:MAX_SOURCE], archive.read(f"documents/{number}.txt")))
            if len({document.id for document, _, _ in parts}) < len(parts):
                raise ArchiveError("two documents of the file have one source")
            return str(manifest["name"]), parts
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise ArchiveError(f"the file is not an exported collection ({type(error).__name__})") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ArchiveError(f"the file is damaged, or is no exported collection ({error})") from error
    except SegmentationError as error:
        raise ArchiveError(f"the blocks of a document in the file are impossible: {error}") from error


def _check_sizes(archive: zipfile.ZipFile, quota: Quota) -> None:
    members = archive.infolist()
    if len(members) > quota.n_documents + 1:
        raise ArchiveError(f"the file has {len(members)} members; at most {quota.n_documents + 1} are allowed")
    for member in members:
        if member.file_size > MAX_RATIO * max(member.compress_size, 1 << 10):
            raise ArchiveError(f"{member.filename[:80]!r} would grow more than {MAX_RATIO} times when unpacked")
        if member.filename == MANIFEST and member.file_size > MAX_MANIFEST_BYTES:
            raise ArchiveError(
                f"its list of contents has {member.file_size:,} bytes; at most {MAX_MANIFEST_BYTES:,} are allowed"
            )
    total = sum(member.file_size for member in members if member.filename != MANIFEST)
    if total > 4 * quota.n_chars:
        raise ArchiveError(f"the file holds {total:,} bytes of text, more than a collection may hold")


def _part(
    library: Library, entry: dict[str, Any], source: str, data: bytes
) -> tuple[Document, NewSegmentation, list[Edit]]:
    text = data.decode("utf-8", "surrogatepass")
    said = (
        str(entry.get("encoding", ""))[:64],
        tuple(str(note)[:MAX_NOTE] for note in entry.get("notes", ())[:MAX_NOTES]),
    )
    document = Document(str(entry["name"])[:200], str(entry["media_type"])[:200], text, source, *said)
    if document.sha256 != entry["sha256"]:
        raise ArchiveError(f"the text of {document.name!r} is not the text that was exported")
    bounds = SizeBounds(*(int(bound) for bound in entry["bounds"]))
    scored = Scored(entry["chars"], entry["scores"])
    edits = []
    for char, kind in entry["edits"]:
        if kind not in ("added", "removed"):
            raise ArchiveError(f"an edit of {document.name!r} has an unknown kind")
        edits.append(Edit(int(char), kind))
    granularity = float(entry["granularity"])
    Segmentation.restore(document, scored, library.engine.token_counter, bounds, edits).blocks(granularity)
    return document, NewSegmentation(str(entry["segmenter"])[:32], scored, bounds, granularity), edits
