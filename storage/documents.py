"""Documents of collections, and uploaded files that are not documents yet."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from blockrag.documents import Document
from blockrag.index.base import metadata_json
from storage import models, words
from storage.database import Database
from storage.errors import LimitError, NotFoundError
from storage.models import PART_CHARS
from storage.segmentations import NewSegmentation, new_row
from storage.shared import document_row, keys_of_document, lock_collection, release


@dataclass(frozen=True)
class DocumentRecord:
    """A document without its text. `id` is its row; `document_id`, the hash of its source, is what pages and programs
    call it by; `sha256` is its version; `encoding` and `notes` are what its reader said of the file; `file` is the name
    of the kept file in the folder of uploads."""

    id: int
    document_id: str
    source: str
    sha256: str
    name: str
    media_type: str
    n_chars: int
    added_s: float
    encoding: str = ""
    notes: tuple[str, ...] = ()
    n_pages: int | None = None
    file: str | None = None


@dataclass(frozen=True)
class UploadRecord:
    """An uploaded file: waiting to be read, or failed for a reason. `source` is its document's, if not the name."""

    id: int
    collection_id: int
    name: str
    file: str
    nbytes: int
    state: str
    reason: str
    encoding: str | None = None
    source: str | None = None
    ocr: bool = False


@dataclass(frozen=True)
class Quota:
    """Most documents and characters of one collection, most characters of all collections together, most bytes of files
    that wait to be read, of one collection and of all, and most bytes of all files together, kept ones included."""

    n_documents: int = 10_000
    n_chars: int = 1 << 30
    n_chars_in_all: int = 4 << 30
    waiting_bytes: int = 4 << 30
    waiting_bytes_in_all: int = 16 << 30
    file_bytes_in_all: int = 16 << 30


DEFAULT_QUOTA = Quota()


