"""Receive files, list and remove documents; stop and resume the work on them."""

import codecs
import os
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path

from blockrag.documents.folder import files_of
from blockrag.documents.media import SUFFIXES
from blockrag.errors import DocumentError
from blockrag.index import labels
from storage.documents import DocumentRecord, UploadRecord
from storage.errors import LimitError, NotFoundError
from storage.jobs import IndexRequest
from ui import fetch, strings
from ui.collection_document import CollectionDocument
from ui.components.payloads import DocumentRow, DocumentsPayload, StatusPayload
from ui.open_collection import OpenCollection
from ui.preferences import PreferenceError
from ui.worker import Running

UPLOAD_ID = "upload-{id}"
"""Id, in the table, of a file that is not a document."""

SAMPLE = Path(__file__).parent.parent / "sample.md"


def receive(
    collection: OpenCollection,
    paths: Sequence[Path],
    encoding: str = "",
    ocr: bool = False,
    replaced: str | None = None,
) -> None:
    """Copy uploaded files, so that no restart loses them, and have them read. The originals stay: Gradio keeps equal
    files of all visitors once, and deletes them later.

    Parameters
    ----------
    encoding : str
        Of text files, if it is not to be detected.
    ocr : bool
        Read scanned pages of PDF files.
    replaced : str, optional
        Id of the document that the file takes the place of, whatever its name.

    Raises
    ------
    LimitError
        If they are too many, or a new visitor's collection is one too many.
    PreferenceError
        If there is no such encoding.
    NotFoundError
        If there is no such document.
    """
    named = _known(encoding)
    source = collection.store.documents.get(collection.record.id, replaced).source if replaced else None
    collection.limiter.upload(collection.owner, len(paths))
    collection.keep()
    for path in paths:
        collection.library.receive(collection.record.id, path, path.name, named, source, ocr)
    collection.worker.resume(collection.record.id)


