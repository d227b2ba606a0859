"""Order blocks with a cross-encoder, which reads question and block together."""

import threading
from collections.abc import Sequence
from importlib import import_module

from blockrag import arguments
from blockrag.documents.document import without_surrogates
from blockrag.models import local_path


class Reranker:
    """A cross-encoder of sentence-transformers, such as ``cross-encoder/ms-marco-MiniLM-L6-v2``.

    Parameters
    ----------
    name : str
        See `blockrag.models.local_path`.
    device : str, optional
        Such as ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    ArgumentError, WeightsError
    """

    def __init__(self, name: str, device: str | None = None):
        self.name = name
        folder = str(local_path(arguments.path_of("reranker", name, "the name or the folder of a model")))
        # Imported here, since it takes seconds.
        self._model = import_module("sentence_transformers").CrossEncoder(folder, device=device)
        self._lock = threading.Lock()

    def order(self, question: str, texts: Sequence[str]) -> list[int]:
        """The positions of `texts`, the one that answers the question best first."""
        if not texts:
            return []
        pairs = [(without_surrogates(question), without_surrogates(text)) for text in texts]
        with self._lock:
            scores = self._model.predict(pairs, show_progress_bar=False)
        return sorted(range(len(texts)), key=lambda i: -float(scores[i]))
