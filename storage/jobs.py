"""Work that the program does by itself: uploads to read, and documents to index. It outlasts pages and restarts.

An upload waits in `storage.documents`; a document that is to be indexed has a request here. Nothing is done for a
collection that is paused. What is being done at the moment is known to the program alone: after a kill it waits again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, select, update

from storage import models
from storage.database import Database


@dataclass(frozen=True)
class IndexRequest:
    """A document to index, by its row, from `due_s` on; with a `reason`, the attempt that failed."""

    document_id: int
    due_s: float
    reason: str = ""


class Jobs:
    """The work of a database."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time):
        self._database = database
        self._clock = clock

    def request(self, document_id: int, delay_s: float = 0.0) -> None:
        """Ask for a document to be indexed, after `delay_s`; a document that is gone is ignored."""
        with self._database.write() as session:
            if session.get(models.Document, document_id) is not None:
                due_s = self._clock() + delay_s
                session.merge(models.IndexRequest(document_id=document_id, due_s=due_s, reason=""))

    def requests(self, collection_id: int) -> dict[int, IndexRequest]:
        """The requests of a collection, waiting or failed, by the document's row."""
        query = select(models.IndexRequest).join(models.Document).where(models.Document.collection_id == collection_id)
        with self._database.read() as session:
            return {r.document_id: IndexRequest(r.document_id, r.due_s, r.reason) for r in session.scalars(query)}

    def next_request(self, collection_id: int) -> IndexRequest | None:
        """The request of a collection that has been due longest."""
        now = self._clock()
        due = [r for r in self.requests(collection_id).values() if not r.reason and r.due_s <= now]
        return min(due, key=lambda request: (request.due_s, request.document_id), default=None)

    def done(self, request: IndexRequest) -> None:
        """Forget a request, unless the document was requested again meanwhile."""
        row = models.IndexRequest
        with self._database.write() as session:
            session.execute(delete(row).where(row.document_id == request.document_id, row.due_s == request.due_s))

    def fail(self, request: IndexRequest, reason: str) -> None:
        """Record why a document could not be indexed, unless it was requested again meanwhile."""
        row = models.IndexRequest
        with self._database.write() as session:
            same = update(row).where(row.document_id == request.document_id, row.due_s == request.due_s)
            session.execute(same.values(reason=reason))

    def collections(self) -> list[str]:
        """Tokens of the collections that have work to do now and are not paused."""
        uploads = select(models.Upload.collection_id).where(models.Upload.state == "waiting")
        due = (
            select(models.Document.collection_id)
            .join(models.IndexRequest)
            .where(models.IndexRequest.reason == "", models.IndexRequest.due_s <= self._clock())
        )
        open_ = (
            select(models.Collection.token).where(models.Collection.paused.is_(False)).order_by(models.Collection.id)
        )
        with self._database.read() as session:
            return list(session.scalars(open_.where(models.Collection.id.in_(uploads.union(due)))))

    def pause(self, collection_id: int, paused: bool = True) -> None:
        """Hold the work of a collection, or let it go on."""
        with self._database.write() as session:
            rows = update(models.Collection).where(models.Collection.id == collection_id)
            session.execute(rows.values(paused=paused))

    def is_paused(self, collection_id: int) -> bool:
        """Whether the work of a collection is held."""
        with self._database.read() as session:
            return bool(session.scalar(select(models.Collection.paused).where(models.Collection.id == collection_id)))
