"""Steps of transactions that several repositories take."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from storage import models
from storage.errors import NotFoundError

PART = 500
"""Values in one statement."""

T = TypeVar("T")


def parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """`values`, `PART` at a time."""
    for i in range(0, len(values), PART):
        yield values[i : i + PART]


def lock_collection(session: Session, collection_id: int) -> models.Collection:
    """A collection's row, locked until the transaction ends, so that writers take turns. Raises NotFoundError."""
    collection = session.get(models.Collection, collection_id, with_for_update=True, populate_existing=True)
    if collection is None:
        raise NotFoundError("there is no such collection")
    return collection


def document_row(session: Session, document_id: int) -> models.Document:
    """A document's row, read after its collection is locked. Raises NotFoundError."""
    row = session.get(models.Document, document_id)
    if row is None:
        raise NotFoundError("there is no such document")
    lock_collection(session, row.collection_id)
    session.refresh(row)
    return row


def bump_version(session: Session, document_id: int) -> int:
    """Advance the clock of a document's collection; returns it. Raises NotFoundError."""
    collection = lock_collection(session, document_row(session, document_id).collection_id)
    collection.clock += 1
    session.flush()
    return collection.clock


def keys_of_document(session: Session, document_id: int) -> list[str]:
    """KV keys that belong to a document, with a block or without one."""
    blocks = (
        select(models.Vector.kv_key)
        .join(models.Block, models.Block.vector_id == models.Vector.id)
        .where(models.Block.document_id == document_id)
        .distinct()
    )
    encodings = select(models.Encoding.kv_key).where(models.Encoding.document_id == document_id)
    return [*session.scalars(blocks), *session.scalars(encodings)]


def keys_in_use(session: Session, collection_id: int | None = None) -> set[str]:
    """KV keys that belong to a collection's documents, or to all, with a block or without one."""
    vectors, encodings = select(models.Vector.kv_key), select(models.Encoding.kv_key)
    if collection_id is not None:
        vectors = vectors.where(models.Vector.collection_id == collection_id)
        encodings = encodings.join(models.Document, models.Document.id == models.Encoding.document_id).where(
            models.Document.collection_id == collection_id
        )
    return {*session.scalars(vectors), *session.scalars(encodings)}


def release(session: Session, collection_id: int, kv_keys: Iterable[str]) -> list[str]:
    """Delete a collection's vectors of these keys that nothing uses; returns the keys that nothing in the database uses
    any more, whose KV can be deleted."""
    orphans: list[str] = []
    in_blocks = exists().where(models.Block.vector_id == models.Vector.id)
    for part in parts(list(dict.fromkeys(kv_keys))):
        encoded = set(session.scalars(select(models.Encoding.kv_key).where(models.Encoding.kv_key.in_(part))))
        free = [key for key in part if key not in encoded]
        session.execute(
            delete(models.Vector).where(
                models.Vector.collection_id == collection_id, models.Vector.kv_key.in_(free), ~in_blocks
            )
        )
        used = set(session.scalars(select(models.Vector.kv_key).where(models.Vector.kv_key.in_(free))))
        orphans += [key for key in free if key not in used]
    return orphans
