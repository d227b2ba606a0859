"""Storage for the KV of prompts, reused from answer to answer.

On a CPU the first touch of 200 MB of fresh memory takes longer than joining the blocks in it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from blockrag.models.answer_model import AnswerModel

WARM_TOKENS = 4608
"""Tokens of the storage that is allocated at the start on a CPU: a context of 4,096 with its question and answer."""


class BufferPool:
    """Lends storage, and keeps the largest that is returned. Safe to use from several threads.

    Parameters
    ----------
    model : AnswerModel
        For the shape of its KV.
    """

    def __init__(self, model: AnswerModel):
        self._model = model
        self._lock = threading.Lock()
        self._spare: torch.Tensor | None = None
        if model.device.type == "cpu":
            self._spare = model.kv_storage(min(WARM_TOKENS, model.max_tokens)).zero_()

    @contextmanager
    def take(self, n_tokens: int) -> Iterator[torch.Tensor]:
        """Storage for at least `n_tokens`, shape ``(2, layers, 1, kv_heads, capacity, head_dim)``, uninitialised."""
        with self._lock:
            storage, self._spare = self._spare, None
        if storage is None or storage.shape[-2] < n_tokens:
            storage = self._model.kv_storage(n_tokens)
        try:
            yield storage
        finally:
            with self._lock:
                if self._spare is None or self._spare.shape[-2] < storage.shape[-2]:
                    self._spare = storage
