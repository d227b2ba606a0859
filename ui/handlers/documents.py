"""Load files, list and remove documents. Pending files resume after a restart."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from blockrag.documents import Limits as ReadingLimits
from blockrag.documents import load
from blockrag.errors import BlockRAGError, DocumentError, Stopped
from blockrag.index import labels
from blockrag.progress import OnProgress
from storage.documents import DocumentRecord, UploadRecord
from ui import strings
from ui.collection_document import CollectionDocument
from ui.components.payloads import DocumentRow, DocumentsPayload
from ui.jobs import stream_progress
from ui.open_collection import OpenCollection

UPLOAD_ID = "upload-{id}"
"""Id, in the table, of a file that is not a document."""


def receive(collection: OpenCollection, paths: Sequence[Path]) -> None:
    """Copy uploaded files, so that no restart loses them. The originals stay: Gradio keeps equal files of all visitors
    once, and deletes them later. Raises LimitError if they are too many."""
    collection.limiter.upload(collection.owner, len(paths))
    for path in paths:
        collection.library.receive(collection.record.id, path, path.name)


def read_waiting(collection: OpenCollection) -> Iterator[DocumentsPayload]:
    """Read the waiting files one by one, yielding the view before each and at the end."""
    collection.flags.stop_loading = False
    with collection.limiter.job(collection.owner):
        for upload in _uploads(collection):
            if upload.state != "waiting":
                continue
            if collection.flags.stop_loading:
                break
            yield view(collection, reading=upload.id)
            yield from _read(collection, upload)
    yield view(collection)


def stop(collection: OpenCollection) -> DocumentsPayload:
    """Stop reading files; the one being segmented waits again."""
    collection.flags.stop_loading = True
    return view(collection)


def load_sample(collection: OpenCollection, path: Path, on_progress: OnProgress | None = None) -> DocumentsPayload:
    """Load a file of the project, and leave it where it is."""
    collection.add(load(path, name=path.name), on_progress=on_progress)
    return view(collection)


def remove(collection: OpenCollection, row_id: str) -> DocumentsPayload:
    """Remove a document, or a file that could not be read."""
    failed = next((u for u in _uploads(collection) if UPLOAD_ID.format(id=u.id) == row_id), None)
    if failed is not None:
        collection.library.dismiss(failed)
    else:
        collection.remove(row_id)
    return view(collection)


def view(collection: OpenCollection, reading: int | None = None, percent: int | None = None) -> DocumentsPayload:
    """Draw the documents and the files that are not documents (yet).

    Parameters
    ----------
    reading : int, optional
        Id of the upload being read.
    percent : int, optional
        How much of it is segmented.
    """
    uploads = _uploads(collection)
    progress = strings.READING_FILE if percent is None else strings.SEGMENTING.format(percent=percent)
    documents = list(collection.documents.values())
    names = labels([(document.record.name, document.record.source) for document in documents])
    rows = [*map(_document_row, documents, names)]
    rows += [_upload_row(upload, progress if upload.id == reading else strings.WAITING) for upload in uploads]
    n_waiting = sum(upload.state == "waiting" for upload in uploads)
    return {
        "rows": rows,
        "waiting": 0 if reading else n_waiting,
        "progress": strings.FILES_LEFT.format(n=n_waiting) if reading else "",
        "empty": strings.NO_DOCUMENTS,
    }


def choices(collection: OpenCollection) -> list[tuple[str, str]]:
    """Return name and id of every document, for a menu."""
    records = collection.store.documents.of(collection.record.id)
    names = labels([(record.name, record.source) for record in records])
    return [(name, record.document_id) for name, record in zip(names, records, strict=True)]


def _uploads(collection: OpenCollection) -> list[UploadRecord]:
    return collection.store.documents.uploads(collection.record.id)


def _read(collection: OpenCollection, upload: UploadRecord) -> Iterator[DocumentsPayload]:
    """Make a document of a file, yielding the view at each per cent; if it is stopped, the file waits again."""
    path, limits = collection.library.upload_path(upload), collection.limiter.limits
    try:
        document = load(path, name=upload.name, limits=ReadingLimits(max_bytes=limits.file_bytes))
        last_percent = 0
        with closing(stream_progress(partial(collection.add, document, upload.id))) as steps:
            for step in steps:
                if collection.flags.stop_loading:
                    return
                if (percent := round(100 * step.done / step.total)) > last_percent:
                    last_percent = percent
                    yield view(collection, upload.id, percent)
    except Stopped:
        return
    except DocumentError as error:
        collection.store.documents.fail(upload.id, error.reason)
    except BlockRAGError as error:
        collection.store.documents.fail(upload.id, str(error))
    path.unlink(missing_ok=True)


def _document_row(document: CollectionDocument, name: str) -> DocumentRow:
    record = document.record
    return {
        "id": record.document_id,
        "name": name,
        "kind": record.media_type.rsplit("/", 1)[-1].rsplit(".", 1)[-1].removeprefix("x-"),
        "size": _size(record),
        "state": strings.READY_TO_INDEX if document.indexed_starts is None else strings.INDEXED,
        "notes": _notes(record),
        "failed": False,
        "busy": False,
    }


def _size(record: DocumentRecord) -> str:
    size = strings.CHARACTERS.format(n=record.n_chars)
    return f"{size}, {strings.PAGES.format(n=record.n_pages)}" if record.n_pages else size


def _notes(record: DocumentRecord) -> list[str]:
    encoding = [] if record.encoding in ("", "utf-8", "ascii") else [strings.READ_AS.format(name=record.encoding)]
    return [*encoding, *record.notes]


def _upload_row(upload: UploadRecord, state: str) -> DocumentRow:
    failed = upload.state == "failed"
    return {
        "id": UPLOAD_ID.format(id=upload.id) if failed else "",
        "name": upload.name,
        "kind": "",
        "size": "",
        "state": upload.reason if failed else state,
        "notes": [],
        "failed": failed,
        "busy": not failed,
    }