def receive_folder(collection: OpenCollection, paths: Sequence[Path], encoding: str = "", ocr: bool = False) -> str:
    """Have the files of an uploaded folder read; return a sentence on those of types that are not read, if any. Files
    of one name are told apart by a number, since browsers do not tell their folders."""
    read = [path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    others = [path.name for path in paths if path not in read]
    if not read:
        raise PreferenceError(strings.FOLDER_UNREAD.format(n=len(others), names=_some(others)))
    named, seen = _known(encoding), Counter[str]()
    collection.limiter.upload(collection.owner, len(read))
    collection.keep()
    for path in sorted(read, key=lambda path: (path.name, str(path))):
        seen[path.name] += 1
        number = f" ({seen[path.name]})" if seen[path.name] > 1 else ""
        name = f"{path.stem}{number}{path.suffix}"
        collection.library.receive(collection.record.id, path, name, named, ocr=ocr)
    collection.worker.resume(collection.record.id)
    return strings.FOLDER_UNREAD.format(n=len(others), names=_some(others)) if others else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def receive_url(collection: OpenCollection, url: str) -> None:
    """Fetch a web page or file and have it read. Its document's source is the address, so that the same address again
    replaces it. Raises FetchError and LimitError."""
    if not url.strip():
        raise fetch.FetchError(strings.URL_MISSING)
    collection.limiter.upload(collection.owner, 1)
    with collection.limiter.job(collection.owner):
        found = fetch.fetch(url, collection.limiter.limits.file_bytes)
    collection.keep()
    with tempfile.TemporaryDirectory(prefix="blockrag-") as folder:
        path = Path(folder) / "fetched"
        path.write_bytes(found.data)
        collection.library.receive(collection.record.id, path, found.name, source=found.url)
    collection.worker.resume(collection.record.id)


def sync_folder(collection: OpenCollection, folder: str, encoding: str = "", ocr: bool = False) -> str:
    """Bring the documents in step with a folder of the server: have its files read, whose unchanged ones stay as they
    are, and remove the documents of files that are gone. Return a sentence on what was done. The caller makes sure that
    the visitor is at the machine.

    Raises
    ------
    PreferenceError
        If there is no such folder: one that is not there, as on a drive that is not mounted, deletes nothing.
    """
    root = Path(os.path.abspath(Path(folder.strip() or "?").expanduser()))
    if not folder.strip() or not root.is_dir():
        raise PreferenceError(strings.SYNC_MISSING.format(name=folder.strip() or "?"))
    try:
        read, others = files_of(root)
    except DocumentError as error:
        raise PreferenceError(str(error)) from error
    named, present = _known(encoding), {str(path) for path in (*read, *others)}
    collection.limiter.upload(collection.owner, len(read))
    collection.keep()
    for path in read:
        name = path.relative_to(root).as_posix()
        collection.library.receive(collection.record.id, path, name, named, str(path), ocr)
    gone = [
        record.document_id
        for record in collection.store.documents.of(collection.record.id)
        if record.source.startswith(str(root).rstrip(os.sep) + os.sep) and record.source not in present
    ]
    for document_id in gone:
        collection.remove(document_id)
    collection.worker.resume(collection.record.id)
    return strings.SYNC_DONE.format(n=len(read), gone=len(gone))


def has_ocr() -> bool:
    """Whether scanned pages can be read."""
    return find_spec("rapidocr") is not None


def receive_text(collection: OpenCollection, name: str, text: str) -> None:
    """Have a pasted text read. A document of its name is replaced. Raises LimitError and PreferenceError."""
    if not text.strip():
        raise PreferenceError(strings.PASTE_EMPTY)
    collection.limiter.upload(collection.owner, 1)
    data = text.encode("utf-8", "replace")
    if len(data) > collection.limiter.limits.file_bytes:
        raise LimitError(strings.PASTE_TOO_LONG.format(megabytes=collection.limiter.limits.file_bytes >> 20))
    collection.keep()
    name = name.strip() or " ".join(text.split())[:40]
    with tempfile.TemporaryDirectory(prefix="blockrag-") as folder:
        path = Path(folder) / "text"
        path.write_bytes(data)
        collection.library.receive(
            collection.record.id, path, name if Path(name).suffix in (".md", ".txt") else f"{name}.txt", "utf-8"
        )
    collection.worker.resume(collection.record.id)


def _known(encoding: str) -> str | None:
    """Return the encoding's name, or None if none is named. Raises PreferenceError."""
    if not encoding.strip():
        return None
    try:
        return codecs.lookup(encoding.strip()).name
    except LookupError as error:
        raise PreferenceError(strings.NO_ENCODING.format(name=encoding)) from error


def receive_sample(collection: OpenCollection) -> None:
    """Have the sample text read."""
    collection.keep()
    collection.library.receive(collection.record.id, SAMPLE, strings.SAMPLE_NAME)
    collection.worker.resume(collection.record.id)


def remove(collection: OpenCollection, row_id: str, chosen: Collection[str] = ()) -> DocumentsPayload:
    """Remove a document, or a file that waits, is being read or could not be read. One that is gone is ignored."""
    upload = next((u for u in _uploads(collection) if UPLOAD_ID.format(id=u.id) == row_id), None)
    if upload is not None:
        collection.worker.cancel(collection.record.id, upload_id=upload.id)
        collection.library.dismiss(upload)
    else:
        try:
            collection.remove(row_id)
        except NotFoundError:
            if not row_id.startswith(UPLOAD_ID.format(id="")):
                raise
    return view(collection, chosen)


def view(collection: OpenCollection, chosen: Collection[str] = ()) -> DocumentsPayload:
    """Draw the documents, some of them chosen, and the files that are not documents (yet)."""
    uploads, documents = _uploads(collection), list(collection.documents.values())
    id, jobs = collection.record.id, collection.store.jobs
    running, requests, is_paused = collection.worker.running(id), jobs.requests(id), jobs.is_paused(id)
    names = labels([(document.record.name, document.record.source) for document in documents])
    rows = [
        _document_row(document, name, _work_on(document, running, requests.get(document.record.id), is_paused))
        for document, name in zip(documents, names, strict=True)
    ]
    rows += [_upload_row(upload, running, is_paused) for upload in uploads]
    n_left = sum(upload.state == "waiting" for upload in uploads) + sum(not r.reason for r in requests.values())
    return {
        "rows": rows,
        "chosen": [document.record.document_id for document in documents if document.record.document_id in chosen],
        "waiting": n_left if is_paused else 0,
        "busy": bool(n_left) and not is_paused,
        "notices": collection.worker.notices.get(collection.record.id, []),
        "empty": strings.NO_DOCUMENTS,
    }


def status(collection: OpenCollection) -> StatusPayload:
    """Say what is being done for the collection, and how to stop or resume it; or that deleted text is still in the
    database's log; empty otherwise."""
    id, jobs = collection.record.id, collection.store.jobs
    n_left = sum(upload.state == "waiting" for upload in _uploads(collection))
    n_left += sum(not request.reason for request in jobs.requests(id).values())
    running = collection.worker.running(id)
    if jobs.is_paused(id) and n_left:
        return {"text": strings.STATUS_PAUSED.format(n=n_left), "label": strings.RESUME, "action": "resume"}
    if running is not None:
        text = strings.STATUS_READING if running.document_id is None else strings.STATUS_INDEXING
        said = text.format(name=running.name, progress=_progress(running)) + _time_left(running)
        said += strings.STATUS_LEFT.format(n=n_left - 1) if n_left > 1 else ""
    elif n_left:
        said = strings.STATUS_WAITING.format(n=n_left)
    else:
        return {} if collection.store.database.is_wiped else {"text": strings.STATUS_IN_LOG}
    return {"text": said, "label": strings.STOP, "action": "stop"}


def _time_left(running: Running) -> str:
    left_s = running.left_s
    if left_s is None:
        return ""
    return strings.SECONDS_LEFT.format(s=left_s) if left_s >= 1 else strings.NEARLY_DONE


def choices(collection: OpenCollection) -> list[tuple[str, str]]:
    """Return name and id of every document, for a menu."""
    records = collection.store.documents.of(collection.record.id)
    names = labels([(record.name, record.source) for record in records])
    return [(name, record.document_id) for name, record in zip(names, records, strict=True)]


def _uploads(collection: OpenCollection) -> list[UploadRecord]:
    return collection.store.documents.uploads(collection.record.id)


def _work_on(
    document: CollectionDocument, running: Running | None, request: IndexRequest | None, is_paused: bool
) -> str:
    """Describe the running or pending work on a document; an empty string if there is none."""
    if running and running.document_id == document.record.id:
        return _progress(running)
    if request is None:
        return ""
    return request.reason or (strings.STOPPED if is_paused else strings.WAITING_TO_INDEX)


def _progress(running: Running) -> str:
    step = running.step
    if step is None or not step.total:
        return strings.READING_FILE if running.document_id is None else strings.INDEXING
    text = strings.SEGMENTING if step.stage == "segment" else strings.INDEXING_PERCENT
    share = step.done / step.total if step.stage != "embed" else 0
    return text.format(percent=round(100 * share))


def _document_row(document: CollectionDocument, name: str, work: str) -> DocumentRow:
    record = document.record
    state = strings.INDEXED if document.is_indexed else strings.READY_TO_INDEX
    return {
        "id": record.document_id,
        "name": name,
        "kind": record.media_type.rsplit("/", 1)[-1].rsplit(".", 1)[-1].removeprefix("x-"),
        "size": _size(record),
        "length": record.n_chars,
        "choosable": True,
        "state": work or state,
        "notes": _notes(record),
        "failed": False,
        "busy": bool(work),
    }


def _size(record: DocumentRecord) -> str:
    size = strings.CHARACTERS.format(n=record.n_chars)
    return f"{size}, {strings.PAGES.format(n=record.n_pages)}" if record.n_pages else size


def _notes(record: DocumentRecord) -> list[str]:
    encoding = [] if record.encoding in ("", "utf-8", "ascii") else [strings.READ_AS.format(name=record.encoding)]
    return [*encoding, *record.notes]


def _upload_row(upload: UploadRecord, running: Running | None, is_paused: bool) -> DocumentRow:
    failed = upload.state == "failed"
    waiting = strings.STOPPED if is_paused else strings.WAITING
    is_read = running is not None and running.upload_id == upload.id
    return {
        "id": UPLOAD_ID.format(id=upload.id),
        "name": upload.name,
        "kind": "",
        "size": "",
        "length": 0,
        "choosable": False,
        "state": upload.reason if failed else _progress(running) if is_read and running else waiting,
        "notes": [],
        "failed": failed,
        "busy": not failed,
    }
