"""Export and import a collection as one file: a zip of ``collection.json`` and ``documents/N.txt``. It holds no vectors
and no KV; indexing makes them again, with the importer's models.

Nothing in a file to import is trusted. It is parsed in the sandbox (`archive_reader`), which answers document by
document; each text is checked against its hash, and each segmentation against its text. A file is imported whole or not
at all.
"""

import json
import secrets
import zipfile
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from blockrag.documents import MAX_NOTE, MAX_NOTES, Document, Limits
from blockrag.documents.sandbox import SandboxError, answer_of
from blockrag.errors import SegmentationError
from blockrag.index.upgrade import former_source
from blockrag.progress import OnProgress, Progress, ignore
from blockrag.segment import Edit, Scored, Segmentation, SizeBounds
from storage.archive_reader import FORMAT, MANIFEST, MAX_LINE_BYTES, MAX_LISTED, VERSION
from storage.backup import written_aside
from storage.collections import IMPORTING, CollectionRecord
from storage.errors import ArchiveError
from storage.library import Library
from storage.segmentations import NewSegmentation

KINDS: tuple[Literal["added"], Literal["removed"]] = ("added", "removed")
Part = tuple[Document, NewSegmentation, list[Edit]]


def export(library: Library, collection: CollectionRecord, path: Path) -> None:
    """Write a collection with its documents, segmentations and edits to `path`, whole or not at all.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    store, documents = library.store, []
    with written_aside(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
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
    library: Library,
    owner: str,
    path: Path,
    name: str = "",
    most: int = 1_000,
    taken: Container[str] = (),
    on_progress: OnProgress | None = None,
) -> CollectionRecord:
    """Create a collection from what `export` wrote, with the name `name` or its own, numbered where that is `taken`.

    Raises
    ------
    ArchiveError
        If the file is no such export, is damaged, or exceeds what a collection may hold.
    ConflictError, LimitError
        As `Collections.create` and `Documents.add` do.
    """
    collections, hidden = library.store.collections, secrets.token_hex(16)
    with _parsed(library, path) as (title, n_documents, parts):
        collection = collections.create(IMPORTING, hidden)  # no owner sees it until it is whole
        try:
            for number, (document, saved, edits) in enumerate(parts):
                document_id = library.store.documents.add(collection.id, document, saved, library.quota)
                if edits:
                    library.store.segmentations.edit(document_id, edits)
                (on_progress or ignore)(Progress("import", number + 1, n_documents))
            if library.store.documents.totals(collection.id)[0] != n_documents:
                raise ArchiveError("two documents of the file have one source, or some are missing")
            collections.give(collection.id, owner, _free(name or title, taken), most)
        except BaseException:
            library.delete_collection(collection)
            raise
    return collections.get(owner, collection.token)


def _free(name: str, taken: Container[str]) -> str:
    numbered = (f"{name} ({number})" for number in count(2))
    return next(n for n in chain([name], numbered) if n not in taken)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@contextmanager
def _parsed(library: Library, path: Path) -> Iterator[tuple[str, int, Iterator[Part]]]:
    """Name, number of documents, and the documents of a file, read while they are asked for."""
    most, taken = library.quota, set[str]()
    task = {"n_documents": most.n_documents, "n_chars": most.n_chars}
    nbytes = most.n_documents * MAX_LINE_BYTES + MAX_LISTED * most.n_chars
    with _open(path) as file, ExitStack() as stack:
        with _refusals():
            answered = answer_of("storage.archive_reader", task, file, Limits(), nbytes)
            header, answer = stack.enter_context(answered)
            _raise_reason(header)
            name, n_documents = str(header["name"]), int(header["n_documents"])
        yield name, n_documents, (_part(library, answer, taken) for _ in range(n_documents))


@contextmanager
def _refusals() -> Iterator[None]:
    """Tell what is wrong with the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, RecursionError) as error:
        raise ArchiveError(f"the file is not an exported collection ({type(error).__name__})") from error
    except (SandboxError, OSError) as error:
        raise ArchiveError(f"the file is damaged, or is no exported collection ({error})") from error
    except SegmentationError as error:
        raise ArchiveError(f"the blocks of a document in the file are impossible: {error}") from error


def _open(path: Path) -> BinaryIO:
    with _refusals():
        return open(path, "rb")


def _raise_reason(told: dict[str, Any]) -> None:
    if "reason" in told:
        raise ArchiveError(str(told["reason"])[:1000])


@_refusals()
def _part(library: Library, answer: BinaryIO, taken: set[str]) -> Part:
    """The next document of `archive_reader`'s answer, checked."""
    entry = json.loads(answer.readline(MAX_LINE_BYTES))
    _raise_reason(entry)
    chars, scores = _array(answer, "<i8", entry["n_candidates"]), _array(answer, "<f4", entry["n_candidates"])
    edit_chars, edit_kinds = _array(answer, "<i8", entry["n_edits"]), _array(answer, "<u1", entry["n_edits"])
    document = _document(entry, _exactly(answer, entry["nbytes"]).decode("utf-8", "surrogatepass"), taken)
    bounds = SizeBounds(*(int(bound) for bound in entry["bounds"]))
    scored, granularity = Scored(chars, scores), float(entry["granularity"])
    edits = [Edit(int(char), KINDS[kind]) for char, kind in zip(edit_chars, edit_kinds, strict=True)]
    Segmentation.restore(document, scored, library.engine.token_counter, bounds, edits).blocks(granularity)
    return document, NewSegmentation(str(entry["segmenter"])[:32], scored, bounds, granularity), edits


def _document(entry: dict[str, Any], text: str, taken: set[str]) -> Document:
    source = str(entry["source"] or former_source(entry["name"], entry["sha256"], taken))
    notes = tuple(str(note)[:MAX_NOTE] for note in entry["notes"][:MAX_NOTES])
    names = str(entry["name"])[:200], str(entry["media_type"])[:200]
    document = Document(*names, text, source, str(entry["encoding"])[:64], notes)
    if document.sha256 != entry["sha256"]:
        raise ArchiveError(f"the text of {document.name!r} is not the text that was exported")
    return document


def _array(answer: BinaryIO, dtype: str, n: int) -> np.ndarray:
    return np.frombuffer(_exactly(answer, n * np.dtype(dtype).itemsize), dtype)


def _exactly(answer: BinaryIO, nbytes: int) -> bytes:
    data = answer.read(nbytes)
    if nbytes < 0 or len(data) != nbytes:
        raise ValueError("the answer ends early")
    return data
