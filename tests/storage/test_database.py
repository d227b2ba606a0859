"""Versions of the tables, failures of the database, and that deleted text leaves every file."""

import sqlite3
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from blockrag.retrieve.words import TABLE
from storage.database import Database, sqlite_url
from storage.errors import StorageError
from storage.migrate import HEAD, VERSIONS, current, upgrade
from storage.models import Base
from storage.store import Store
from tests.processes import start, told
from tests.storage.samples import document, segmentation_of

ROOT = Path(__file__).parent.parent.parent

OLD_ROWS = {
    "0001": [
        "INSERT INTO collections VALUES (7, 'token', 'anna', 'Old', 1.0, 2.0, 3)",
        "INSERT INTO documents VALUES (5, 7, 'sha', 'old.txt', 'text/plain', 2, 1.0, {text})",
        "INSERT INTO segmentations VALUES (5, 'fixed', 1, 16, 0.5, 3, {empty}, {empty})",
        "INSERT INTO edits VALUES (1, 5, 1, 'added', 'done', 1.0)",
        "INSERT INTO blocks VALUES (9, 5, 0, 2, 1, 1.0, 'key', 'models', {vector})",
        "INSERT INTO uploads VALUES (1, 7, 'u.pdf', 'file', 3, 'waiting', '', 1.0)",
    ],
    "0002": [
        "INSERT INTO conversations VALUES (2, 7, 'title', 1.0)",
        "INSERT INTO turns VALUES (3, 2, 'why?', 1.0)",
        "INSERT INTO sources VALUES (3, 1, 5, 0, 2, 0.5, 1, {false})",
        "INSERT INTO settings VALUES ('anna', 'k', '8')",
    ],
    "0003": ["INSERT INTO kv_places VALUES ('key', 'disk', 1.0)", "INSERT INTO encodings VALUES (5, 'other')"],
    "0004": [
        "INSERT INTO documents (id, collection_id, document_id, source, sha256, name, media_type, n_chars, added_s) "
        "VALUES (6, 7, 'id', '/a/new.txt', 'sha', 'new.txt', 'text/plain', 2, 1.0)",
        "INSERT INTO document_parts VALUES (6, 0, {text})",
        "INSERT INTO vectors (id, collection_id, made_by, kv_key, vector) VALUES (3, 7, 'models', 'new', {vector})",
        'INSERT INTO blocks (id, document_id, vector_id, start, "end", n_tokens, is_estimate, score) '
        "VALUES (12, 6, 3, 0, 2, 1, {false}, 1.0)",
    ],
    "0006": [],
    "0009": [],
    "0010": [],
    "0007": ["INSERT INTO index_requests VALUES (5, 1.0, '')"],
    "0008": [],
    "0005": ["UPDATE documents SET encoding = 'cp1252', notes = '[\"One left out.\"]' WHERE id = 6"],
}
"""What a database of each version may hold, beyond that of the version before."""

LITERALS = {
    "sqlite": {"text": "X'6869'", "empty": "X''", "vector": "X'0000803f'", "false": "0"},
    "postgresql": {"text": "'\\x6869'", "empty": "''", "vector": "'\\x0000803f'", "false": "false"},
}


def engine_of(url):
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


def fill(url, version):
    """A database as a program of that version would have left it."""
    engine = engine_of(url)
    for known in VERSIONS[: VERSIONS.index(version) + 1]:
        with engine.connect() as connection:
            upgrade(connection, known)
        with engine.begin() as connection:
            for statement in OLD_ROWS[known]:
                connection.exec_driver_sql(statement.format(**LITERALS[connection.dialect.name]))
    engine.dispose()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_database_of_every_version_becomes_one_of_this(url, version):
    fill(url, version)
    store = Store.open(url)
    assert store.database.version == HEAD
    collection = store.collections.get("anna", "token")
    record, *later = store.documents.of(collection.id)
    assert [r.source for r in later] == (["/a/new.txt"] if version >= "0004" else [])
    assert [r.notes for r in later] == ([("One left out.",) if version >= "0005" else ()] if later else [])
    assert store.documents.read(record.id).text == "hi" and (record.encoding, record.notes) == ("", ())
    assert [e.char for e in store.segmentations.get(record.id).edits] == [1]
    assert store.blocks.vectors("models", ["key"])["key"].tolist() == [1.0]
    (block,) = store.blocks.of(record.id, "models")
    assert (block.start, block.end, block.kv_key, block.page) == (0, 2, "key", None) and block.is_estimate
    assert (record.source, record.document_id) == ("old.txt", document("old.txt").id)
    assert store.documents.uploads()[0].name == "u.pdf" and not store.jobs.is_paused(collection.id)
    assert list(store.jobs.requests(collection.id)) == ([5] if version >= "0007" else [])
    assert store.segmentations.get(record.id).indexed_cut is None, "an earlier program indexed it"
    if version >= "0002":
        (turn,) = store.conversations.turns(collection.id, 2)
        assert turn.question == "why?" and turn.sources[0].text == "hi" and store.settings.of("anna") == {"k": 8}
    if version >= "0003":
        assert store.blocks.keys() == {"key", "other", *(["new"] if version >= "0004" else [])}
    store.collections.delete(collection.id)
    assert store.collections.create("anna", "New").id > 7 or store.database.dialect == "postgresql"
    store.close()


