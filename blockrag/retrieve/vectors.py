"""The vector index: FAISS under ids of our own. Knows no text and no database.

Ids are given by the caller and never reused; FAISS's own counting (`ntotal`) would give a new block the id of an old
one after a deletion.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

try:
    import faiss
except ModuleNotFoundError as error:  # faiss-cpu and faiss-gpu exclude each other, so that neither is required
    raise ModuleNotFoundError(
        "FAISS is missing; pip install 'blockrag[cpu]', or 'blockrag[gpu]' where one is"
    ) from error


class VectorIndex:
    """Exact inner-product search over unit vectors.

    Parameters
    ----------
    dimension : int
        Length of a vector.
    """

    def __init__(self, dimension: int):
        self._faiss: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))

    def __len__(self) -> int:
        return self._faiss.ntotal

    @property
    def ids(self) -> np.ndarray:
        """All ids, int64, in no particular order."""
        return faiss.vector_to_array(self._faiss.id_map)

    def add(self, ids: Sequence[int], vectors: np.ndarray) -> None:
        """Add vectors ``(len(ids), dimension)``, float32.

        Raises
        ------
        ValueError
            If an id is present already.
        """
        known = np.intersect1d(self.ids, np.asarray(ids, dtype=np.int64))
        if len(known):
            raise ValueError(f"ids {known.tolist()} are in the index already; ids are never reused")
        self._faiss.add_with_ids(np.ascontiguousarray(vectors, np.float32), np.asarray(ids, dtype=np.int64))

    def delete(self, ids: Sequence[int]) -> None:
        """Remove these ids; unknown ones are passed over."""
        self._faiss.remove_ids(faiss.IDSelectorBatch(np.asarray(ids, dtype=np.int64)))

    def search(self, vector: np.ndarray, k: int) -> list[tuple[int, float]]:
        """The `k` nearest ``(id, cosine similarity)``, best first; fewer where the index holds fewer."""
        k = min(k, len(self))
        if k == 0:
            return []
        scores, ids = self._faiss.search(np.asarray(vector, np.float32)[None], k)
        return [(int(i), float(s)) for i, s in zip(ids[0], scores[0], strict=True)]

    def save(self, path: Path) -> None:
        """Write to `path`, aside and renamed (rule 8)."""
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        faiss.write_index(self._faiss, str(aside))
        os.replace(aside, path)

    @classmethod
    def load(cls, path: Path) -> "VectorIndex":
        """Read what `save` wrote. Raises `RuntimeError` (from FAISS) where it is missing or damaged."""
        stored = faiss.read_index(str(path))
        index = cls(stored.d)
        index._faiss = stored
        return index
