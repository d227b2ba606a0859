"""Documents of collections, and files that are not documents yet. Knows no folder: an upload's file is only a name."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, undefer

from blockrag.documents import Document
from storage import models
from storage.database import Database
from storage.errors import LimitError, NotFoundError
from storage.segmentations import NewSegmentation, new_row
from storage.shared import keys_of_document, tick_collection, unused


@dataclass(frozen=True)
class DocumentRecord:
    """A document without its text."""

    id: int
    sha256: str
    name: str
    media_type: str
    n_chars: int
    added_s: float


@dataclass(frozen=True)
class UploadRecord:
    """A file that was received: waiting to be read, or failed for a reason."""

    id: int
    collection_id: int
    name: str
    file: str
    nbytes: int
    state: str
    reason: str


@dataclass(frozen=True)
class Quota:
    """Most documents and characters of one collection."""

    n_documents: int = 10_000
    n_chars: int = 1 << 30


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
        cut: NewSegmentation,
        quota: Quota = DEFAULT_QUOTA,
        upload_id: int | None = None,
    ) -> int:
        """Keep a document as it is cut, and forget the upload that it came from; returns its id. The same text again
        is the same document, under its first name and cut as it was.

        Raises
        ------
        LimitError
            If the collection would exceed its quota.
        NotFoundError
            If there is no such collection.
        """
        with self._database.write() as session:
            version = tick_collection(session, collection_id)
            if upload_id is not None:
                session.execute(delete(models.Upload).where(models.Upload.id == upload_id))
            known = _by_sha256(session, collection_id, document.sha256)
            if known is not None:
                return known.id
            _check(session, collection_id, len(document.text), quota)
            row = models.Document(
                collection_id=collection_id,
                sha256=document.sha256,
                name=document.name,
                media_type=document.media_type,
                n_chars=len(document.text),
                added_s=self._clock(),
                text=document.text.encode("utf-8", "surrogatepass"),
            )
            session.add(row)
            session.flush()
            session.add(new_row(row.id, cut, version))
            return row.id

    def of(self, collection_id: int, search: str = "") -> list[DocumentRecord]:
        """A collection's documents in the order they came, those whose name contains `search` (as text)."""
        query = select(models.Document).where(models.Document.collection_id == collection_id)
        if search:
            query = query.where(models.Document.name.icontains(search, autoescape=True))
        with self._database.read() as session:
            return [_record(row) for row in session.scalars(query.order_by(models.Document.id))]

    def get(self, collection_id: int, sha256: str) -> DocumentRecord:
        """One document. Raises NotFoundError."""
        with self._database.read() as session:
            row = _by_sha256(session, collection_id, sha256)
            if row is None:
                raise NotFoundError("there is no such document")
            return _record(row)

    def read(self, document_id: int) -> Document:
        """The document with its text. Raises NotFoundError."""
        with self._database.read() as session:
            row = session.get(models.Document, document_id, options=[undefer(models.Document.text)])
            if row is None:
                raise NotFoundError("there is no such document")
            return Document(row.name, row.media_type, row.text.decode("utf-8", "surrogatepass"))

    def delete(self, document_id: int) -> list[str]:
        """Remove a document with its edits, blocks and the sources that point to it; returns the KV keys that nobody's
        blocks use any more."""
        with self._database.write() as session:
            document = session.get(models.Document, document_id)
            if document is None:
                return []
            tick_collection(session, document.collection_id)
            keys = keys_of_document(session, document_id)
            session.execute(delete(models.Document).where(models.Document.id == document_id))
            orphans = unused(session, keys)
        self._database.wipe_deleted()
        return orphans

    def totals(self, collection_id: int | None = None) -> tuple[int, int]:
        """Number of documents and of their characters, of one collection or of all."""
        query = select(func.count(), func.coalesce(func.sum(models.Document.n_chars), 0)).select_from(models.Document)
        if collection_id is not None:
            query = query.where(models.Document.collection_id == collection_id)
        with self._database.read() as session:
            n_documents, n_chars = session.execute(query).one()
            return int(n_documents), int(n_chars)

    def receive(self, collection_id: int, name: str, file: str, nbytes: int) -> int:
        """Note a file that has been received; returns the upload's id."""
        with self._database.write() as session:
            row = models.Upload(
                collection_id=collection_id, name=name[: models.NAME_CHARS], file=file, nbytes=nbytes,
                state="waiting", reason="", received_s=self._clock(),
            )  # fmt: skip
            session.add(row)
            session.flush()
            return row.id

    def fail(self, upload_id: int, reason: str) -> None:
        """Note why a file is no document; nothing happens where the upload is gone."""
        with self._database.write() as session:
            row = session.get(models.Upload, upload_id)
            if row is not None:
                row.state, row.reason = "failed", reason

    def dismiss(self, upload_id: int) -> None:
        """Forget an upload."""
        with self._database.write() as session:
            session.execute(delete(models.Upload).where(models.Upload.id == upload_id))

    def uploads(self, collection_id: int | None = None) -> list[UploadRecord]:
        """Uploads of one collection, or of all, in the order they came."""
        query = select(models.Upload).order_by(models.Upload.id)
        if collection_id is not None:
            query = query.where(models.Upload.collection_id == collection_id)
        with self._database.read() as session:
            return [
                UploadRecord(r.id, r.collection_id, r.name, r.file, r.nbytes, r.state, r.reason)
                for r in session.scalars(query)
            ]


def _by_sha256(session: Session, collection_id: int, sha256: str) -> models.Document | None:
    return session.scalar(
        select(models.Document).where(models.Document.collection_id == collection_id, models.Document.sha256 == sha256)
    )


def _check(session: Session, collection_id: int, n_chars: int, quota: Quota) -> None:
    count = select(func.count(), func.coalesce(func.sum(models.Document.n_chars), 0))
    n_documents, total = session.execute(count.where(models.Document.collection_id == collection_id)).one()
    if n_documents >= quota.n_documents:
        raise LimitError(f"this collection has {n_documents} documents, which is the most; delete some first")
    if total + n_chars > quota.n_chars:
        raise LimitError(
            f"with this document's {n_chars:,} characters the collection would have {total + n_chars:,}; at most "
            f"{quota.n_chars:,} are kept: delete some first"
        )


def _record(row: models.Document) -> DocumentRecord:
    return DocumentRecord(row.id, row.sha256, row.name, row.media_type, row.n_chars, row.added_s)