def test_every_version_has_rows_to_migrate():
    assert set(OLD_ROWS) == set(VERSIONS)


def test_migrations_make_the_tables_of_the_models(url):
    Database(url).close()
    engine = engine_of(url)
    with engine.connect() as connection:
        options = {"include_name": lambda name, kind, _: not (name or "").startswith((TABLE, f"ix_{TABLE}"))}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata) == []
    engine.dispose()


def test_a_database_of_a_later_version_is_left_alone(url):
    Database(url).close()
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="9999.*later BlockRAG"):
        Database(url)
    with engine.connect() as connection:
        assert current(connection) == "9999"
    engine.dispose()


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    url = sqlite_url(tmp_path / "x.sqlite")
    fill(url, "0001")
    with sqlite3.connect(tmp_path / "x.sqlite") as connection:
        connection.execute("CREATE TABLE turns (in_the_way INTEGER)")
    with pytest.raises(StorageError):
        Database(url)
    with sqlite3.connect(tmp_path / "x.sqlite") as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert "conversations" not in tables, "the migration's first table is not left behind"
        connection.execute("DROP TABLE turns")
    assert Database(url).version == HEAD


def open_database(tell, url: str) -> None:
    tell(Database(url).version)


def test_several_programs_may_start_at_once(url):
    programs = [start(open_database, url) for _ in range(3)]
    assert [list(told(here)) for _, here in programs] == [[HEAD]] * 3


@pytest.mark.parametrize(
    "url, said",
    [
        ("nonsense", "no database URL"),
        ("mysql://user:secret@host/db", "not supported"),
        ("postgresql://user:secret@127.0.0.1:1/db", "cannot be used"),
        ("sqlite:////nowhere/at/all/x.sqlite", "cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_says_so_without_its_password(url, said):
    with pytest.raises(StorageError, match=said) as caught:
        Database(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError):
        Database(sqlite_url(tmp_path / "x.sqlite"))


def test_deleted_text_leaves_the_log_once_its_readers_are_gone(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("storage.database.WIPE_S", 0.05)
    monkeypatch.setattr("storage.database.WIPE_WAIT_MS", 50)
    store = Store.open(sqlite_url(tmp_path / "x.sqlite"))
    collection = store.collections.create("anna", "c")
    text = "the password of the harbour master is swordfish. " * 900
    kept = store.documents.add(collection.id, document(text=text), segmentation_of(text))
    reader = sqlite3.connect(tmp_path / "x.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM documents").fetchall()
    store.documents.delete(kept)
    assert not store.database.is_wiped and "still in the write-ahead log" in caplog.text
    reader.close()
    deadline = time.monotonic() + 20
    while not store.database.is_wiped and time.monotonic() < deadline:
        time.sleep(0.02)
    assert store.database.is_wiped
    assert not any(b"swordfish" in path.read_bytes() for path in tmp_path.iterdir())
    store.close()


def test_deleted_text_is_in_no_file_any_more(tmp_path):
    store = Store.open(sqlite_url(tmp_path / "x.sqlite"))
    collection = store.collections.create("anna", "c")
    secret = "the password of the harbour master is swordfish. "
    kept = store.documents.add(collection.id, document(text=secret * 900), segmentation_of(secret * 900))

    def in_files() -> bool:
        return any(b"swordfish" in path.read_bytes() for path in tmp_path.iterdir())

    assert in_files()
    store.documents.delete(kept)
    assert not in_files()
    store.close()
