"""The final block on CUDA as captured graphs. Lends slots to answers in flight; knows one model."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch

from blockrag.attention.cuda.batched_decode import BatchedDecode
from blockrag.attention.cuda.slot import LENGTHS, Slot
from blockrag.attention.kv_cache import PreallocatedCache
from blockrag.attention.runner import Joined, PlainRunner, Runner
from blockrag.generate import prefill
from blockrag.kv.block_kv import BlockKV
from blockrag.models.answer_model import AnswerModel

TAIL_TOKENS = 2048
"""Room of a slot's tail: a question and its answer. Longer ones take the plain way."""


class GraphRunner(Runner):
    """Lends slots; who comes when all are lent waits for one.

    All graphs are captured when it is made: nothing else may run on the device while a graph is captured.

    Parameters
    ----------
    model : AnswerModel
        On a GPU, with heads of 2^n components.
    n_lanes : int
        Answers at once; several are decoded together.
    """

    def __init__(self, model: AnswerModel, n_lanes: int = 1):
        self._model, self._plain = model, PlainRunner(model)
        self._spare = [Slot(model, TAIL_TOKENS) for _ in range(n_lanes)]
        self._choir = BatchedDecode(model, tuple(self._spare)) if n_lanes > 1 else None
        self._returned = threading.Condition()

    @contextmanager
    def join(self, parts: Sequence[BlockKV], room: int) -> Iterator[Joined]:
        """See `Runner`."""
        if room > TAIL_TOKENS:
            with self._plain.join(parts, room) as joined:
                yield joined
            return
        with self._lane() as slot:
            yield _GraphJoined(self._model, slot, self._choir, parts)

    @contextmanager
    def _lane(self) -> Iterator[Slot]:
        with self._returned:
            self._returned.wait_for(lambda: self._spare)
            slot = self._spare.pop()
        try:
            yield slot
        finally:
            slot.release()
            with self._returned:
                self._spare.append(slot)
                self._returned.notify()


class _GraphJoined(Joined):
    path = "cuda graphs"

    def __init__(self, model: AnswerModel, slot: Slot, batch: BatchedDecode | None, parts: Sequence[BlockKV]):
        self._model, self._lane, self._choir = model, slot, batch
        self._hold(parts)

    def _hold(self, parts: Sequence[BlockKV]) -> None:
        """Keeps the blocks alive while the table has their addresses."""
        self.parts = self._lane.hold(parts)

    @property
    def n_tokens(self) -> int:
        return self._lane.n_before + self._lane.n_tail

    def settle(self) -> None:
        self._lane.settle()

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
        """Alone, each step but the first begins before its predecessor's token is read, so that the GPU never waits;
        in company, it is the batch's."""
        token = int(self.logits(token_ids).argmax())
        yield token
        with self._choir.taking_part(self._lane) if self._choir else nullcontext():
            begun: torch.Tensor | None = None
            while True:
                self._check_room(begun)
                if begun is None and self._has_company():
                    token = self._choir.step(self._lane, token)
                else:
                    token, begun = self._step_alone(token if begun is None else begun)
                yield token

    def _step_alone(self, before: int | torch.Tensor) -> tuple[int, torch.Tensor | None]:
        """The next token (`before` is the last one, or the next one, begun already), and the one after it, begun."""
        token = self._lane.follow(before) if isinstance(before, int) else before
        told = self._lane.tell(token)
        more = self._lane.n_tail < self._lane.capacity and not self._has_company()
        begun = self._lane.follow(token) if more else None
        return told(), begun

    def _has_company(self) -> bool:
        return self._choir is not None and self._choir.has_company()

    def _check_room(self, begun: torch.Tensor | None) -> None:
        if begun is None and self._lane.n_tail >= self._lane.capacity:
            raise ValueError(f"the slot holds {self._lane.capacity} tokens, and more were asked for")
