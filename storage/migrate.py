"""Upgrade a database's tables, by Alembic."""

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from storage.errors import StorageError

_LOCK = 0x626C6F636B
"""Number of PostgreSQL's advisory lock: any that others are unlikely to use."""

_FOLDER = Path(__file__).parent / "migrations"


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_FOLDER))


VERSIONS = tuple(script.revision for script in reversed(list(_scripts().walk_revisions())))
"""All versions, oldest first."""

HEAD = VERSIONS[-1]


def current(connection: Connection) -> str | None:
    """The version of a database's tables; None if it has no tables."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection, version: str = HEAD) -> None:
    """Upgrade the tables to `version`, in one transaction.

    SQLite changes a table by making it again. Meanwhile it does not check references: dropping the old table would
    delete the rows that point to it.

    Raises
    ------
    StorageError
        If the database has a version that this program does not know.
    """
    found = current(connection)
    connection.rollback()
    if found is not None and found not in VERSIONS:
        raise StorageError(
            f"the database has version {found}, which this program does not know; it knows {', '.join(VERSIONS)}. "
            "Use a later BlockRAG, or a copy of the database from before it was upgraded."
        )
    if found == version:
        return
    connection = connection.execution_options(writes=True)
    _pragma(connection, "PRAGMA foreign_keys = OFF")
    with connection.begin():
        if connection.dialect.name == "postgresql":  # two programs that start at once take turns
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        command.upgrade(_config(connection), version)
    _pragma(connection, "PRAGMA foreign_keys = ON")
    if found is not None:
        _pragma(connection, "VACUUM")


def _pragma(connection: Connection, statement: str) -> None:
    """Run a statement that SQLite accepts only outside of a transaction."""
    if connection.dialect.name == "sqlite":
        try:
            connection.connection.execute(statement)
        except sqlite3.Error as error:
            raise StorageError(f"SQLite could not run {statement}: {error}") from error
