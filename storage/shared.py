"""What several repositories do inside a transaction. Opens none."""

from collections.abc import Iterable

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from storage import models
from storage.errors import NotFoundError

PART = 500
"""Values in one statement."""


def bump_version(session: Session, document_id: int) -> int:
    """Advance the clock of a document's collection; its row stays locked, so that writers take turns.

    Raises
    ------
    NotFoundError
        If the document is gone.
    """
    document = session.get(models.Document, document_id)
    if document is None:
        raise NotFoundError("there is no such document")
    return tick_collection(session, document.collection_id)


def tick_collection(session: Session, collection_id: int) -> int:
    """The same for the collection itself."""
    collection = session.get(models.Collection, collection_id, with_for_update=True, populate_existing=True)
    if collection is None:
        raise NotFoundError("there is no such collection")
    collection.clock += 1
    session.flush()
    return collection.clock


def unused(session: Session, keys: Iterable[str]) -> list[str]:
    """Those of `keys` that no block uses and none is being made for; where they lay is forgotten."""
    wanted = list(dict.fromkeys(keys))
    orphans: list[str] = []
    for i in range(0, len(wanted), PART):
        part = wanted[i : i + PART]
        used = set(session.scalars(select(models.Block.kv_key).distinct().where(models.Block.kv_key.in_(part))))
        used |= set(session.scalars(select(models.Encoding.kv_key).distinct().where(models.Encoding.kv_key.in_(part))))
        free = [key for key in part if key not in used]
        session.execute(delete(models.KVPlace).where(models.KVPlace.kv_key.in_(free)))
        orphans += free
    return orphans


def keys_of_document(session: Session, document_id: int) -> list[str]:
    """KV keys of a document's blocks, made or being made."""
    blocks = select(models.Block.kv_key).distinct().where(models.Block.document_id == document_id)
    encodings = select(models.Encoding.kv_key).where(models.Encoding.document_id == document_id)
    return [*session.scalars(blocks), *session.scalars(encodings)]
