"""Several answers decoded in one pass: the weights are read once for all of them. Knows slots, not answers.

Decoding reads every weight for one token, so that four answers in one pass take little longer than one. Whoever asks
for a token waits a moment for those who were there at the last pass; the first to find all of them waiting runs the
pass for all. The pass always has a row for each slot; rows of slots that do not take part compute what nobody reads.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import Cache

from blockrag.attention.cuda.fused import fused
from blockrag.attention.cuda.slot import Slot, TailLayer, beside
from blockrag.attention.gqa import UNMASKED
from blockrag.models.answer_model import AnswerModel

WINDOW_S = 0.002
"""Longest wait for those who were there at the last pass: a part of the time of a pass."""


class BatchedDecode:
    """Decodes in some of its slots at once. Safe to use from several threads, each with its own slot.

    Parameters
    ----------
    model : AnswerModel
    slots : sequence of Slot
        All of them, always the same.
    """

    def __init__(self, model: AnswerModel, slots: Sequence[Slot]):
        self._model, self._lanes = model, slots
        self._changed = threading.Condition()
        self._singing: set[Slot] = set()
        self._last: set[Slot] = set()
        self._asked: dict[Slot, int] = {}
        self._told: dict[Slot, int | Exception] = {}
        self._running = False
        new = {"dtype": torch.long, "device": model.device}
        self._inputs = torch.zeros(len(slots), **new)
        self._graph, self._tokens = self._capture()

    @contextmanager
    def taking_part(self, slot: Slot) -> Iterator[None]:
        """A context in which `slot` is decoded."""
        with self._changed:
            self._singing.add(slot)
        try:
            yield
        finally:
            with self._changed:
                self._singing.discard(slot)
                self._last.discard(slot)
                self._changed.notify_all()

    def has_company(self) -> bool:
        """Whether more than one slot is being decoded."""
        return len(self._singing) > 1

    def step(self, slot: Slot, token: int) -> int:
        """The most likely token after `token`, computed together with what others ask for."""
        with self._changed:
            self._asked[slot] = token
            self._changed.notify_all()
            batch = self._await_turn(slot)
            if batch is None:
                return self._hear(slot)
        told = self._sing(batch)
        with self._changed:
            self._told.update(told)
            self._running, self._last = False, set(batch) & self._singing
            self._changed.notify_all()
            return self._hear(slot)

    def _await_turn(self, slot: Slot) -> dict[Slot, int] | None:
        """What to run, where it is for this thread to run it; None once another has."""
        deadline = time.monotonic() + WINDOW_S
        while slot not in self._told:
            late = time.monotonic() >= deadline
            if not self._running and slot in self._asked and (late or self._last <= set(self._asked)):
                batch, self._asked, self._running = self._asked, {}, True
                return batch
            self._changed.wait(None if late else deadline - time.monotonic())
        return None

    def _hear(self, slot: Slot) -> int:
        told = self._told.pop(slot)
        if isinstance(told, Exception):
            raise told
        return told

    def _sing(self, batch: dict[Slot, int]) -> dict[Slot, int | Exception]:
        try:
            return dict(zip(batch, self._pass(batch), strict=True))
        except Exception as error:  # noqa: BLE001  (each of those who wait raises it)
            return dict.fromkeys(batch, error)

    def _pass(self, batch: dict[Slot, int]) -> list[int]:
        tokens = torch.tensor([batch.get(slot, 0) for slot in self._lanes]).pin_memory()
        with Slot.launching:
            self._inputs.copy_(tokens, non_blocking=True)
            for slot in self._lanes:
                slot.place()
            self._graph.replay()
            chosen = self._tokens.clone()
            for slot in batch:
                slot.n_tail += 1
        told = dict(zip(self._lanes, chosen.tolist(), strict=True))
        return [told[slot] for slot in batch]

    @torch.inference_mode()
    def _capture(self) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        with fused(self._model.network), torch.cuda.stream(beside()):
            for _ in range(2):
                self._forward()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                tokens = self._forward()
        return graph, tokens

    def _forward(self) -> torch.Tensor:
        layers = [_TailLayers([slot.tail(i) for slot in self._lanes]) for i in range(self._model.n_layers)]

        def attend(module: Any, query: Any, key: Any, value: Any, scaling: float) -> torch.Tensor:
            rows = [slot.attend(module, query[:, :, i : i + 1], scaling, 1) for i, slot in enumerate(self._lanes)]
            return torch.cat(rows, dim=1)

        logits = self._model.network(
            input_ids=self._inputs[None],
            position_ids=torch.stack([slot.position for slot in self._lanes])[None],
            attention_mask=UNMASKED,
            past_key_values=Cache(layers=layers),
            use_cache=True,
            attend=attend,
        ).logits
        return logits[0].argmax(dim=-1)


class _TailLayers(TailLayer):
    """One layer's tails of several slots: a token for each."""

    def __init__(self, tails: Sequence[TailLayer]):
        super().__init__(tails[0].keys, tails[0].values, tails[0].places)
        self._tails = tails

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write each token's states into its own slot's tail."""
        for i, tail in enumerate(self._tails):
            tail.update(key_states[:, :, i : i + 1], value_states[:, :, i : i + 1])
        return key_states, value_states