class Documents:
    """The documents of a database."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time):
        self._database = database
        self._clock = clock

    def add(
        self,
        collection_id: int,
        document: Document,
        segmentation: NewSegmentation | None = None,
        quota: Quota = DEFAULT_QUOTA,
        upload_id: int | None = None,
    ) -> int:
        """Keep a document with its segmentation, in place of the collection's document from the same source, and forget
        the upload that it came from. The same text again changes nothing.

        Another text drops the edits and blocks of the one before. Its vectors and KV stay until the document is indexed
        again, so that only blocks that changed are computed.

        Returns
        -------
        int
            The id of the row.

        Raises
        ------
        LimitError
            If the collection, or all collections together, would exceed the quota.
        NotFoundError
            If there is no such collection.
        """
        with self._database.write() as session:
            collection = lock_collection(session, collection_id)
            collection.clock += 1
            if upload_id is not None:
                session.execute(delete(models.Upload).where(models.Upload.id == upload_id))
            row = _row(session, collection_id, document.id)
            if row is not None and row.sha256 == document.sha256:
                _describe(row, document)
                return row.id
            replaces = row is not None
            _check(session, collection_id, row, len(document.text), quota)
            if row is None:
                row = models.Document(collection_id=collection_id, document_id=document.id, source=document.source)
                session.add(row)
            else:
                _drop_text(session, collection, row)
                row.file = None
            row.name, row.media_type, row.sha256 = document.name, document.media_type, document.sha256
            row.n_chars, row.added_s = len(document.text), self._clock()
            _describe(row, document)
            session.flush()
            _write_text(session, row.id, document.text)
            if segmentation is not None:
                session.merge(new_row(row.id, segmentation, collection.clock))
            document_id = row.id
        if replaces:
            self._database.wipe_deleted()
        return document_id

    def check(self, collection_id: int, document: Document, quota: Quota) -> None:
        """Raise LimitError if `add` would, so that no work is done in vain."""
        with self._database.read() as session:
            _check(session, collection_id, _row(session, collection_id, document.id), len(document.text), quota)

    def of(self, collection_id: int) -> list[DocumentRecord]:
        """A collection's documents, in the order they were added."""
        query = select(models.Document).where(models.Document.collection_id == collection_id)
        with self._database.read() as session:
            return [_record(row) for row in session.scalars(query.order_by(models.Document.id))]

    def get(self, collection_id: int, document_id: str) -> DocumentRecord:
        """One document. Raises NotFoundError."""
        with self._database.read() as session:
            row = _row(session, collection_id, document_id)
            if row is None:
                raise NotFoundError("there is no such document")
            return _record(row)

    def read(self, id: int) -> Document:
        """The document with its whole text. Raises NotFoundError."""
        with self._database.read() as session:
            row = session.get(models.Document, id)
            if row is None:
                raise NotFoundError("there is no such document")
            text = read_span(session, id, 0, row.n_chars)
            about = json.loads(row.about or "{}")
            return Document(row.name, row.media_type, text, row.source, row.encoding or "", _notes(row), about)

    def delete(self, id: int) -> list[str]:
        """Remove a document with its edits, blocks and the sources that point to it; returns the KV keys that nothing
        uses any more. Raises NotFoundError."""
        with self._database.write() as session:
            document = document_row(session, id)
            keys = keys_of_document(session, id)
            session.execute(delete(models.Document).where(models.Document.id == id))
            lock_collection(session, document.collection_id).index_version += 1
            orphans = release(session, document.collection_id, keys)
        self._database.wipe_deleted()
        return orphans

    def rename(self, id: int, name: str) -> None:
        """Give a document another name; its source stays. Raises NotFoundError."""
        with self._database.write() as session:
            document_row(session, id).name = name[: models.NAME_CHARS]

    def keep_file(self, id: int, upload_id: int) -> None:
        """Make an upload's file the document's, and forget the upload. Raises NotFoundError."""
        with self._database.write() as session:
            row, upload = document_row(session, id), session.get(models.Upload, upload_id)
            if upload is not None:
                row.file = upload.file
                session.delete(upload)

    def forget_file(self, id: int) -> None:
        """Note that a document's file is not kept any more."""
        with self._database.write() as session:
            session.execute(update(models.Document).where(models.Document.id == id).values(file=None))

    def files(self, collection_id: int | None = None) -> dict[int, str]:
        """Names of the kept files of one collection, or of all, by the document's row."""
        query = select(models.Document.id, models.Document.file).where(models.Document.file.is_not(None))
        if collection_id is not None:
            query = query.where(models.Document.collection_id == collection_id)
        with self._database.read() as session:
            return {id: file for id, file in session.execute(query) if file}

    def totals(self, collection_id: int | None = None) -> tuple[int, int]:
        """Number of documents and of their characters, in one collection or in all."""
        query = select(func.count(), func.coalesce(func.sum(models.Document.n_chars), 0)).select_from(models.Document)
        if collection_id is not None:
            query = query.where(models.Document.collection_id == collection_id)
        with self._database.read() as session:
            n_documents, n_chars = session.execute(query).one()
            return int(n_documents), int(n_chars)

    def receive(
        self, collection_id: int, name: str, file: str, nbytes: int, encoding: str | None = None,
        quota: Quota = DEFAULT_QUOTA, source: str | None = None, ocr: bool = False,
    ) -> int:  # fmt: skip
        """Add an upload that waits to be read: in this encoding if one is named, as the document of this source if that
        is not its name, scanned pages too with `ocr`. Returns its id.

        Raises
        ------
        LimitError
            If too much waits.
        """
        waiting = select(func.coalesce(func.sum(models.Upload.nbytes), 0)).where(models.Upload.state == "waiting")
        with self._database.write() as session:
            in_all = nbytes + (session.scalar(waiting) or 0)
            here = nbytes + (session.scalar(waiting.where(models.Upload.collection_id == collection_id)) or 0)
            if here > quota.waiting_bytes or in_all > quota.waiting_bytes_in_all:
                raise LimitError("too many files wait to be read; try again when some are")
            row = models.Upload(
                collection_id=collection_id, name=name[: models.NAME_CHARS], file=file, nbytes=nbytes,
                state="waiting", reason="", received_s=self._clock(), encoding=encoding, source=source, ocr=ocr,
            )  # fmt: skip
            session.add(row)
            session.flush()
            return row.id

    def fail(self, upload_id: int, reason: str) -> None:
        """Record why an upload could not be read, unless the upload is gone."""
        with self._database.write() as session:
            row = session.get(models.Upload, upload_id)
            if row is not None:
                row.state, row.reason = "failed", reason

    def dismiss(self, upload_id: int) -> None:
        """Remove an upload."""
        with self._database.write() as session:
            session.execute(delete(models.Upload).where(models.Upload.id == upload_id))

    def uploads(self, collection_id: int | None = None) -> list[UploadRecord]:
        """Uploads of one collection, or of all, in the order they arrived."""
        query = select(models.Upload).order_by(models.Upload.id)
        if collection_id is not None:
            query = query.where(models.Upload.collection_id == collection_id)
        with self._database.read() as session:
            return [
                UploadRecord(
                    r.id,
                    r.collection_id,
                    r.name,
                    r.file,
                    r.nbytes,
                    r.state,
                    r.reason,
                    r.encoding,
                    r.source,
                    bool(r.ocr),
                )
                for r in session.scalars(query)
            ]


