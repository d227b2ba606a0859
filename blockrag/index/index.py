"""An index on disk: documents, their blocks, and a vector for each block. Knows no model; KV is kept beside it.

A directory with one SQLite file, which is the truth, and one FAISS file, which is a cache of the vectors in it: where
the two disagree (a process was killed between them) the FAISS file is made anew. Several processes may read; writers
take turns through SQLite.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blockrag.documents import Document
from blockrag.index.database import Change, Database
from blockrag.index.records import DocumentRecord, Found
from blockrag.retrieve.vectors import VectorIndex
from blockrag.segment import Block


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
        directory.mkdir(parents=True, exist_ok=True)
        self._database = Database(directory, made_by)
        self._faiss_path, self._dimension = directory / "vectors.faiss", dimension
        self._vectors = self._load_vectors()

    def _load_vectors(self) -> VectorIndex:
        """The FAISS file, or, where it does not hold exactly the blocks of the database, a new one."""
        try:
            vectors = VectorIndex.load(self._faiss_path)
            if self._in_step(vectors):
                return vectors
        except RuntimeError:
            pass  # missing or damaged: the database has every vector
        vectors = VectorIndex(self._dimension)
        for id, vector in self._database.vectors():
            vectors.add([id], vector[None])
        return vectors

    def refresh(self) -> None:
        """Take in what another process wrote; what was written here is there already."""
        with self._database.lock:
            if not self._in_step(self._vectors):
                self._vectors = self._load_vectors()

    def _in_step(self, vectors: VectorIndex) -> bool:
        return sorted(vectors.ids.tolist()) == self._database.ids()

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
        change = self._database.put(document, blocks, vectors, kv_keys, ids)
        self._follow(change)
        return change.orphans

    def delete(self, document_id: str) -> list[str]:
        """Remove a document; returns the KV keys that no block of the index uses any more."""
        change = self._database.delete(document_id)
        self._follow(change)
        return change.orphans

    def _follow(self, change: Change) -> None:
        if not change.gone and not change.added:
            return
        with self._database.lock:
            self._vectors.delete(change.gone)
            if change.added:
                self._vectors.add(list(change.added), np.stack(list(change.added.values())))
            self._vectors.save(self._faiss_path)

    def search(self, vector: np.ndarray, k: int) -> list[Found]:
        """The `k` blocks nearest to a unit vector of shape ``(dimension,)``, best first."""
        documents: dict[int, Document] = {}
        with self._database.lock:
            hits = self._vectors.search(vector, k)
            return [self._database.block(id, similarity, documents) for id, similarity in hits]

    def find(self, document_id: str, start: int, vector: np.ndarray) -> Found | None:
        """The block that begins there, with its similarity to a unit vector; None where there is none."""
        with self._database.lock:
            at = self._database.block_at(document_id, start)
            return self._database.block(at[0], float(at[1] @ vector), {}) if at else None

    def vectors(self, document_id: str) -> dict[str, np.ndarray]:
        """The vectors of a document's blocks, float32 ``(dimension,)``, by KV key."""
        return self._database.vectors_of(document_id)

    def ids(self) -> dict[str, list[int]]:
        """Ids of the blocks of each document, in the order of its text."""
        return self._database.ids_by_document()

    def documents(self) -> list[DocumentRecord]:
        """All documents, in the order they were added."""
        return self._database.documents()

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._vectors)

    def close(self) -> None:
        """Close the database; the index cannot be used afterwards."""
        self._database.close()
