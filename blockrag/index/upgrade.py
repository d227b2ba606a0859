"""Brings the file of an index to this version's format."""

import sqlite3

from blockrag.documents import Document
from blockrag.errors import IndexStoreError
from blockrag.retrieve.words import TABLE, create_table, create_trigger, words_of

FORMAT_VERSION = "2"

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT, document_id TEXT UNIQUE NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL,
    media_type TEXT NOT NULL, sha256 TEXT NOT NULL, is_source_unknown INTEGER NOT NULL DEFAULT 0,
    encoding TEXT, n_pages INTEGER, notes TEXT, metadata TEXT);
CREATE TABLE vectors (id INTEGER PRIMARY KEY AUTOINCREMENT, kv_key TEXT UNIQUE NOT NULL, vector BLOB NOT NULL);
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    start INTEGER NOT NULL, "end" INTEGER NOT NULL, n_tokens INTEGER NOT NULL, is_estimate INTEGER NOT NULL,
    score REAL NOT NULL, page INTEGER, vector INTEGER NOT NULL REFERENCES vectors, text BLOB NOT NULL);
CREATE UNIQUE INDEX blocks_of_document ON blocks (document, start);
CREATE INDEX blocks_of_vector ON blocks (vector)
"""


def add_columns(sql: sqlite3.Connection) -> None:
    """Add the columns that say more of a document, which earlier files of this format lack."""
    known = {name for _, name, *_ in sql.execute("PRAGMA table_info(documents)")}
    for column, kind in (("encoding", "TEXT"), ("n_pages", "INTEGER"), ("notes", "TEXT"), ("metadata", "TEXT")):
        if column not in known:
            sql.execute(f"ALTER TABLE documents ADD COLUMN {column} {kind}")


def add_words(sql: sqlite3.Connection) -> None:
    """Make the full-text index and fill it from the blocks, in files that have none."""
    if sql.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone():
        return
    sql.execute(create_table())
    sql.execute(create_trigger())
    known: set[int] = set()
    for number, name, media_type in sql.execute("SELECT id, name, media_type FROM documents").fetchall():
        select = 'SELECT start, "end", vector, text FROM blocks WHERE document = ? ORDER BY start'
        rows = sql.execute(select, (number,)).fetchall()
        document = Document(name, media_type, "".join(text.decode("utf-8", "surrogatepass") for *_, text in rows))
        for start, end, vector, _ in rows:
            if vector not in known:
                known.add(vector)
                words = " ".join(words_of(document.block_text(start, end)))
                sql.execute(f"INSERT INTO {TABLE} (rowid, words) VALUES (?, ?)", (vector, words))


def upgrade(sql: sqlite3.Connection) -> bool:
    """Bring a file of format 1 to this one, inside the caller's transaction; returns whether there was anything to do.

    Format 1 kept whole texts, no sources, and a vector with each block.
    """
    if sql.execute("SELECT value FROM meta WHERE key = 'format'").fetchone() != ("1",):
        return False
    for table in ("documents", "blocks"):
        sql.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    sql.execute("DROP INDEX blocks_of_document")
    for statement in SCHEMA.split(";"):
        sql.execute(statement)
    sql.execute(
        "INSERT INTO vectors (kv_key, vector) SELECT kv_key, vector FROM old_blocks "
        "WHERE id IN (SELECT min(id) FROM old_blocks GROUP BY kv_key) ORDER BY id"
    )
    taken: set[str] = set()
    for (number,) in sql.execute("SELECT id FROM old_documents ORDER BY id").fetchall():
        select = "SELECT name, media_type, text, sha256 FROM old_documents WHERE id = ?"
        name, media_type, text, sha256 = sql.execute(select, (number,)).fetchone()
        _copy(sql, number, Document(name, media_type, text, former_source(name, sha256, taken)))
    for table in ("blocks", "documents"):
        sql.execute(f"DROP TABLE old_{table}")
    sql.execute("UPDATE meta SET value = ? WHERE key = 'format'", (FORMAT_VERSION,))
    sql.execute("INSERT INTO meta VALUES ('version', '0')")
    return True


def former_source(name: str, sha256: str, taken: set[str]) -> str:
    """The source of a document that was kept without one, added to `taken`: its name, behind part of the text's hash
    where another document has the name already."""
    source = f"{sha256[:12]}/{name}" if name in taken else name
    taken.add(source)
    return source


def _copy(sql: sqlite3.Connection, number: int, document: Document) -> None:
    sql.execute(
        "INSERT INTO documents (id, document_id, source, name, media_type, sha256, is_source_unknown) "
        "VALUES (?, ?, ?, ?, ?, ?, 1)",
        (number, document.id, document.source, document.name, document.media_type, document.sha256),
    )
    rows = sql.execute(
        'SELECT b.start, b."end", b.n_tokens, b.score, v.id FROM old_blocks b JOIN vectors v USING (kv_key) '
        "WHERE b.document = ? ORDER BY b.start",
        (number,),
    ).fetchall()
    if "".join(document.text[start:end] for start, end, *_ in rows) != document.text:
        raise IndexStoreError(
            f"the blocks of {document.name!r} do not tile it; index the documents into a new directory"
        )
    sql.executemany(
        "INSERT INTO blocks VALUES (NULL, ?, ?, ?, ?, 1, ?, ?, ?, ?)",
        [
            (number, start, end, n_tokens, score, document.page_of(start), vector, document.text[start:end].encode())
            for start, end, n_tokens, score, vector in rows
        ],
    )
