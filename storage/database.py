"""A database by URL: connections, transactions, the version of its tables.

SQLite (in WAL mode, so that readers do not wait for a writer) or PostgreSQL. Each change is one transaction, committed
whole or not at all. Safe to use from several threads and processes.
"""

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from blockrag.retrieve.words import forget_deleted
from storage.errors import ConflictError, DamagedError, StorageError
from storage.migrate import HEAD, current, upgrade

_LOG = logging.getLogger(__name__)

BUSY_S = 30.0
"""How long a writer waits for another one."""

WIPE_WAIT_MS, WIPE_S = 500, 5.0
"""How long deleting waits for readers before it goes on, and how soon the log is then tried again."""

DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}


def sqlite_url(path: Path) -> str:
    """URL of a SQLite file. Makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


class Database:
    """Opens the database at `url` and upgrades its tables to this program's version.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``.

    Raises
    ------
    StorageError
        If the URL is of neither kind, the driver is not installed, the server cannot be reached, or the tables have a
        later version than this program knows.

    Attributes
    ----------
    is_wiped : bool
        Whether no file holds text that was deleted; see `wipe_deleted`.
    """

    def __init__(self, url: str):
        self.url = _checked(url)
        self.is_wiped, self._is_open = True, False
        self._wiping, self._is_closed = threading.Lock(), False
        self._retry: threading.Timer | None = None
        try:
            self._engine = _engine(self.url)
            with self._failures(), self._engine.connect() as connection:
                upgrade(connection)
            self._is_open = True
        except ModuleNotFoundError as error:
            raise StorageError(f"{error}: install it with `pip install 'psycopg[binary]'`") from error

    @property
    def dialect(self) -> str:
        """``"sqlite"`` or ``"postgresql"``."""
        return self._engine.dialect.name

    @property
    def version(self) -> str:
        """Version of the tables."""
        with self._engine.connect() as connection:
            return current(connection) or ""

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database."""
        with self._failures(), Session(self._engine) as session:
            if self.dialect == "postgresql":
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose changes are committed at the end of the context, or rolled back if it raises."""
        with self._failures(), Session(self._engine, expire_on_commit=False) as session:
            session.connection(execution_options={"writes": True})
            yield session
            session.commit()

    def wipe_deleted(self) -> bool:
        """Merge SQLite's index of words and empty its write-ahead log, so that no file holds what was deleted. While a
        reader keeps it from that, it is tried again every `WIPE_S`. PostgreSQL does this when it vacuums.

        Returns
        -------
        bool
            Whether it is empty now; False until then in `is_wiped`.
        """
        if self.dialect != "sqlite":
            return True
        with self.write() as session:
            forget_deleted(session.connection().exec_driver_sql)
        with self._failures(), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text(f"PRAGMA busy_timeout = {WIPE_WAIT_MS}"))
            is_busy = bool(connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).scalar_one())
            connection.execute(text(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}"))
        with self._wiping:
            if is_busy and not self._is_closed and self._retry is None:
                _LOG.warning("deleted text is still in the write-ahead log: something reads; it is tried again")
                self._retry = threading.Timer(WIPE_S, self._wipe_again)
                self._retry.daemon = True
                self._retry.start()
            elif not is_busy and not self.is_wiped:
                _LOG.info("deleted text is out of the write-ahead log")
            self.is_wiped = not is_busy
        return not is_busy

    def _wipe_again(self) -> None:
        with self._wiping:
            self._retry = None
        try:
            self.wipe_deleted()
        except StorageError as error:
            _LOG.error("the write-ahead log was not emptied: %s", type(error).__name__)

    def close(self) -> None:
        """Close all connections."""
        with self._wiping:
            self._is_closed = True
            if self._retry is not None:
                self._retry.cancel()
        self._engine.dispose()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise ConflictError(f"the database refused a change that contradicts its contents: {error.orig}") from error
        except DatabaseError as error:
            if _is_damage(error):
                raise DamagedError(self.url.database, str(error.orig)) from error
            raise StorageError(f"the database cannot be used{self._details(error)}") from error
        except SQLAlchemyError as error:
            raise StorageError(f"the database failed: {type(error).__name__}") from error

    def _details(self, error: DatabaseError) -> str:
        """What may be told: visitors read it, and PostgreSQL's messages name its host."""
        if not self._is_open:
            return f" at {_shown(self.url)}: {error.orig}"
        return f": {error.orig}" if self.dialect == "sqlite" else f" ({type(error.orig).__name__}); try again later"


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StorageError("this is no database URL; give sqlite:///FILE or postgresql://HOST/NAME") from error
    driver = DRIVERS.get(parsed.drivername, parsed.drivername)
    if driver not in DRIVERS.values():
        raise StorageError(
            f"databases of kind {parsed.drivername!r} are not supported; give sqlite:///FILE or postgresql://HOST/NAME"
        )
    return parsed.set(drivername=driver)


def _is_damage(error: DatabaseError) -> bool:
    """Whether SQLite found its file damaged."""
    code = getattr(error.orig, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _shown(url: URL) -> str:
    """The URL without its password."""
    return url.render_as_string(hide_password=True)


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        try:
            return create_engine(url, pool_pre_ping=True)
        except NoSuchModuleError as error:
            raise StorageError(f"there is no driver for {url.drivername}") from error
    engine = create_engine(url, connect_args={"timeout": BUSY_S, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Leave transactions to `_begin_sqlite`, and overwrite what is deleted."""
    connection.isolation_level = None
    for pragma in ("foreign_keys = ON", "journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """Lock the database when a writer begins: a writer that began as a reader could not wait for another, only fail."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


__all__ = ["HEAD", "Database", "sqlite_url"]
