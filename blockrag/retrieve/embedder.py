"""Embed text with sentence-transformers."""

import threading
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np

from blockrag.documents.document import without_surrogates


class Embedder:
    """A sentence encoder with unit vectors, so that inner product is cosine similarity.

    Parameters
    ----------
    folder : Path
        A sentence-transformers model.
    weights_id : str
        Hash of its weights; an index made by other weights is refused.
    device : str, optional
        Such as ``"cpu"`` or ``"cuda"``; chosen by sentence-transformers where absent.
    """

    def __init__(self, folder: Path, weights_id: str, device: str | None = None):
        self.weights_id = weights_id
        self._made_from = (folder, weights_id, device)
        # Imported here, since it takes seconds.
        self._model = import_module("sentence_transformers").SentenceTransformer(str(folder), device=device)
        # Blocks are longer than the 256 word pieces that MiniLM is set to; its position table has room for 512.
        self._model.max_seq_length = self._model[0].auto_model.config.max_position_embeddings
        self._lock = threading.Lock()  # a fast tokenizer set to pad and truncate is not safe in two threads

    def __reduce__(self) -> tuple[type["Embedder"], tuple[Path, str, str | None]]:
        """Another process loads the weights again."""
        return Embedder, self._made_from

    @cached_property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.embed([""]).shape[1]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float32, shape ``(len(texts), dimension)``."""
        with self._lock:
            return self._model.encode(
                list(map(without_surrogates, texts)),
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
