"""Indexed blocks and their vectors."""

from collections.abc import Iterable, Sequence

import numpy as np
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from blockrag.documents import Document
from blockrag.index import Change, IndexedBlock
from storage import models, words
from storage.database import Database
from storage.errors import ConflictError
from storage.shared import document_row, keys_in_use, keys_of_document, lock_collection, parts, release


class Blocks:
    """The indexed blocks of a database."""

    def __init__(self, database: Database):
        self._database = database

    def put(
        self, document_id: int, document: Document, made_by: str, blocks: Sequence[IndexedBlock], vectors: np.ndarray
    ) -> Change:
        """Make these a document's blocks, in place of those that it had.

        Parameters
        ----------
        document_id : int
        document : Document
            What they are blocks of.
        made_by : str
            Names the models.
        blocks : sequence of IndexedBlock
        vectors : np.ndarray
            float32 ``(len(blocks), dimension)``.

        Raises
        ------
        NotFoundError
            If there is no such document (any more).
        ConflictError
            If it has another text by now.
        """
        with self._database.write() as session:
            row = document_row(session, document_id)
            if row.sha256 != document.sha256:
                raise ConflictError("the document was replaced while it was indexed; index it again")
            old_keys, old = keys_of_document(session, document_id), _vectors_of(session, document_id)
            session.execute(delete(models.Block).where(models.Block.document_id == document_id))
            ids = _enter_vectors(session, row.collection_id, made_by, blocks, vectors)
            texts = {ids[block.kv_key]: document.block_text(block.start, block.end) for block in blocks}
            words.enter(session, row.collection_id, made_by, texts)
            elsewhere = _used(session, [*old, *ids.values()])
            rows = [_row(document_id, block, ids[block.kv_key]) for block in blocks]
            session.execute(insert(models.Block), rows)
            session.execute(delete(models.Encoding).where(models.Encoding.document_id == document_id))
            orphans = release(session, row.collection_id, old_keys)
            collection = lock_collection(session, row.collection_id)
            collection.index_version += 1
            return Change(
                collection.index_version,
                orphans,
                gone=[id for id in old if id not in ids.values() and id not in elsewhere],
                added={key: id for key, id in ids.items() if id not in old and id not in elsewhere},
            )

    def begin_encoding(self, document_id: int, kv_keys: Iterable[str]) -> None:
        """Record the keys of KV that is about to be encoded for a document, so that a crash before its blocks are
        stored leaves no KV without an owner. Raises NotFoundError."""
        with self._database.write() as session:
            document_row(session, document_id)
            known = select(models.Encoding.kv_key).where(models.Encoding.document_id == document_id)
            wanted = set(kv_keys) - set(session.scalars(known))
            session.add_all(models.Encoding(document_id=document_id, kv_key=key) for key in sorted(wanted))

    def remove(self, document_id: int) -> list[str]:
        """Take a document out of the index; returns the KV keys that nothing uses any more. Raises NotFoundError."""
        with self._database.write() as session:
            document = document_row(session, document_id)
            keys = keys_of_document(session, document_id)
            session.execute(delete(models.Block).where(models.Block.document_id == document_id))
            session.execute(delete(models.Encoding).where(models.Encoding.document_id == document_id))
            lock_collection(session, document.collection_id).index_version += 1
            return release(session, document.collection_id, keys)

    def of(self, document_id: int, made_by: str | None = None) -> list[IndexedBlock]:
        """A document's blocks that these models made (or any), in its order."""
        query = (
            select(models.Block, models.Vector.kv_key)
            .join(models.Vector, models.Vector.id == models.Block.vector_id)
            .where(models.Block.document_id == document_id)
            .order_by(models.Block.start)
        )
        if made_by is not None:
            query = query.where(models.Vector.made_by == made_by)
        with self._database.read() as session:
            return [indexed_block(row, kv_key) for row, kv_key in session.execute(query)]

    def starts(self, collection_id: int, made_by: str) -> dict[int, tuple[int, ...]]:
        """Where the indexed blocks of each document of a collection begin, by the document's id."""
        query = (
            select(models.Block.document_id, models.Block.start)
            .join(models.Vector, models.Vector.id == models.Block.vector_id)
            .where(models.Vector.collection_id == collection_id, models.Vector.made_by == made_by)
            .order_by(models.Block.document_id, models.Block.start)
        )
        found: dict[int, list[int]] = {}
        with self._database.read() as session:
            for document_id, start in session.execute(query):
                found.setdefault(document_id, []).append(start)
        return {document_id: tuple(starts) for document_id, starts in found.items()}

    def vectors(self, made_by: str, kv_keys: Iterable[str]) -> dict[str, np.ndarray]:
        """Vectors, float32 ``(dimension,)``, of those of these keys that have one in any collection."""
        found: dict[str, np.ndarray] = {}
        with self._database.read() as session:
            for part in parts(list(kv_keys)):
                query = select(models.Vector.kv_key, models.Vector.vector).where(
                    models.Vector.made_by == made_by, models.Vector.kv_key.in_(part)
                )
                found.update((key, np.frombuffer(blob, "<f4")) for key, blob in session.execute(query))
        return found

    def keys(self, collection_id: int | None = None) -> set[str]:
        """KV keys that blocks or encodings of a collection, or of the whole database, use."""
        with self._database.read() as session:
            return keys_in_use(session, collection_id)


def indexed_block(row: models.Block, kv_key: str) -> IndexedBlock:
    """The block of a row."""
    return IndexedBlock(row.start, row.end, row.n_tokens, row.score, kv_key, row.page, row.is_estimate)


def _row(document_id: int, block: IndexedBlock, vector_id: int) -> dict[str, object]:
    return {
        "document_id": document_id,
        "vector_id": vector_id,
        "start": block.start,
        "end": block.end,
        "n_tokens": block.n_tokens,
        "is_estimate": block.is_estimate,
        "score": block.score,
        "page": block.page,
    }


def _vectors_of(session: Session, document_id: int) -> set[int]:
    return set(session.scalars(select(models.Block.vector_id).where(models.Block.document_id == document_id)))


def _used(session: Session, vector_ids: Sequence[int]) -> set[int]:
    """Those of these vectors that a block uses."""
    used: set[int] = set()
    for part in parts(vector_ids):
        used.update(session.scalars(select(models.Block.vector_id).where(models.Block.vector_id.in_(part)).distinct()))
    return used


def _enter_vectors(
    session: Session, collection_id: int, made_by: str, blocks: Sequence[IndexedBlock], vectors: np.ndarray
) -> dict[str, int]:
    """Ids of the blocks' vectors by KV key; those that are not there are entered."""
    wanted = {block.kv_key: vector for block, vector in zip(blocks, vectors, strict=True)}
    ids = {}
    for part in parts(list(wanted)):
        query = select(models.Vector.kv_key, models.Vector.id).where(
            models.Vector.collection_id == collection_id,
            models.Vector.made_by == made_by,
            models.Vector.kv_key.in_(part),
        )
        ids.update({key: id for key, id in session.execute(query)})
    rows = [
        models.Vector(collection_id=collection_id, made_by=made_by, kv_key=key, vector=vector.astype("<f4").tobytes())
        for key, vector in wanted.items()
        if key not in ids
    ]
    session.add_all(rows)
    session.flush()
    return ids | {row.kv_key: row.id for row in rows}
