"""An index in rows of the database: the blocks of one collection that one pair of models made."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
from sqlalchemy import Row, Select, func, select

from blockrag.documents import Document
from blockrag.documents.tables import SAMPLE_CHARS, TABLES, header_of
from blockrag.errors import UnknownDocumentError
from blockrag.index import BlockRef, Change, DocumentRecord, Hit, Index, IndexedBlock
from blockrag.index.base import check_tiling
from storage import models, words
from storage.blocks import indexed_block
from storage.documents import read_span
from storage.errors import NotFoundError
from storage.shared import parts
from storage.store import Store

BATCH = 8192
"""Vectors read at a time."""

_VECTORS = (models.Vector.__table__.c.id, models.Vector.__table__.c.vector)
"""Columns, not attributes of objects: a hundred thousand are read when an index is opened."""


class RowIndex(Index):
    """One collection's index.

    Parameters
    ----------
    store : Store
    collection_id : int
    made_by : str
        Names the models; blocks of others are not seen.
    dimension : int
        Length of a vector.
    """

    def __init__(self, store: Store, collection_id: int, made_by: str, dimension: int):
        super().__init__(dimension)
        self._store, self._collection_id, self._made_by = store, collection_id, made_by

    def put_blocks(
        self, document_id: int, document: Document, blocks: Sequence[IndexedBlock], vectors: np.ndarray
    ) -> list[str]:
        """Make these the blocks of a document that the collection has; returns the KV keys that nothing uses any more.

        Raises
        ------
        NotFoundError
            If the document is gone.
        ConflictError
            If it has another text by now.
        """
        check_tiling(len(document.text), blocks, vectors)
        change = self._store.blocks.put(document_id, document, self._made_by, blocks, vectors)
        return self._follow(change, blocks, vectors)

    def known_vectors(self, kv_keys: Iterable[str]) -> dict[str, np.ndarray]:
        """See `Index`; vectors of other collections serve as well."""
        return self._store.blocks.vectors(self._made_by, kv_keys)

    def documents(self) -> list[DocumentRecord]:
        """See `Index`."""
        counted = (
            select(models.Block.document_id, func.count().label("n"), func.sum(models.Block.n_tokens).label("n_tokens"))
            .join(models.Vector, models.Vector.id == models.Block.vector_id)
            .where(models.Vector.collection_id == self._collection_id, models.Vector.made_by == self._made_by)
            .group_by(models.Block.document_id)
            .subquery()
        )
        query = (
            select(models.Document, func.coalesce(counted.c.n, 0), func.coalesce(counted.c.n_tokens, 0))
            .outerjoin(counted, counted.c.document_id == models.Document.id)
            .where(models.Document.collection_id == self._collection_id)
            .order_by(models.Document.id)
        )
        with self._store.database.read() as session:
            return [
                DocumentRecord(
                    row.document_id,
                    row.source,
                    row.name,
                    row.sha256,
                    n,
                    n_tokens,
                    row.encoding or "",
                    row.n_pages,
                    tuple(json.loads(row.notes or "[]")),
                    json.loads(row.about or "{}"),
                )  # fmt: skip
                for row, n, n_tokens in session.execute(query)
            ]

    def read(self, document_id: str) -> Document:
        """See `Index`."""
        return self._store.documents.read(self._number(document_id))

    def _number(self, document_id: str) -> int:
        try:
            return self._store.documents.get(self._collection_id, document_id).id
        except NotFoundError as error:
            raise UnknownDocumentError(document_id) from error

    def __len__(self) -> int:
        query = (
            select(func.count())
            .select_from(models.Block)
            .join(models.Vector, models.Vector.id == models.Block.vector_id)
            .where(models.Vector.collection_id == self._collection_id, models.Vector.made_by == self._made_by)
        )
        with self._store.database.read() as session:
            return session.scalar(query) or 0

    def close(self) -> None:
        """See `Index`; the database stays open."""

    def _write(self, document: Document, blocks: Sequence[IndexedBlock], vectors: np.ndarray) -> Change:
        document_id = self._store.documents.add(self._collection_id, document)
        return self._store.blocks.put(document_id, document, self._made_by, blocks, vectors)

    def _remove(self, document_id: str) -> Change:
        return Change(None, self._store.documents.delete(self._number(document_id)))

    def _current_version(self) -> int:
        query = select(models.Collection.index_version).where(models.Collection.id == self._collection_id)
        with self._store.database.read() as session:
            version = session.scalar(query)
        if version is None:
            raise NotFoundError("there is no such collection")
        return version

    def _vector_ids(self) -> tuple[int, set[int]]:
        version = select(models.Collection.index_version).where(models.Collection.id == self._collection_id)
        in_blocks = select(models.Block.id).where(models.Block.vector_id == models.Vector.id).exists()
        with self._store.database.read() as session:
            return session.scalar(version) or 0, set(session.scalars(self._mine(select(models.Vector.id), in_blocks)))

    def _mine(self, query: Select, *conditions: object) -> Select:
        return query.where(
            models.Vector.collection_id == self._collection_id,
            models.Vector.made_by == self._made_by,
            *conditions,  # type: ignore[arg-type]
        )

    def _load_vectors(self, first_id: int) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        query = self._mine(select(*_VECTORS), models.Vector.id >= first_id)
        with self._store.database.read() as session:
            found = session.connection().execution_options(yield_per=BATCH).execute(query)
            for rows in found.partitions():
                ids, blobs = zip(*rows, strict=True)
                yield ids, np.frombuffer(b"".join(blobs), "<f4").reshape(len(ids), self._dimension)

    def around(self, block: BlockRef, n: int) -> list[BlockRef]:
        """See `Index`."""
        starts = self._mine(select(models.Block.start).join(models.Vector).join(models.Document)).where(
            models.Document.document_id == block.document_id
        )
        with self._store.database.read() as session:
            if session.scalar(starts.where(models.Block.start == block.start)) is None:
                return []
            before = starts.where(models.Block.start < block.start).order_by(models.Block.start.desc()).limit(n)
            after = starts.where(models.Block.start > block.start).order_by(models.Block.start).limit(n)
            found = [*reversed(session.scalars(before).all()), block.start, *session.scalars(after)]
        return [BlockRef(block.document_id, start) for start in found]

    def _vectors_in(self, documents: Collection[str]) -> set[int]:
        used = self._mine(select(models.Block.vector_id).join(models.Vector).join(models.Document))
        with self._store.database.read() as session:
            found = [used.where(models.Document.document_id.in_(part)) for part in parts(list(documents))]
            return {id for query in found for id in session.scalars(query)}

    def _matching(self, question: str, k: int, among: Collection[int] | None) -> list[int]:
        with self._store.database.read() as session:
            return words.matching(session, self._collection_id, self._made_by, question, k, len(self._faiss), among)

    def _hits(self, vector_ids: Sequence[int], documents: Collection[str] | None = None) -> dict[int, Hit]:
        of_these = select(func.min(models.Block.id)).where(models.Block.vector_id.in_(vector_ids))
        if documents is not None:
            of_these = of_these.join(models.Document).where(models.Document.document_id.in_(documents))
        query = _hit_rows().where(models.Block.id.in_(of_these.group_by(models.Block.vector_id)))
        with self._store.database.read() as session:
            return {row.Block.vector_id: _hit(session, row) for row in session.execute(query).all()}

    def _block_at(self, block: BlockRef) -> tuple[Hit, np.ndarray] | None:
        query = self._mine(_hit_rows(models.Vector.vector)).where(
            models.Document.document_id == block.document_id, models.Block.start == block.start
        )
        with self._store.database.read() as session:
            row = session.execute(query).first()
            return (_hit(session, row), np.frombuffer(row.vector, "<f4")) if row else None


def _hit_rows(*more: object) -> Select:
    document = (models.Document.document_id, models.Document.source, models.Document.name, models.Document.media_type)
    return (
        select(models.Block, models.Vector.kv_key, *document, *more)
        .join(models.Vector, models.Vector.id == models.Block.vector_id)
        .join(models.Document, models.Document.id == models.Block.document_id)
    )


def _hit(session, row: Row) -> Hit:  # type: ignore[no-untyped-def]
    block = indexed_block(row.Block, row.kv_key)
    text = read_span(session, row.Block.document_id, block.start, block.end)
    header = ""
    if block.start and row.media_type in TABLES:
        header = header_of(row.media_type, read_span(session, row.Block.document_id, 0, SAMPLE_CHARS))
    return Hit(row.document_id, row.source, row.name, block, header + text)
