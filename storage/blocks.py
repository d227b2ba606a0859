"""Indexed blocks with their vectors, and where their KV is. The search index is made from this, not the reverse."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, undefer

from blockrag.segment import Block
from storage import models
from storage.database import Database
from storage.shared import PART, bump_version, keys_of_document, unused

T = TypeVar("T")


@dataclass(frozen=True)
class BlockRecord:
    """An indexed block; `id` is that of its vector."""

    id: int
    block: Block
    kv_key: str
    made_by: str


@dataclass(frozen=True)
class Replaced:
    """What `Blocks.put` did: ids of all the document's blocks now, how many of them stayed, and KV keys nobody uses any
    more."""

    ids: list[int]
    n_kept: int
    orphans: list[str]


class Blocks:
    """The indexed blocks of a database."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time):
        self._database = database
        self._clock = clock

    def put(
        self, document_id: int, made_by: str, blocks: Sequence[Block], vectors: np.ndarray, kv_keys: Sequence[str]
    ) -> Replaced:
        """Make these a document's blocks. Those that were there already keep their ids, and so their vectors.

        Parameters
        ----------
        document_id : int
        made_by : str
            Names the models.
        blocks : sequence of Block
        vectors : np.ndarray
            float32 ``(len(blocks), dimension)``.
        kv_keys : sequence of str

        Raises
        ------
        NotFoundError
            If there is no such document (any more).
        """
        with self._database.write() as session:
            bump_version(session, document_id)
            old = session.scalars(select(models.Block).where(models.Block.document_id == document_id)).all()
            known = {(row.start, row.end, row.kv_key, row.made_by): row for row in old}
            rows = []
            for block, vector, key in zip(blocks, vectors, kv_keys, strict=True):
                row = known.pop((block.start, block.end, key, made_by), None)
                row = row or _new_row(document_id, made_by, block, vector, key)
                row.n_tokens, row.score = block.n_tokens, block.score
                rows.append(row)
            session.add_all(rows)
            for part in _parts([row.id for row in known.values()]):
                session.execute(delete(models.Block).where(models.Block.id.in_(part)))
            begun = _end_encoding(session, document_id)
            session.flush()
            orphans = unused(session, [*(row.kv_key for row in known.values()), *begun])
            return Replaced([row.id for row in rows], len(old) - len(known), orphans)

    def begin_encoding(self, document_id: int, kv_keys: Iterable[str]) -> None:
        """Note keys whose KV is about to be made for a document, before its blocks are entered: so that, whatever
        happens, they are known to be its. Raises NotFoundError where it is gone."""
        with self._database.write() as session:
            bump_version(session, document_id)
            wanted = set(kv_keys) - set(
                session.scalars(select(models.Encoding.kv_key).where(models.Encoding.document_id == document_id))
            )
            session.add_all(models.Encoding(document_id=document_id, kv_key=key) for key in sorted(wanted))

    def remove(self, document_id: int) -> list[str]:
        """Take a document out of the index, so that it is to be indexed anew; returns the KV keys nobody uses any
        more. Raises NotFoundError."""
        with self._database.write() as session:
            bump_version(session, document_id)
            keys = keys_of_document(session, document_id)
            session.execute(delete(models.Block).where(models.Block.document_id == document_id))
            _end_encoding(session, document_id)
            return unused(session, keys)

    def of(self, document_id: int) -> list[BlockRecord]:
        """A document's blocks, in its order."""
        query = select(models.Block).where(models.Block.document_id == document_id).order_by(models.Block.start)
        with self._database.read() as session:
            return [_record(row) for row in session.scalars(query)]

    def ids(self, collection_id: int, made_by: str) -> dict[int, list[int]]:
        """Ids of a collection's blocks that these models made, by document, in the document's order."""
        query = (
            select(models.Block.document_id, models.Block.id)
            .join(models.Document, models.Document.id == models.Block.document_id)
            .where(models.Document.collection_id == collection_id, models.Block.made_by == made_by)
            .order_by(models.Block.document_id, models.Block.start)
        )
        found: dict[int, list[int]] = {}
        with self._database.read() as session:
            for document_id, block_id in session.execute(query):
                found.setdefault(document_id, []).append(block_id)
        return found

    def starts(self, collection_id: int, made_by: str) -> dict[int, tuple[int, ...]]:
        """Where the indexed blocks of each document of a collection begin, by the document's id."""
        query = (
            select(models.Block.document_id, models.Block.start)
            .join(models.Document, models.Document.id == models.Block.document_id)
            .where(models.Document.collection_id == collection_id, models.Block.made_by == made_by)
            .order_by(models.Block.document_id, models.Block.start)
        )
        found: dict[int, list[int]] = {}
        with self._database.read() as session:
            for document_id, start in session.execute(query):
                found.setdefault(document_id, []).append(start)
        return {document_id: tuple(starts) for document_id, starts in found.items()}

    def vectors(self, document_id: int, made_by: str) -> tuple[list[BlockRecord], np.ndarray]:
        """A document's blocks with their vectors, float32 ``(blocks, dimension)``."""
        query = (
            select(models.Block)
            .where(models.Block.document_id == document_id, models.Block.made_by == made_by)
            .order_by(models.Block.start)
            .options(undefer(models.Block.vector))
        )
        with self._database.read() as session:
            rows = session.scalars(query).all()
            vectors = [np.frombuffer(row.vector, "<f4") for row in rows]
            return [_record(row) for row in rows], np.stack(vectors) if vectors else np.empty((0, 0), np.float32)

    def keys(self) -> set[str]:
        """KV keys of all blocks of the database, and of those that were being made."""
        with self._database.read() as session:
            blocks = session.scalars(select(models.Block.kv_key).distinct()).all()
            return {*blocks, *session.scalars(select(models.Encoding.kv_key).distinct())}

    def keys_of(self, collection_id: int) -> list[str]:
        """KV keys of a collection's blocks, each once."""
        query = (
            select(models.Block.kv_key)
            .join(models.Document, models.Document.id == models.Block.document_id)
            .where(models.Document.collection_id == collection_id)
            .order_by(models.Block.id)
        )
        with self._database.read() as session:
            return list(dict.fromkeys(session.scalars(query)))

    def n_tokens(self, collection_id: int) -> int:
        """Tokens of a collection's indexed blocks."""
        query = (
            select(func.coalesce(func.sum(models.Block.n_tokens), 0))
            .join(models.Document, models.Document.id == models.Block.document_id)
            .where(models.Document.collection_id == collection_id)
        )
        with self._database.read() as session:
            return int(session.scalar(query) or 0)

    def note_places(self, places: Mapping[str, Iterable[str]]) -> None:
        """Note in which tiers the KV of each of these keys is now."""
        now = self._clock()
        with self._database.write() as session:
            keys = list(places)
            for part in _parts(keys):
                session.execute(delete(models.KVPlace).where(models.KVPlace.kv_key.in_(part)))
            session.add_all(
                models.KVPlace(kv_key=key, tier=tier, seen_s=now) for key in keys for tier in dict.fromkeys(places[key])
            )

    def places(self, document_id: int) -> dict[str, tuple[str, ...]]:
        """Tiers of the KV of each of a document's keys, as they were noted; an empty tuple where there are none."""
        query = (
            select(models.Block.kv_key, models.KVPlace.tier)
            .outerjoin(models.KVPlace, models.KVPlace.kv_key == models.Block.kv_key)
            .where(models.Block.document_id == document_id)
            .order_by(models.KVPlace.tier)
            .distinct()
        )
        found: dict[str, tuple[str, ...]] = {}
        with self._database.read() as session:
            for key, tier in session.execute(query):
                found[key] = found.get(key, ()) + ((tier,) if tier else ())
        return found

    def noted(self) -> dict[str, tuple[str, ...]]:
        """All that is noted of where KV is."""
        found: dict[str, tuple[str, ...]] = {}
        with self._database.read() as session:
            for row in session.scalars(select(models.KVPlace).order_by(models.KVPlace.kv_key, models.KVPlace.tier)):
                found[row.kv_key] = (*found.get(row.kv_key, ()), row.tier)
        return found

    def forget_places(self, keys: Iterable[str]) -> None:
        """Of keys that no block uses."""
        with self._database.write() as session:
            for part in _parts(list(keys)):
                session.execute(delete(models.KVPlace).where(models.KVPlace.kv_key.in_(part)))


def _record(row: models.Block) -> BlockRecord:
    return BlockRecord(row.id, Block(row.start, row.end, row.n_tokens, row.score), row.kv_key, row.made_by)


def _new_row(document_id: int, made_by: str, block: Block, vector: np.ndarray, kv_key: str) -> models.Block:
    return models.Block(
        document_id=document_id,
        start=block.start,
        end=block.end,
        kv_key=kv_key,
        made_by=made_by,
        vector=vector.astype("<f4").tobytes(),
    )


def _end_encoding(session: Session, document_id: int) -> list[str]:
    begun = session.scalars(select(models.Encoding.kv_key).where(models.Encoding.document_id == document_id)).all()
    session.execute(delete(models.Encoding).where(models.Encoding.document_id == document_id))
    return list(begun)


def _parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for i in range(0, len(values), PART):
        yield values[i : i + PART]
