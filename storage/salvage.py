"""Save what can be read of a damaged SQLite database into a new one.

Rows are read one by one around the damaged pages. Text that is lost is filled with U+FFFD, so that edits keep their
places; rows that point to lost rows are left out; collections that are lost are made again for their documents.
`python -m storage doctor --mend` repairs the rest.
"""

import hashlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import create_engine, inspect
from sqlalchemy.orm import Session

from blockrag.retrieve.words import TABLE
from storage import words
from storage.backup import connect, problems, set_aside
from storage.database import sqlite_url
from storage.errors import DamagedError
from storage.migrate import HEAD, VERSIONS, upgrade
from storage.models import PART_CHARS

MOST_FAILURES = 100_000
"""Reads of one table that may fail before the rest of it is given up."""

LOST_TEXT = "Characters {start:,} to {end:,} were lost with a damaged disk."


@dataclass
class Salvaged:
    """What was saved: rows by table, what was lost in words, and where the damaged database is."""

    n_rows: dict[str, int] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)
    former: Path = Path()


def salvage(path: Path) -> Salvaged:
    """Put what can be read of a database that nothing uses in its place.

    Raises
    ------
    DamagedError
        If its table of tables cannot be read, so that nothing can be found.
    """
    aside, done = path.with_name(f".{path.name}.salvaged"), Salvaged()
    aside.unlink(missing_ok=True)
    try:
        with closing(connect(path)) as old:
            _make_tables(aside, _version(path, old))
            with closing(sqlite3.connect(aside, isolation_level=None)) as new:
                new.execute("BEGIN")
                for (table,) in new.execute(_TABLES).fetchall():
                    done.n_rows[table] = _copy(old, new, table, done.losses)
                _adopt_documents(new, done.losses)
                _fill_texts(new, done.losses)
                _drop_orphans(new, done.losses)
                new.execute("COMMIT")
        _fill_words(aside)
        if told := problems(aside):
            raise DamagedError(aside, told[0])
        done.former = set_aside(path)
        os.replace(aside, path)
    finally:
        for suffix in ("", "-wal", "-shm"):
            aside.with_name(aside.name + suffix).unlink(missing_ok=True)
    return done


_TABLES = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'alembic_version' "
    f"AND name NOT LIKE '{TABLE}%'"  # made again from the texts
)


def _version(path: Path, old: sqlite3.Connection) -> str:
    """The version of the tables; this program's if that row is lost."""
    try:
        old.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise DamagedError(path, f"{error}: its first pages are lost, and nothing can be salvaged") from error
    try:
        (version,) = old.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.DatabaseError, TypeError):
        return HEAD
    return version if version in VERSIONS else HEAD


def _make_tables(path: Path, version: str) -> None:
    engine = create_engine(sqlite_url(path))
    with engine.connect() as connection:
        upgrade(connection, version)
    engine.dispose()


def _fill_words(path: Path) -> None:
    """Make the index of words from the texts, if the tables' version has one."""
    engine = create_engine(sqlite_url(path))
    with Session(engine) as session:
        if inspect(engine).has_table(TABLE):
            words.fill(session)
            session.commit()
    engine.dispose()


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str, losses: list[str]) -> int:
    """Copy a table's rows that can be read. Returns their number."""
    columns = [f'"{row[1]}"' for row in new.execute(f'PRAGMA table_info("{table}")')]
    places = ", ".join("?" * len(columns))
    insert = f'INSERT OR IGNORE INTO "{table}" ({", ".join(columns)}) VALUES ({places})'
    n = 0
    for row in _rows(old, table, columns, losses):
        n += new.execute(insert, row).rowcount
    return n


def _rows(old: sqlite3.Connection, table: str, columns: list[str], losses: list[str]) -> Iterator[tuple]:
    """Rows that can be read, in order. A range of ids that fails is halved until single rows fail."""
    query = f'SELECT rowid, {", ".join(columns)} FROM "{table}" NOT INDEXED WHERE rowid BETWEEN ? AND ? ORDER BY rowid'
    ranges, unread, n_failures = [(1, _last_id(old, table))], [], 0
    while ranges:
        first, last = ranges.pop()
        next_id = first
        try:
            for id, *row in old.execute(query, (first, last)):
                next_id = id + 1
                yield tuple(row)
        except sqlite3.DatabaseError as error:
            n_failures += 1
            if next_id > first:
                ranges.append((next_id, last))
            elif first == last or n_failures > MOST_FAILURES:
                unread.append((first, last, str(error)))
            else:
                middle = (first + last) // 2
                ranges += [(middle + 1, last), (first, middle)]
    losses += [f"{table}: rows {first} to {last} cannot be read ({why})" for first, last, why in _joined(unread)]


