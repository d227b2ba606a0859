"""Copies of a SQLite database: check one, back it up while it is used, put a backup in its place. For PostgreSQL, use
``pg_dump`` and ``pg_restore``."""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy.engine import make_url

from storage.errors import DamagedError, StorageError

MOST_PROBLEMS = 100
SIDECARS = ("-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite keeps beside a database."""


def path_of(url: str) -> Path:
    """The file of a SQLite database. Raises StorageError for other databases, and if there is no such file."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise StorageError("this is for SQLite; use pg_dump and pg_restore for PostgreSQL")
    path = Path(parsed.database)
    if not path.is_file():
        raise StorageError(f"there is no database at {path}")
    return path


def problems(path: Path) -> list[str]:
    """Problems in the structure of a database, or an empty list. Reads the whole file."""
    try:
        with closing(connect(path)) as connection:
            told = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({MOST_PROBLEMS})")]
            return [] if told == ["ok"] else told
    except sqlite3.DatabaseError as error:
        return [str(error)]


def back_up(url: str, target: Path) -> int:
    """Copy a database, which may be in use, to `target`, and check the copy. Returns its bytes.

    Raises
    ------
    DamagedError
        If the database is damaged; `target` stays as it was.
    StorageError
        If `target` cannot be written.
    """
    path = path_of(url)
    with written_aside(target) as aside:
        try:
            with closing(connect(path)) as source, closing(sqlite3.connect(aside)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.DatabaseError as error:
            raise _failed(path, error) from error
        if told := problems(aside):
            raise DamagedError(path, told[0])
    return target.stat().st_size


def restore(url: str, backup: Path) -> Path:
    """Put a backup in the place of a database that nothing uses. Returns where the former one is now.

    Raises
    ------
    DamagedError
        If the backup is damaged; the database stays as it was.
    StorageError
        If there is no such backup.
    """
    if not backup.is_file():
        raise StorageError(f"there is no backup at {backup}")
    if told := problems(backup):
        raise DamagedError(backup, told[0])
    path = Path(make_url(url).database or "")
    with written_aside(path) as aside:
        shutil.copyfile(backup, aside)
        return set_aside(path)


def set_aside(path: Path) -> Path:
    """Copy a database with what belongs to it, and remove the sidecars, which must not meet another database. Returns
    the copy's path; the database itself stays for `os.replace`."""
    former = path.with_name(f"{path.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("", *SIDECARS):
        part = path.with_name(path.name + suffix)
        if part.exists():
            shutil.copy2(part, former.with_name(former.name + suffix))
    for suffix in SIDECARS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return former


def connect(path: Path) -> sqlite3.Connection:
    """Open a database that exists."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None)


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """Yield an empty file beside `target`, readable by this user only, and rename it to `target` at the end. An OSError
    becomes a StorageError."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield aside
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, target)
    except OSError as error:
        raise StorageError(f"{target} cannot be written ({error.strerror})") from error
    finally:
        with suppress(OSError):  # a failing disk was told already
            aside.unlink(missing_ok=True)


def _failed(path: Path, error: sqlite3.DatabaseError) -> StorageError:
    if isinstance(error, sqlite3.OperationalError):  # a full disk, a lock
        return StorageError(f"{path} could not be copied ({error})")
    return DamagedError(path, str(error))
