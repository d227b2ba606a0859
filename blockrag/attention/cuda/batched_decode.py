"""Decodes several answers in one pass, so that the weights are read once for all of them.

Decoding reads every weight for one token, so that four answers in one pass take little longer than one. A thread that
requests a token waits a moment for the slots of the last pass; the first thread to find all of them waiting runs the
pass for all. The pass always has a row for each slot; results of inactive slots are ignored.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import Cache

from blockrag.attention.cuda.fused import fused
from blockrag.attention.cuda.slot import Slot, TailLayer, side_stream
from blockrag.attention.gqa import UNMASKED
from blockrag.models.answer_model import AnswerModel

WINDOW_S = 0.002
"""Longest wait for the slots of the last pass; shorter than a pass."""


class BatchedDecode:
    """Decodes in several slots at once. Safe to use from several threads, each with its own slot.

    Parameters
    ----------
    model : AnswerModel
    slots : sequence of Slot
        All slots of a runner.
    """

    def __init__(self, model: AnswerModel, slots: Sequence[Slot]):
        self._model, self._slots = model, slots
        self._changed = threading.Condition()
        self._active: set[Slot] = set()
        self._last: set[Slot] = set()
        self._requests: dict[Slot, int] = {}
        self._results: dict[Slot, int | Exception] = {}
        self._running = False
        new = {"dtype": torch.long, "device": model.device}
        self._inputs = torch.zeros(len(slots), **new)
        self._graph, self._tokens = self._capture()

    @contextmanager
    def active(self, slot: Slot) -> Iterator[None]:
        """A context in which `slot` is decoded."""
        with self._changed:
            self._active.add(slot)
        try:
            yield
        finally:
            with self._changed:
                self._active.discard(slot)
                self._last.discard(slot)
                self._changed.notify_all()

    def is_shared(self) -> bool:
        """Whether more than one slot is being decoded."""
        return len(self._active) > 1

    def step(self, slot: Slot, token: int) -> int:
        """The most likely token after `token`, computed together with the other slots' requests."""
        with self._changed:
            self._requests[slot] = token
            self._changed.notify_all()
            batch = self._await_batch(slot)
            if batch is None:
                return self._take_result(slot)
        results = self._run_batch(batch)
        with self._changed:
            self._results.update(results)
            self._running, self._last = False, set(batch) & self._active
            self._changed.notify_all()
            return self._take_result(slot)

    def _await_batch(self, slot: Slot) -> dict[Slot, int] | None:
        """The batch, if this thread is to run it; None once another thread has run it."""
        deadline = time.monotonic() + WINDOW_S
        while slot not in self._results:
            late = time.monotonic() >= deadline
            if not self._running and slot in self._requests and (late or self._last <= set(self._requests)):
                batch, self._requests, self._running = self._requests, {}, True
                return batch
            self._changed.wait(None if late else deadline - time.monotonic())
        return None

    def _take_result(self, slot: Slot) -> int:
        results = self._results.pop(slot)
        if isinstance(results, Exception):
            raise results
        return results

    def _run_batch(self, batch: dict[Slot, int]) -> dict[Slot, int | Exception]:
        try:
            return dict(zip(batch, self._pass(batch), strict=True))
        except Exception as error:  # noqa: BLE001  (each waiting thread raises it)
            return dict.fromkeys(batch, error)

    def _pass(self, batch: dict[Slot, int]) -> list[int]:
        tokens = torch.tensor([batch.get(slot, 0) for slot in self._slots]).pin_memory()
        with Slot.launching:
            self._inputs.copy_(tokens, non_blocking=True)
            for slot in self._slots:
                slot.write_counts()
            self._graph.replay()
            chosen = self._tokens.clone()
            for slot in batch:
                slot.n_tail += 1
        results = dict(zip(self._slots, chosen.tolist(), strict=True))
        return [results[slot] for slot in batch]

    @torch.inference_mode()
    def _capture(self) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        with fused(self._model.network), torch.cuda.stream(side_stream()):
            for _ in range(2):
                self._forward()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                tokens = self._forward()
        return graph, tokens

    def _forward(self) -> torch.Tensor:
        layers = [_TailLayers([slot.tail(i) for slot in self._slots]) for i in range(self._model.n_layers)]

        def attend(module: Any, query: Any, key: Any, value: Any, scaling: float) -> torch.Tensor:
            rows = [slot.attend(module, query[:, :, i : i + 1], scaling, 1) for i, slot in enumerate(self._slots)]
            return torch.cat(rows, dim=1)

        logits = self._model.network(
            input_ids=self._inputs[None],
            position_ids=torch.stack([slot.position for slot in self._slots])[None],
            attention_mask=UNMASKED,
            past_key_values=Cache(layers=layers),
            use_cache=True,
            attend=attend,
        ).logits
        return logits[0].argmax(dim=-1)


class _TailLayers(TailLayer):
    """One layer's tails of several slots, one token for each."""

    def __init__(self, tails: Sequence[TailLayer]):
        super().__init__(tails[0].keys, tails[0].values, tails[0].counts)
        self._tails = tails

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write each token's states into its own slot's tail."""
        for i, tail in enumerate(self._tails):
            tail.update(key_states[:, :, i : i + 1], value_states[:, :, i : i + 1])
        return key_states, value_states
