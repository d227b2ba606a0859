"""Runs the final block on CUDA by captured graphs; each answer in flight borrows a slot."""

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
"""Capacity of a slot's tail, for a question and its answer. Longer ones take the plain path."""


class GraphRunner(Runner):
    """Lends slots; when all are in use, `join` waits for one.

    All graphs are captured in the constructor: nothing else may run on the device while a graph is captured.

    Parameters
    ----------
    model : AnswerModel
        On a GPU, with heads of 2^n components.
    n_slots : int
        Answers at once; several are decoded together.
    """

    def __init__(self, model: AnswerModel, n_slots: int = 1):
        self._model, self._plain = model, PlainRunner(model)
        self._spare = [Slot(model, TAIL_TOKENS) for _ in range(n_slots)]
        self._batched = BatchedDecode(model, tuple(self._spare)) if n_slots > 1 else None
        self._returned = threading.Condition()

    @contextmanager
    def join(self, parts: Sequence[BlockKV], room: int) -> Iterator[Joined]:
        """See `Runner`."""
        if room > TAIL_TOKENS:
            with self._plain.join(parts, room) as joined:
                yield joined
            return
        with self._slot() as slot:
            yield _GraphJoined(self._model, slot, self._batched, parts)

    @contextmanager
    def _slot(self) -> Iterator[Slot]:
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

    def __init__(self, model: AnswerModel, slot: Slot, batched: BatchedDecode | None, parts: Sequence[BlockKV]):
        self._model, self._slot, self._batched = model, slot, batched
        self._hold(parts)

    def _hold(self, parts: Sequence[BlockKV]) -> None:
        """Keep the blocks alive while the table has their addresses."""
        self.parts = self._slot.hold(parts)

    @property
    def n_tokens(self) -> int:
        return self._slot.n_before + self._slot.n_tail

    def settle(self) -> None:
        self._slot.settle()

    def logits(self, token_ids: Sequence[int]) -> torch.Tensor:
        if not self.parts and not self._slot.n_tail and len(token_ids) > LENGTHS[-1]:
            return self._prefill_whole(token_ids)
        for start in range(0, len(token_ids), LENGTHS[-1]):
            logits = self._slot.logits(token_ids[start : start + LENGTHS[-1]])
        return logits

    def _prefill_whole(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Run a prompt without blocks as `transformers` does; it is a block for the tokens that follow."""
        storage = self._model.kv_storage(len(token_ids))
        logits = prefill(self._model, token_ids, PreallocatedCache(storage))
        self._hold([BlockKV(storage[0, :, 0], storage[1, :, 0])])
        return logits

    def greedy(self, token_ids: Sequence[int]) -> Iterator[int]:
        """One answer alone: each step but the first begins before the token before it is read, so that the GPU never
        waits. Several answers: batched steps."""
        token = int(self.logits(token_ids).argmax())
        yield token
        with self._batched.active(self._slot) if self._batched else nullcontext():
            begun: torch.Tensor | None = None
            while True:
                self._check_room(begun)
                if begun is None and self._is_shared():
                    token = self._batched.step(self._slot, token)
                else:
                    token, begun = self._step_alone(token if begun is None else begun)
                yield token

    def _step_alone(self, before: int | torch.Tensor) -> tuple[int, torch.Tensor | None]:
        """The next token, and the one after it, begun. `before` is the last token, or the next one, begun already."""
        token = self._slot.next_token(before) if isinstance(before, int) else before
        read = self._slot.read_back(token)
        more = self._slot.n_tail < self._slot.capacity and not self._is_shared()
        begun = self._slot.next_token(token) if more else None
        return read(), begun

    def _is_shared(self) -> bool:
        return self._batched is not None and self._batched.is_shared()

    def _check_room(self, begun: torch.Tensor | None) -> None:
        if begun is None and self._slot.n_tail >= self._slot.capacity:
            raise ValueError(f"the slot holds {self._slot.capacity} tokens, and more were asked for")
