"""The SQLite file of an index, which is the truth: documents, their blocks, a vector for each. Knows no FAISS."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blockrag.documents import Document
from blockrag.errors import IndexStoreError
from blockrag.index.records import DocumentRecord, Found
from blockrag.segment import Block

FORMAT_VERSION = "1"

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT UNIQUE NOT NULL, name TEXT NOT NULL,
    media_type TEXT NOT NULL, text TEXT NOT NULL);
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    start INTEGER NOT NULL, "end" INTEGER NOT NULL, n_tokens INTEGER NOT NULL, score REAL NOT NULL,
    kv_key TEXT NOT NULL, vector BLOB NOT NULL);
CREATE INDEX blocks_of_document ON blocks (document);
CREATE INDEX blocks_of_key ON blocks (kv_key);
"""


@dataclass(frozen=True)
class Change:
    """What a transaction did to blocks: ids that are gone, vectors by the ids that came, and KV keys that no block of
    the index uses any more."""

    gone: list[int]
    orphans: list[str]
    added: dict[int, np.ndarray] = field(default_factory=dict)


class Database:
    """See `blockrag.index.Index`, whose parameters and errors these are. Who reads more than once takes `lock`."""

    def __init__(self, directory: Path, made_by: dict[str, str]):
        self._directory, self.lock = directory, threading.RLock()
        try:
            self._sql = sqlite3.connect(directory / "index.sqlite", check_same_thread=False)
            self._sql.execute("PRAGMA foreign_keys = ON")
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA secure_delete = ON")
            self._check_maker({"format": FORMAT_VERSION, **made_by})
        except sqlite3.DatabaseError as error:
            raise IndexStoreError(f"{directory} holds no readable index: {error}") from error

    def _check_maker(self, made_by: dict[str, str]) -> None:
        with self._transaction():
            if not self._sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                for statement in _SCHEMA.split(";"):
                    self._sql.execute(statement)
                self._sql.executemany("INSERT INTO meta VALUES (?, ?)", made_by.items())
        found = dict(self._sql.execute("SELECT key, value FROM meta"))
        for key, expected in made_by.items():
            if found.get(key) != expected:
                raise IndexStoreError(
                    f"{self._directory} was made with {key} {found.get(key, 'unknown')[:16]}, but {expected[:16]} is "
                    "in use. Choose the model it was made with, or index the documents into a new directory."
                )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self.lock, self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            yield

    def ids(self) -> list[int]:
        """Of all blocks, in order."""
        with self.lock:
            return [id for (id,) in self._sql.execute("SELECT id FROM blocks ORDER BY id")]

    def vectors(self) -> Iterator[tuple[int, np.ndarray]]:
        """Of all blocks, with their ids."""
        with self.lock:
            for id, blob in self._sql.execute("SELECT id, vector FROM blocks"):
                yield id, np.frombuffer(blob, np.float32)

    def put(
        self,
        document: Document,
        blocks: Sequence[Block],
        vectors: np.ndarray,
        kv_keys: Sequence[str],
        ids: Sequence[int] | None,
    ) -> Change:
        """See `Index.add`."""
        wanted: Sequence[int | None] = [None] * len(blocks) if ids is None else ids
        with self._transaction():
            number = self._enter(document)
            old = self._blocks_of(number)
            gone = {id: key for (_, _, key), id in old.items()}
            added: dict[int, np.ndarray] = {}
            for block, vector, key, id in zip(blocks, vectors, kv_keys, wanted, strict=True):
                found = old.get((block.start, block.end, key))
                if found in gone and id in (None, found):
                    del gone[found]
                    self._rescore(found, block)
                else:
                    added[self._insert(number, block, vector, key, id)] = vector
            self._sql.executemany("DELETE FROM blocks WHERE id = ?", [(id,) for id in gone])
            return Change(list(gone), self._unused(list(gone.values())), added)

    def _enter(self, document: Document) -> int:
        return self._sql.execute(
            "INSERT INTO documents (sha256, name, media_type, text) VALUES (?, ?, ?, ?) ON CONFLICT (sha256) "
            "DO UPDATE SET name = excluded.name, media_type = excluded.media_type RETURNING id",
            (document.sha256, document.name, document.media_type, document.text),
        ).fetchone()[0]

    def _blocks_of(self, number: int) -> dict[tuple[int, int, str], int]:
        rows = self._sql.execute('SELECT start, "end", kv_key, id FROM blocks WHERE document = ?', (number,))
        return {(start, end, key): id for start, end, key, id in rows}

    def _rescore(self, id: int, block: Block) -> None:
        self._sql.execute("UPDATE blocks SET n_tokens = ?, score = ? WHERE id = ?", (block.n_tokens, block.score, id))

    def _insert(self, number: int, block: Block, vector: np.ndarray, key: str, id: int | None) -> int:
        blob = vector.astype(np.float32).tobytes()
        return self._sql.execute(
            'INSERT INTO blocks (id, document, start, "end", n_tokens, score, kv_key, vector) '
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (id, number, block.start, block.end, block.n_tokens, block.score, key, blob),
        ).fetchone()[0]

    def delete(self, document_id: str) -> Change:
        """Remove a document."""
        with self._transaction():
            rows = self._rows_of(document_id, "b.id, b.kv_key")
            self._sql.execute("DELETE FROM documents WHERE sha256 = ?", (document_id,))
            change = Change([id for id, _ in rows], self._unused([key for _, key in rows]))
        with self.lock:
            self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # deleted text leaves the log too
        return change

    def _unused(self, keys: Sequence[str]) -> list[str]:
        used = "SELECT 1 FROM blocks WHERE kv_key = ?"
        return [key for key in dict.fromkeys(keys) if not self._sql.execute(used, (key,)).fetchone()]

    def block(self, id: int, similarity: float, documents: dict[int, Document]) -> Found:
        """The block of that id. `documents` are those read so far, and grow."""
        number, *block = self._sql.execute(
            'SELECT document, start, "end", n_tokens, score FROM blocks WHERE id = ?', (id,)
        ).fetchone()
        if number not in documents:
            select = "SELECT name, media_type, text FROM documents WHERE id = ?"
            documents[number] = Document(*self._sql.execute(select, (number,)).fetchone())
        return Found(documents[number], Block(*block), similarity)

    def block_at(self, document_id: str, start: int) -> tuple[int, np.ndarray] | None:
        """Id and vector of the block that begins there."""
        rows = self._rows_of(document_id, "b.id, b.vector", "AND b.start = ?", start)
        return (rows[0][0], np.frombuffer(rows[0][1], np.float32)) if rows else None

    def vectors_of(self, document_id: str) -> dict[str, np.ndarray]:
        """See `Index.vectors`."""
        with self.lock:
            rows = self._rows_of(document_id, "b.kv_key, b.vector")
        return {key: np.frombuffer(blob, np.float32) for key, blob in rows}

    def _rows_of(self, document_id: str, columns: str, only: str = "", *values: int) -> list[tuple]:
        select = f"SELECT {columns} FROM blocks b JOIN documents d ON d.id = b.document WHERE d.sha256 = ? {only}"
        return self._sql.execute(select, (document_id, *values)).fetchall()

    def ids_by_document(self) -> dict[str, list[int]]:
        """See `Index.ids`."""
        found: dict[str, list[int]] = {}
        with self.lock:
            for document_id, id in self._sql.execute(
                "SELECT d.sha256, b.id FROM documents d LEFT JOIN blocks b ON b.document = d.id ORDER BY d.id, b.start"
            ):
                found.setdefault(document_id, []).extend([] if id is None else [id])
        return found

    def documents(self) -> list[DocumentRecord]:
        """All documents, in the order they were added."""
        with self.lock:
            rows = self._sql.execute(
                "SELECT d.sha256, d.name, count(b.id), coalesce(sum(b.n_tokens), 0) "
                "FROM documents d LEFT JOIN blocks b ON b.document = d.id GROUP BY d.id ORDER BY d.id"
            )
            return [DocumentRecord(*row) for row in rows]

    def close(self) -> None:
        """It cannot be used afterwards."""
        self._sql.close()
