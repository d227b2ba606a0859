"""An index in one SQLite file. A block's row holds the block's text, and no other row does: a search reads only the
blocks that it found, and a document's text is its blocks, joined."""

import json
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from weakref import WeakSet

import numpy as np

from blockrag.documents import Document
from blockrag.documents.tables import SAMPLE_CHARS, TABLES, header_of
from blockrag.errors import IndexStoreError, UnknownDocumentError
from blockrag.index.base import BlockRef, Change, DocumentRecord, Hit, Index, IndexedBlock, metadata_json
from blockrag.index.upgrade import FORMAT_VERSION, SCHEMA, add_columns, add_words, upgrade
from blockrag.retrieve.words import TABLE, forget_deleted, match, words_of

BATCH = 8192
"""Vectors read at a time. FAISS doubles its room when it is full: batches leave some for what is added later."""

BUSY_S = 30.0
"""How long a writer waits for another process."""

_HIT = """
SELECT b.vector, d.document_id, d.source, d.name, b.start, b."end", b.n_tokens, b.score, v.kv_key, b.page,
    b.is_estimate, b.text, d.media_type, d.id, v.vector
FROM blocks b JOIN documents d ON d.id = b.document JOIN vectors v ON v.id = b.vector
"""


class FileIndex(Index):
    """The file ``index.sqlite`` in a directory.

    Parameters
    ----------
    directory : Path
        Made where it does not exist. A file of an earlier version is brought to this one; nothing is encoded again.
    made_by : dict of str to str
        What the index depends on, such as hashes of the models. An index made by others is refused.
    dimension : int
        Length of a vector.

    Raises
    ------
    IndexStoreError
        If the directory holds an index of other models or of another format, or a damaged one.
    """

    def __init__(self, directory: Path, made_by: dict[str, str], dimension: int):
        super().__init__(dimension)
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        try:
            self._connect()
            self._open(made_by)
            self._refresh()
        except sqlite3.DatabaseError as error:
            raise IndexStoreError(f"{directory} holds no readable index: {error}") from error
        _OPEN.add(self)

    def _connect(self) -> None:
        self._sql = sqlite3.connect(self.directory / "index.sqlite", timeout=BUSY_S, check_same_thread=False)
        for pragma in ("foreign_keys", "secure_delete"):
            self._sql.execute(f"PRAGMA {pragma} = ON")
        self._sql.execute("PRAGMA journal_mode = WAL")

    def reconnect(self) -> None:
        """Open the file again, in a process that a fork made: SQLite's connections cannot be used in two."""
        if isinstance(self._sql, sqlite3.Connection):
            _INHERITED.append(self._sql)
            self._lock = threading.RLock()
            self._connect()

    def _open(self, made_by: dict[str, str]) -> None:
        with self._transaction():
            if not self._sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                for statement in SCHEMA.split(";"):
                    self._sql.execute(statement)
                meta = {"format": FORMAT_VERSION, "version": "0", **made_by}
                self._sql.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            self._check_meta(made_by)
            upgraded = upgrade(self._sql)
            self._check_meta({"format": FORMAT_VERSION, **made_by})
            add_columns(self._sql)
            add_words(self._sql)
        if upgraded:
            self._sql.execute("VACUUM")
        (self.directory / "vectors.faiss").unlink(missing_ok=True)  # of format 1

    def _check_meta(self, expected: dict[str, str]) -> None:
        found = dict(self._sql.execute("SELECT key, value FROM meta"))
        for key, value in expected.items():
            if found.get(key) != value:
                raise IndexStoreError(
                    f"{self.directory} was made with {key} {found.get(key, 'unknown')[:16]}, but {value[:16]} is "
                    "in use. Choose the model it was made with, or index the documents into a new directory."
                )

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        with self._failures(), self._lock, self._sql:
            self._sql.execute(f"BEGIN {kind}")
            yield

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise IndexStoreError(f"the index in {self.directory} cannot be used: {error}") from error

    def _write(self, document: Document, blocks: Sequence[IndexedBlock], vectors: np.ndarray) -> Change:
        with self._transaction():
            number, replaced = self._enter_document(document)
            old = self._vectors_of(number)
            self._sql.execute("DELETE FROM blocks WHERE document = ?", (number,))
            ids, added = self._enter_vectors(document, blocks, vectors)
            self._sql.executemany(
                "INSERT INTO blocks VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_row(number, block, ids[block.kv_key], document.text) for block in blocks],
            )
            change = self._settle(old, added)
        if replaced:
            self._wipe_deleted()
        return change

    def _enter_document(self, document: Document) -> tuple[int, bool]:
        """Its row's id, and whether there was another text from the same source."""
        self._adopt(document)
        found = self._sql.execute("SELECT sha256 FROM documents WHERE document_id = ?", (document.id,)).fetchone()
        (number,) = self._sql.execute(
            "INSERT INTO documents (document_id, source, name, media_type, sha256, encoding, n_pages, notes, metadata) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (document_id) DO UPDATE SET name = excluded.name, media_type = excluded.media_type, "
            "sha256 = excluded.sha256, encoding = excluded.encoding, n_pages = excluded.n_pages, "
            "notes = excluded.notes, metadata = excluded.metadata RETURNING id",
            (
                document.id,
                document.source,
                document.name,
                document.media_type,
                document.sha256,
                document.encoding,
                document.n_pages,
                json.dumps(document.notes),
                metadata_json(document),
            ),
        ).fetchone()
        return number, found is not None and found[0] != document.sha256

    def _adopt(self, document: Document) -> None:
        """Format 1 kept no source. A document from then that has this name and text gets its source now."""
        self._sql.execute(
            "UPDATE documents SET document_id = ?, source = ?, is_source_unknown = 0 WHERE id = (SELECT min(id) FROM "
            "documents WHERE is_source_unknown AND name = ? AND sha256 = ?) "
            "AND NOT EXISTS (SELECT 1 FROM documents WHERE document_id = ?)",
            (document.id, document.source, document.name, document.sha256, document.id),
        )

    def _enter_vectors(
        self, document: Document, blocks: Sequence[IndexedBlock], vectors: np.ndarray
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Ids of the blocks' vectors by KV key: of all, and of those that were not there."""
        ids, added = {}, {}
        for block, vector in zip(blocks, vectors, strict=True):
            if block.kv_key in ids:
                continue
            found = self._sql.execute("SELECT id FROM vectors WHERE kv_key = ?", (block.kv_key,)).fetchone()
            if found is None:
                values = (block.kv_key, vector.astype("<f4").tobytes())
                insert = "INSERT INTO vectors (kv_key, vector) VALUES (?, ?) RETURNING id"
                found = self._sql.execute(insert, values).fetchone()
                added[block.kv_key] = found[0]
                words = " ".join(words_of(document.block_text(block.start, block.end)))
                self._sql.execute(f"INSERT INTO {TABLE} (rowid, words) VALUES (?, ?)", (found[0], words))
            ids[block.kv_key] = found[0]
        return ids, added

    def _remove(self, document_id: str) -> Change:
        with self._transaction():
            number = self._number(document_id)
            old = self._vectors_of(number)
            self._sql.execute("DELETE FROM documents WHERE id = ?", (number,))
            change = self._settle(old, {})
        self._wipe_deleted()
        return change

    def _number(self, document_id: str) -> int:
        found = self._sql.execute("SELECT id FROM documents WHERE document_id = ?", (document_id,)).fetchone()
        if found is None:
            raise UnknownDocumentError(document_id)
        return found[0]

    def _vectors_of(self, number: int) -> list[int]:
        return [id for (id,) in self._sql.execute("SELECT DISTINCT vector FROM blocks WHERE document = ?", (number,))]

    def _settle(self, old: Sequence[int], added: dict[str, int]) -> Change:
        """Delete those of the old vectors that no block uses, and count the write."""
        gone, orphans = [], []
        unused = (
            "DELETE FROM vectors WHERE id = ? AND NOT EXISTS (SELECT 1 FROM blocks WHERE vector = ?) RETURNING kv_key"
        )
        for id in old:
            if found := self._sql.execute(unused, (id, id)).fetchone():
                gone.append(id)
                orphans.append(found[0])
        count = "UPDATE meta SET value = value + 1 WHERE key = 'version' RETURNING value"
        return Change(int(self._sql.execute(count).fetchone()[0]), orphans, gone, added)

    def _wipe_deleted(self) -> None:
        """Have deleted text leave the index of words and the write-ahead log too."""
        with self._transaction():
            forget_deleted(self._sql.execute)
        with self._failures(), self._lock:
            self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def known_vectors(self, kv_keys: Iterable[str]) -> dict[str, np.ndarray]:
        """See `Index`."""
        found = {}
        with self._lock:
            for key in kv_keys:
                row = self._sql.execute("SELECT vector FROM vectors WHERE kv_key = ?", (key,)).fetchone()
                if row is not None:
                    found[key] = np.frombuffer(row[0], "<f4")
        return found

    def documents(self) -> list[DocumentRecord]:
        """See `Index`."""
        with self._lock:
            rows = self._sql.execute(
                "SELECT d.document_id, d.source, d.name, d.sha256, count(b.id), coalesce(sum(b.n_tokens), 0), "
                "coalesce(d.encoding, ''), d.n_pages, d.notes, coalesce(d.metadata, '{}') "
                "FROM documents d LEFT JOIN blocks b ON b.document = d.id GROUP BY d.id ORDER BY d.id"
            )
            return [DocumentRecord(*(*row, _notes(notes), json.loads(about))) for *row, notes, about in rows]

    def read(self, document_id: str) -> Document:
        """See `Index`."""
        with self._transaction("DEFERRED"):
            number = self._number(document_id)
            select = "SELECT name, media_type, source, encoding, notes, metadata FROM documents WHERE id = ?"
            name, media_type, source, encoding, notes, metadata = self._sql.execute(select, (number,)).fetchone()
            texts = self._sql.execute("SELECT text FROM blocks WHERE document = ? ORDER BY start", (number,))
            text = "".join(decode(text) for (text,) in texts)
            about = json.loads(metadata or "{}")
            return Document(name, media_type, text, source, encoding or "", _notes(notes), about)

    def __len__(self) -> int:
        with self._lock:
            return self._sql.execute("SELECT count(*) FROM blocks").fetchone()[0]

    def close(self) -> None:
        """See `Index`."""
        self._sql.close()
        self._sql = cast(sqlite3.Connection, _Closed(self.directory))

    def _current_version(self) -> int:
        with self._lock:
            return int(self._sql.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()[0])

    def _vector_ids(self) -> tuple[int, set[int]]:
        with self._transaction("DEFERRED"):
            ids = {id for (id,) in self._sql.execute("SELECT id FROM vectors")}
            return self._current_version(), ids

    def _load_vectors(self, first_id: int) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        cursor = self._sql.execute("SELECT id, vector FROM vectors WHERE id >= ?", (first_id,))
        while rows := cursor.fetchmany(BATCH):
            ids, blobs = zip(*rows, strict=True)
            yield ids, np.frombuffer(b"".join(blobs), "<f4").reshape(len(ids), self._dimension)

    def around(self, block: BlockRef, n: int) -> list[BlockRef]:
        """See `Index`."""
        one = "SELECT b.start FROM blocks b JOIN documents d ON d.id = b.document WHERE d.document_id = ? AND b.start"
        with self._lock:
            if not self._sql.execute(f"{one} = ?", block).fetchone():
                return []
            before = self._sql.execute(f"{one} < ? ORDER BY b.start DESC LIMIT ?", (*block, n)).fetchall()
            after = self._sql.execute(f"{one} > ? ORDER BY b.start LIMIT ?", (*block, n)).fetchall()
        starts = [*(start for (start,) in reversed(before)), block[1], *(start for (start,) in after)]
        return [BlockRef(block[0], start) for start in starts]

    def _vectors_in(self, documents: Collection[str]) -> set[int]:
        each = (
            "SELECT b.vector FROM blocks b JOIN documents d ON d.id = b.document "
            "WHERE d.document_id IN (SELECT value FROM json_each(?))"
        )
        with self._lock:
            return {id for (id,) in self._sql.execute(each, (json.dumps([*documents]),))}

    def _matching(self, question: str, k: int, among: Collection[int] | None) -> list[int]:
        with self._lock:
            return match(self._sql.execute, question, k, among)

    def _hits(self, vector_ids: Sequence[int], documents: Collection[str] | None = None) -> dict[int, Hit]:
        hits, these, values = {}, "", []
        if documents is not None:
            these = "AND d.document_id IN (SELECT value FROM json_each(?))"
            values = [json.dumps([*documents])]
        first = f"{_HIT} WHERE b.vector = ? {these} ORDER BY b.id LIMIT 1"
        with self._lock:
            for id in vector_ids:
                if row := self._sql.execute(first, (id, *values)).fetchone():
                    hits[id] = self._hit(row)
        return hits

    def _block_at(self, block: BlockRef) -> tuple[Hit, np.ndarray] | None:
        with self._lock:
            row = self._sql.execute(f"{_HIT} WHERE d.document_id = ? AND b.start = ?", block).fetchone()
        return (self._hit(row), np.frombuffer(row[-1], "<f4")) if row else None

    def _hit(self, row: Sequence[Any]) -> Hit:
        _, document_id, source, name, start, end, n_tokens, score, kv_key, page, is_estimate, text, kind, number, _ = (
            row
        )
        block = IndexedBlock(start, end, n_tokens, score, kv_key, page, bool(is_estimate))
        header = self._header(number, kind) if start and kind in TABLES else ""
        return Hit(document_id, source, name, block, header + decode(text))

    def _header(self, number: int, media_type: str) -> str:
        """The header of the table that a document is; see `Document.header`."""
        sample = ""
        with self._lock:
            for (text,) in self._sql.execute("SELECT text FROM blocks WHERE document = ? ORDER BY start", (number,)):
                sample += decode(text)
                if len(sample) >= SAMPLE_CHARS:
                    break
        return header_of(media_type, sample[:SAMPLE_CHARS])


_OPEN: WeakSet[FileIndex] = WeakSet()
_INHERITED: list[sqlite3.Connection] = []
"""Connections of the parent process; closing them would write to its files."""


def _reconnect_all() -> None:
    for index in list(_OPEN):
        index.reconnect()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_reconnect_all)


class _Closed:
    """Takes the connection's place when the index is closed: each use raises IndexStoreError."""

    def __init__(self, directory: Path):
        self._directory = directory

    def close(self) -> None:
        """It is closed."""

    def __enter__(self) -> None:
        self.execute()

    def __exit__(self, *error: object) -> None:
        """Never entered."""

    def execute(self, *statement: object) -> None:
        raise IndexStoreError(f"the index in {self._directory} is closed; open it again")


def encode(text: str) -> bytes:
    """Encode text for SQLite, which accepts no half characters (surrogates)."""
    return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> str:
    """The inverse of `encode`."""
    return data.decode("utf-8", "surrogatepass")


def _row(number: int, block: IndexedBlock, vector_id: int, text: str) -> tuple:
    span = encode(text[block.start : block.end])
    values = (block.start, block.end, block.n_tokens, block.is_estimate, block.score, block.page, vector_id, span)
    return (number, *values)


def _notes(text: str | None) -> tuple[str, ...]:
    return tuple(json.loads(text)) if text else ()
