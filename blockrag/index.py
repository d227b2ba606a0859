"""An index on disk: documents, their blocks, and a vector for each block. Knows no model; KV is kept beside it.

A directory with one SQLite file, which is the truth, and one FAISS file, which is a cache of the vectors in it: where
the two disagree (a process was killed between them) the FAISS file is made anew. Several processes may read; writers
take turns through SQLite.
"""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blockrag.documents import Document
from blockrag.errors import IndexStoreError
from blockrag.retrieve.vectors import VectorIndex
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
class DocumentRecord:
    """A document in the index: `id` is its sha256."""

    id: str
    name: str
    n_blocks: int
    n_tokens: int


@dataclass(frozen=True)
class Found:
    """A block that a search returned, its document, and the cosine similarity to the question."""

    document: Document
    block: Block
    similarity: float

    @property
    def text(self) -> str:
        """The block's text."""
        return self.document.text[self.block.start : self.block.end]


class Index:
    """Documents and blocks of one collection. Safe to use from several threads.

    Parameters
    ----------
    directory : Path
        Made where it does not exist.
    made_by : dict of str to str
        What an index depends on, such as the hashes of the models. An index made by others is refused.
    dimension : int
        Length of a vector.

    Raises
    ------
    IndexStoreError
        If the directory holds an index of other models or of another format, or a damaged one.
    """

    def __init__(self, directory: Path, made_by: dict[str, str], dimension: int):
        self.directory = directory
        self._dimension = dimension
        self._lock = threading.RLock()
        directory.mkdir(parents=True, exist_ok=True)
        try:
            self._sql = sqlite3.connect(directory / "index.sqlite", check_same_thread=False)
            self._sql.execute("PRAGMA foreign_keys = ON")
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA secure_delete = ON")
            self._check_maker({"format": FORMAT_VERSION, **made_by})
        except sqlite3.DatabaseError as error:
            raise IndexStoreError(f"{directory} holds no readable index: {error}") from error
        self._vectors = self._load_vectors()

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
                    f"{self.directory} was made with {key} {found.get(key, 'unknown')[:16]}, but {expected[:16]} is in "
                    "use. Choose the model it was made with, or index the documents into a new directory."
                )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            yield

    def _load_vectors(self) -> VectorIndex:
        """The FAISS file, or, where it does not hold exactly the blocks of the database, a new one."""
        rows = self._sql.execute("SELECT id FROM blocks ORDER BY id").fetchall()
        try:
            vectors = VectorIndex.load(self._faiss_path)
            if np.array_equal(np.sort(vectors.ids), np.array(rows, dtype=np.int64).reshape(-1)):
                return vectors
        except RuntimeError:
            pass  # missing or damaged: the database has every vector
        vectors = VectorIndex(self._dimension)
        for i, blob in self._sql.execute("SELECT id, vector FROM blocks"):
            vectors.add([i], np.frombuffer(blob, np.float32)[None])
        return vectors

    def refresh(self) -> None:
        """Take in what another process wrote; what was written here is there already."""
        with self._lock:
            rows = self._sql.execute("SELECT id FROM blocks").fetchall()
            if set(self._vectors.ids.tolist()) != {id for (id,) in rows}:
                self._vectors = self._load_vectors()

    @property
    def _faiss_path(self) -> Path:
        return self.directory / "vectors.faiss"

    def add(
        self,
        document: Document,
        blocks: Sequence[Block],
        vectors: np.ndarray,
        kv_keys: Sequence[str],
        ids: Sequence[int] | None = None,
    ) -> list[str]:
        """Add a document with its blocks, in place of what the index held of the same text. Blocks that it held already
        keep their ids and vectors.

        Parameters
        ----------
        document : Document
        blocks : sequence of Block
        vectors : np.ndarray
            Unit vectors of the blocks, float32, shape ``(len(blocks), dimension)``.
        kv_keys : sequence of str
            Keys of the blocks' KV.
        ids : sequence of int, optional
            Of the blocks, never used for others; given by the index where they are not given.

        Returns
        -------
        list of str
            Keys of replaced blocks that no block of the index uses any more.
        """
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
                    self._sql.execute(
                        "UPDATE blocks SET n_tokens = ?, score = ? WHERE id = ?", (block.n_tokens, block.score, found)
                    )
                else:
                    added[self._insert(number, block, vector, key, id)] = vector
            self._sql.executemany("DELETE FROM blocks WHERE id = ?", [(id,) for id in gone])
            orphans = self._unused(list(gone.values()))
        self._update_vectors(list(gone), added)
        return orphans

    def _enter(self, document: Document) -> int:
        return self._sql.execute(
            "INSERT INTO documents (sha256, name, media_type, text) VALUES (?, ?, ?, ?) ON CONFLICT (sha256) "
            "DO UPDATE SET name = excluded.name, media_type = excluded.media_type RETURNING id",
            (document.sha256, document.name, document.media_type, document.text),
        ).fetchone()[0]

    def _blocks_of(self, number: int) -> dict[tuple[int, int, str], int]:
        rows = self._sql.execute('SELECT start, "end", kv_key, id FROM blocks WHERE document = ?', (number,))
        return {(start, end, key): id for start, end, key, id in rows}

    def _insert(self, number: int, block: Block, vector: np.ndarray, key: str, id: int | None) -> int:
        blob = vector.astype(np.float32).tobytes()
        return self._sql.execute(
            'INSERT INTO blocks (id, document, start, "end", n_tokens, score, kv_key, vector) '
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (id, number, block.start, block.end, block.n_tokens, block.score, key, blob),
        ).fetchone()[0]

    def delete(self, document_id: str) -> list[str]:
        """Remove a document; returns the KV keys that no block of the index uses any more."""
        with self._transaction():
            orphans, old_ids = self._remove(document_id)
            orphans = self._unused(orphans)
        self._update_vectors(old_ids, {})
        with self._lock:
            self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # deleted text leaves the log too
        return orphans

    def _remove(self, document_id: str) -> tuple[list[str], list[int]]:
        rows = self._sql.execute(
            "SELECT b.id, b.kv_key FROM blocks b JOIN documents d ON d.id = b.document WHERE d.sha256 = ?",
            (document_id,),
        ).fetchall()
        self._sql.execute("DELETE FROM documents WHERE sha256 = ?", (document_id,))
        return [key for _, key in rows], [i for i, _ in rows]

    def _unused(self, keys: Sequence[str]) -> list[str]:
        used = "SELECT 1 FROM blocks WHERE kv_key = ?"
        return [key for key in dict.fromkeys(keys) if not self._sql.execute(used, (key,)).fetchone()]

    def _update_vectors(self, old_ids: list[int], added: Mapping[int, np.ndarray]) -> None:
        if not old_ids and not added:
            return
        with self._lock:
            self._vectors.delete(old_ids)
            if added:
                self._vectors.add(list(added), np.stack(list(added.values())))
            self._vectors.save(self._faiss_path)

    def search(self, vector: np.ndarray, k: int) -> list[Found]:
        """The `k` blocks nearest to a unit vector of shape ``(dimension,)``, best first."""
        with self._lock:
            hits = self._vectors.search(vector, k)
            documents: dict[int, Document] = {}
            return [self._found(i, similarity, documents) for i, similarity in hits]

    def _found(self, block_id: int, similarity: float, documents: dict[int, Document]) -> Found:
        number, *block = self._sql.execute(
            'SELECT document, start, "end", n_tokens, score FROM blocks WHERE id = ?', (block_id,)
        ).fetchone()
        if number not in documents:
            select = "SELECT name, media_type, text FROM documents WHERE id = ?"
            documents[number] = Document(*self._sql.execute(select, (number,)).fetchone())
        return Found(documents[number], Block(*block), similarity)

    def find(self, document_id: str, start: int, vector: np.ndarray) -> Found | None:
        """The block that begins there, with its similarity to a unit vector; None where there is none."""
        with self._lock:
            row = self._sql.execute(
                "SELECT b.id, b.vector FROM blocks b JOIN documents d ON d.id = b.document "
                "WHERE d.sha256 = ? AND b.start = ?",
                (document_id, start),
            ).fetchone()
            return self._found(row[0], float(np.frombuffer(row[1], np.float32) @ vector), {}) if row else None

    def vectors(self, document_id: str) -> dict[str, np.ndarray]:
        """The vectors of a document's blocks, float32 ``(dimension,)``, by KV key."""
        with self._lock:
            rows = self._sql.execute(
                "SELECT b.kv_key, b.vector FROM blocks b JOIN documents d ON d.id = b.document WHERE d.sha256 = ?",
                (document_id,),
            )
            return {key: np.frombuffer(blob, np.float32) for key, blob in rows}

    def ids(self) -> dict[str, list[int]]:
        """Ids of the blocks of each document, in the order of its text."""
        found: dict[str, list[int]] = {}
        with self._lock:
            for document_id, id in self._sql.execute(
                "SELECT d.sha256, b.id FROM documents d LEFT JOIN blocks b ON b.document = d.id ORDER BY d.id, b.start"
            ):
                found.setdefault(document_id, []).extend([] if id is None else [id])
        return found

    def documents(self) -> list[DocumentRecord]:
        """All documents, in the order they were added."""
        with self._lock:
            rows = self._sql.execute(
                "SELECT d.sha256, d.name, count(b.id), coalesce(sum(b.n_tokens), 0) "
                "FROM documents d LEFT JOIN blocks b ON b.document = d.id GROUP BY d.id ORDER BY d.id"
            )
            return [DocumentRecord(*row) for row in rows]

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._vectors)

    def close(self) -> None:
        """Close the database; the index cannot be used afterwards."""
        self._sql.close()
