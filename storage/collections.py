"""Collections, their owners, and when they were last used."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from storage import models
from storage.database import Database
from storage.errors import ConflictError, LimitError, NotFoundError
from storage.models import NAME_CHARS
from storage.shared import keys_in_use, release

IMPORTING = "importing"
"""Owner of collections while they are imported. The doctor removes those that a killed process left."""

MAX_COLLECTIONS = 1_000
"""Of one owner, by default."""


@dataclass(frozen=True)
class CollectionRecord:
    """A collection."""

    id: int
    token: str
    owner: str
    name: str
    created_s: float
    used_s: float
    clock: int
    n_documents: int = 0


class Collections:
    """The collections of a database.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns the seconds since 1970.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time):
        self._database = database
        self._clock = clock

    def create(self, owner: str, name: str, most: int = MAX_COLLECTIONS) -> CollectionRecord:
        """Create an empty collection.

        Raises
        ------
        ConflictError
            If the name is empty or too long, or the owner has a collection of this name.
        LimitError
            If the owner has `most` already.
        """
        name, now = _checked(name), self._clock()
        with self._database.write() as session:
            _admit(session, owner, name, most)
            row = models.Collection(
                token=secrets.token_hex(24), owner=owner, name=name, created_s=now, used_s=now, clock=0
            )
            session.add(row)
            session.flush()
            return _record(row)

    def get(self, owner: str | None, token: str) -> CollectionRecord:
        """The collection with this token, if `owner` owns it (None: whoever owns it). Marks it as used.

        Raises
        ------
        NotFoundError
        """
        now = self._clock()
        with self._database.read() as session:
            row = session.scalar(select(models.Collection).where(models.Collection.token == token))
            if row is None or (owner is not None and row.owner != owner):
                raise NotFoundError("there is no such collection")
            record = _record(row, _n_documents(session, row.id))
        if now - record.used_s > 60:
            with self._database.write() as session:
                session.execute(update(models.Collection).where(models.Collection.id == record.id).values(used_s=now))
        return record

    def of(self, owner: str) -> list[CollectionRecord]:
        """An owner's collections, by name."""
        counted = select(models.Document.collection_id, func.count().label("n")).group_by(models.Document.collection_id)
        counts = counted.subquery()
        query = (
            select(models.Collection, func.coalesce(counts.c.n, 0))
            .outerjoin(counts, counts.c.collection_id == models.Collection.id)
            .where(models.Collection.owner == owner)
            .order_by(func.lower(models.Collection.name), models.Collection.id)
        )
        with self._database.read() as session:
            return [_record(row, n) for row, n in session.execute(query)]

    def all(self) -> list[CollectionRecord]:
        """The collections of all owners, in order of id."""
        with self._database.read() as session:
            return [_record(row) for row in session.scalars(select(models.Collection).order_by(models.Collection.id))]

    def count(self) -> int:
        """Number of collections of all owners."""
        with self._database.read() as session:
            return session.scalar(select(func.count()).select_from(models.Collection)) or 0

    def idle_since(self, before_s: float) -> list[CollectionRecord]:
        """Collections that were last used before this time."""
        query = select(models.Collection).where(models.Collection.used_s < before_s)
        with self._database.read() as session:
            return [_record(row) for row in session.scalars(query)]

    def idle_empty(self, before_s: float, owners: str, n: int) -> list[CollectionRecord]:
        """Up to `n` collections of owners whose name begins with `owners` that hold nothing and were last used before
        this time, those used longest ago first."""
        tables = (models.Document, models.Upload, models.Conversation)
        holds = [exists().where(table.collection_id == models.Collection.id) for table in tables]
        query = (
            select(models.Collection)
            .where(models.Collection.used_s < before_s, models.Collection.owner.startswith(owners, autoescape=True))
            .where(*(~held for held in holds))
            .order_by(models.Collection.used_s)
            .limit(n)
        )
        with self._database.read() as session:
            return [_record(row) for row in session.scalars(query)]

    def give(self, collection_id: int, owner: str, name: str, most: int = MAX_COLLECTIONS) -> None:
        """Give a collection to an owner, under this name. Raises as `create` and `get` do."""
        name = _checked(name)
        with self._database.write() as session:
            row = session.get(models.Collection, collection_id)
            if row is None:
                raise NotFoundError("there is no such collection")
            _admit(session, owner, name, most)
            row.owner, row.name = owner, name

    def rename(self, collection_id: int, name: str) -> None:
        """Rename a collection. Raises ConflictError and NotFoundError, as `create` and `get` do."""
        name = _checked(name)
        with self._database.write() as session:
            row = session.get(models.Collection, collection_id)
            if row is None:
                raise NotFoundError("there is no such collection")
            if row.name != name:
                _refuse_taken(session, row.owner, name)
                row.name = name

    def delete(self, collection_id: int) -> list[str]:
        """Remove a collection with all its rows. Returns the KV keys that nothing uses any more."""
        with self._database.write() as session:
            keys = keys_in_use(session, collection_id)
            session.execute(delete(models.Collection).where(models.Collection.id == collection_id))
            orphans = release(session, collection_id, keys)
        self._database.wipe_deleted()
        return orphans


def _checked(name: str) -> str:
    name = "".join(c for c in name if c.isprintable()).strip()
    if not 0 < len(name) <= NAME_CHARS:
        raise ConflictError(f"a collection's name has 1 to {NAME_CHARS} characters, this one {len(name)}")
    return name


def _admit(session: Session, owner: str, name: str, most: int) -> None:
    if _count(session, owner) >= most:
        raise LimitError(f"there are {most} collections already; delete one first")
    _refuse_taken(session, owner, name)


def _count(session: Session, owner: str) -> int:
    return session.scalar(select(func.count()).where(models.Collection.owner == owner)) or 0


def _n_documents(session: Session, collection_id: int) -> int:
    return session.scalar(select(func.count()).where(models.Document.collection_id == collection_id)) or 0


def _refuse_taken(session: Session, owner: str, name: str) -> None:
    taken = select(models.Collection.id).where(models.Collection.owner == owner, models.Collection.name == name)
    if session.scalar(taken) is not None:
        raise ConflictError(f"there is a collection named {name!r} already; choose another name")


def _record(row: models.Collection, n_documents: int = 0) -> CollectionRecord:
    return CollectionRecord(row.id, row.token, row.owner, row.name, row.created_s, row.used_s, row.clock, n_documents)
