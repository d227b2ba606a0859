"""Vectors in memory, searched by FAISS.

The caller gives the ids and never uses one again; FAISS's own counting (`ntotal`) would give a new vector the id of an
old one after a deletion.
"""

from collections.abc import Collection, Sequence
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

    Attributes
    ----------
    ids : set of int
        All ids; not to be changed.
    """

    def __init__(self, dimension: int):
        self._faiss: Any = faiss.IndexIDMap(faiss.IndexFlatIP(dimension))
        self.ids: set[int] = set()

    def __len__(self) -> int:
        return self._faiss.ntotal

    def add(self, ids: Sequence[int], vectors: np.ndarray) -> None:
        """Add vectors ``(len(ids), dimension)``, float32.

        Raises
        ------
        ValueError
            If an id is present already.
        """
        if known := self.ids.intersection(ids):
            raise ValueError(f"ids {sorted(known)} are in the index already; ids are never reused")
        if len(ids):
            self._faiss.add_with_ids(np.ascontiguousarray(vectors, np.float32), np.asarray(ids, dtype=np.int64))
            self.ids.update(ids)

    def delete(self, ids: Collection[int]) -> None:
        """Remove these ids; unknown ones are ignored."""
        if len(ids):
            self._faiss.remove_ids(faiss.IDSelectorBatch(np.fromiter(ids, np.int64, len(ids))))
            self.ids.difference_update(ids)

    def search(self, vector: np.ndarray, k: int, among: Collection[int] | None = None) -> list[tuple[int, float]]:
        """The `k` nearest ``(id, cosine similarity)``, best first; fewer where there are fewer, in the index or among
        these ids."""
        k = min(k, len(self) if among is None else len(among))
        if k == 0:
            return []
        params = None
        if among is not None:
            params = faiss.SearchParameters()
            params.sel = faiss.IDSelectorBatch(np.fromiter(among, np.int64, len(among)))
        scores, ids = self._faiss.search(np.asarray(vector, np.float32)[None], k, params=params)
        return [(int(i), float(s)) for i, s in zip(ids[0], scores[0], strict=True)]
