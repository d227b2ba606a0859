"""The final block on CUDA as captured graphs. Lends lanes to answers in flight; knows one model."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from blockrag.attention.cache import PreallocatedCache
from blockrag.attention.cuda.lane import LENGTHS, Lane
from blockrag.attention.runner import Joined, Runner
from blockrag.generate import prefill
from blockrag.kv.block_kv import BlockKV
from blockrag.models.answer_model import AnswerModel

TAIL_TOKENS = 1024
"""Room of a lane's tail at least: a question and its answer."""


class GraphRunner(Runner):
    """Keeps as many lanes as there were answers in flight at once.

    Parameters
    ----------
    model : AnswerModel
        On a GPU, with heads of 2^n components.
    """

    def __init__(self, model: AnswerModel):
        self._model = model
        self._lock = threading.Lock()
        self._spare = [Lane(model, TAIL_TOKENS)]

    @contextmanager
    def join(self, parts: Sequence[BlockKV], room: int) -> Iterator[Joined]:
        """See `Runner`."""
        lane = self._take(room) or Lane(self._model, max(room, TAIL_TOKENS))
        try:
            yield _GraphJoined(self._model, lane, parts)
        finally:
            lane.release()
            with self._lock:
                self._spare.append(lane)

    def _take(self, room: int) -> Lane | None:
        with self._lock:
            fitting = [lane for lane in self._spare if lane.capacity >= room]
            if not fitting:
                return None
            lane = min(fitting, key=lambda lane: lane.capacity)
            self._spare.remove(lane)
            return lane


class _GraphJoined(Joined):
    path = "cuda graphs"

    def __init__(self, model: AnswerModel, lane: Lane, parts: Sequence[BlockKV]):
        self._model, self._lane = model, lane
        self._hold(parts)

    def _hold(self, parts: Sequence[BlockKV]) -> None:
        """Keeps the blocks alive while the table has their addresses."""
        self.parts = self._lane.hold(parts)

    @property
    def n_tokens(self) -> int:
        return self._lane.n_before + self._lane.n_tail

    def logits(self, token_ids: Sequence[int]) -> torch.Tensor:
        if not self.parts and not self._lane.n_tail and len(token_ids) > LENGTHS[-1]:
            return self._prefill_whole(token_ids)
        for start in range(0, len(token_ids), LENGTHS[-1]):
            logits = self._lane.logits(token_ids[start : start + LENGTHS[-1]])
        return logits

    def _prefill_whole(self, token_ids: Sequence[int]) -> torch.Tensor:
        """A prompt without blocks runs as `transformers` runs it, and is a block for what follows."""
        storage = self._model.kv_storage(len(token_ids))
        logits = prefill(self._model, token_ids, PreallocatedCache(storage))
        self._hold([BlockKV(storage[0, :, 0], storage[1, :, 0])])
        return logits

    def greedy(self, token_ids: Sequence[int]) -> Iterator[int]:
        """Each step but the first begins before its predecessor's token is read here, so that the GPU never waits."""
        token = self.logits(token_ids).argmax()
        yield int(token)
        token = self._lane.follow(token)
        while True:
            told = self._lane.tell(token)
            following = self._lane.follow(token) if self._lane.n_tail < self._lane.capacity else None
            yield told()
            if following is None:
                raise ValueError(f"the lane holds {self._lane.capacity} tokens, and more were asked for")
            token = following