def _joined(unread: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Neighbouring ranges as one."""
    joined: list[tuple[int, int, str]] = []
    for first, last, why in unread:
        if joined and joined[-1][1] + 1 == first:
            joined[-1] = (joined[-1][0], last, why)
        else:
            joined.append((first, last, why))
    return joined


def _last_id(old: sqlite3.Connection, table: str) -> int:
    """The highest id of a table, or a number above it that follows from what can be read."""
    for query in (
        f'SELECT max(rowid) FROM "{table}" NOT INDEXED',
        f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'",
    ):
        try:
            return int((old.execute(query).fetchone() or (0,))[0] or 0)
        except sqlite3.DatabaseError:  # the next query may read another page
            continue
    (n_pages,), (page_bytes,) = old.execute("PRAGMA page_count").fetchone(), old.execute("PRAGMA page_size").fetchone()
    return int(n_pages * page_bytes)


def _adopt_documents(new: sqlite3.Connection, losses: list[str]) -> None:
    """Make the collections of documents whose collection is lost."""
    query = "SELECT DISTINCT collection_id FROM documents WHERE collection_id NOT IN (SELECT id FROM collections)"
    columns = [row[1] for row in new.execute("PRAGMA table_info(collections)")]
    clock = new.execute("SELECT coalesce(max(version), 0) FROM segmentations").fetchone()[0]
    for (id,) in new.execute(query).fetchall():
        row = {"id": id, "token": secrets.token_hex(24), "owner": "local", "name": f"Salvaged {id}", "clock": clock}
        row |= {"created_s": time.time(), "used_s": time.time(), "index_version": 0}
        known = [column for column in columns if column in row]
        places = ", ".join("?" * len(known))
        new.execute(
            f"INSERT INTO collections ({', '.join(known)}) VALUES ({places})", [row[column] for column in known]
        )
        losses.append(
            f"collections: name and owner of {id}; it is {row['name']!r} of 'local' now, with the token {row['token']}"
        )


def _fill_texts(new: sqlite3.Connection, losses: list[str]) -> None:
    """Fill what is missing of each text, and take such documents out of the index."""
    if not new.execute("SELECT 1 FROM sqlite_master WHERE name = 'document_parts'").fetchone():
        return  # texts were one column then
    for id, name, n_chars, sha256, notes in new.execute(
        "SELECT id, name, n_chars, sha256, notes FROM documents"
    ).fetchall():
        parts = dict(new.execute("SELECT number, text FROM document_parts WHERE document_id = ?", (id,)))
        digest, lost = hashlib.sha256(), []
        for number, start in enumerate(range(0, n_chars, PART_CHARS)):
            length, data = min(PART_CHARS, n_chars - start), parts.get(number, b"")
            if len(data.decode("utf-8", "replace")) != length:
                data = ("\ufffd" * length).encode()
                new.execute("INSERT OR REPLACE INTO document_parts VALUES (?, ?, ?)", (id, number, data))
                lost.append(LOST_TEXT.format(start=start, end=start + length))
            digest.update(data)
        if digest.hexdigest() != sha256:
            losses.append(f"documents: {id} ({name}): {' '.join(lost) or 'its text was altered'}")
            told = json.dumps([*json.loads(notes or "[]"), *lost][:50])
            new.execute("UPDATE documents SET sha256 = ?, notes = ? WHERE id = ?", (digest.hexdigest(), told, id))
            new.execute("DELETE FROM blocks WHERE document_id = ?", (id,))
    new.execute("DELETE FROM vectors WHERE id NOT IN (SELECT vector_id FROM blocks)")


def _drop_orphans(new: sqlite3.Connection, losses: list[str]) -> None:
    """Delete rows that point to lost rows, then those that pointed to them."""
    while found := new.execute("PRAGMA foreign_key_check").fetchall():
        for table, id, parent, _ in found:
            new.execute(f'DELETE FROM "{table}" WHERE rowid = ?', (id,))
            losses.append(f"{table}: row {id} belonged to a lost row of {parent}")