def read_span(session: Session, id: int, start: int, end: int) -> str:
    """``text[start:end]`` of a document; reads the parts that the span lies in."""
    first, last = start // PART_CHARS, max(end - 1, start) // PART_CHARS
    part = models.DocumentPart
    query = select(part.text).where(part.document_id == id, part.number.between(first, last)).order_by(part.number)
    text = "".join(data.decode("utf-8", "surrogatepass") for data in session.scalars(query))
    return text[start - first * PART_CHARS : end - first * PART_CHARS]


def _write_text(session: Session, id: int, text: str) -> None:
    rows = [
        {"document_id": id, "number": number, "text": text[start : start + PART_CHARS].encode("utf-8", "surrogatepass")}
        for number, start in enumerate(range(0, len(text), PART_CHARS))
    ]
    if rows:
        session.execute(insert(models.DocumentPart), rows)


def _drop_text(session: Session, collection: models.Collection, row: models.Document) -> None:
    """Remove a document's text, and the blocks and edits that are offsets in it; its KV keys stay the document's."""
    known = select(models.Encoding.kv_key).where(models.Encoding.document_id == row.id)
    keys = set(keys_of_document(session, row.id)) - set(session.scalars(known))
    session.add_all(models.Encoding(document_id=row.id, kv_key=key) for key in sorted(keys))
    words.forget(session, row.id)
    for table in (models.Block, models.DocumentPart):
        session.execute(delete(table).where(table.document_id == row.id))
    session.execute(update(models.Edit).where(models.Edit.document_id == row.id).values(state="dropped"))
    collection.index_version += 1


def _row(session: Session, collection_id: int, document_id: str) -> models.Document | None:
    return session.scalar(
        select(models.Document).where(
            models.Document.collection_id == collection_id, models.Document.document_id == document_id
        )
    )


def _check(session: Session, collection_id: int, row: models.Document | None, n_chars: int, quota: Quota) -> None:
    """Raise LimitError if a text of `n_chars`, in place of the one in `row`, is too much."""
    count = select(func.count(), func.coalesce(func.sum(models.Document.n_chars), 0))
    n_documents, total = session.execute(count.where(models.Document.collection_id == collection_id)).one()
    if row is not None:
        n_documents, total = n_documents - 1, total - row.n_chars
    if n_documents >= quota.n_documents:
        raise LimitError(f"this collection has {n_documents} documents, the most allowed; delete some first")
    if total + n_chars > quota.n_chars:
        raise LimitError(
            f"with this document's {n_chars:,} characters the collection would have {total + n_chars:,}; at most "
            f"{quota.n_chars:,} are allowed; delete some first"
        )
    in_all = session.scalar(select(func.coalesce(func.sum(models.Document.n_chars), 0))) or 0
    if in_all - (row.n_chars if row else 0) + n_chars > quota.n_chars_in_all:
        raise LimitError("the server has no room for more documents; try again later")


def _record(row: models.Document) -> DocumentRecord:
    return DocumentRecord(
        row.id, row.document_id, row.source, row.sha256, row.name, row.media_type, row.n_chars, row.added_s,
        row.encoding or "", _notes(row), row.n_pages, row.file,
    )  # fmt: skip


def _describe(row: models.Document, document: Document) -> None:
    """Keep what the reader and the caller say of the file."""
    row.encoding, row.notes, row.n_pages = document.encoding, json.dumps(document.notes), document.n_pages
    row.about = metadata_json(document)


def _notes(row: models.Document) -> tuple[str, ...]:
    return tuple(json.loads(row.notes or "[]"))
