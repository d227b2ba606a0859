"""Several answers decoded in one pass: the weights are read once for all of them. Knows lanes, not answers.

Decoding reads every weight for one token, so that four answers in one pass take little longer than one. Whoever asks
for a token waits a moment for those who were there at the last pass; the first to find all of them waiting runs the
pass for all. The pass always has a row for each lane; rows of lanes that do not take part compute what nobody reads.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import Cache

from blockrag.attention.cuda.fused import fused
from blockrag.attention.cuda.lane import Lane, TailLayer, beside
from blockrag.attention.packed import UNMASKED
from blockrag.models.answer_model import AnswerModel

WINDOW_S = 0.002
"""Longest wait for those who were there at the last pass: a part of the time of a pass."""


class Choir:
    """Decodes in some of its lanes at once. Safe to use from several threads, each with its own lane.

    Parameters
    ----------
    model : AnswerModel
    lanes : sequence of Lane
        All of them, always the same.
    """

    def __init__(self, model: AnswerModel, lanes: Sequence[Lane]):
        self._model, self._lanes = model, lanes
        self._changed = threading.Condition()
        self._singing: set[Lane] = set()
        self._last: set[Lane] = set()
        self._asked: dict[Lane, int] = {}
        self._told: dict[Lane, int | Exception] = {}
        self._running = False
        new = {"dtype": torch.long, "device": model.device}
        self._inputs = torch.zeros(len(lanes), **new)
        self._graph, self._tokens = self._capture()

    @contextmanager
    def taking_part(self, lane: Lane) -> Iterator[None]:
        """A context in which `lane` is decoded."""
        with self._changed:
            self._singing.add(lane)
        try:
            yield
        finally:
            with self._changed:
                self._singing.discard(lane)
                self._last.discard(lane)
                self._changed.notify_all()

    def has_company(self) -> bool:
        """Whether more than one lane is being decoded."""
        return len(self._singing) > 1

    def step(self, lane: Lane, token: int) -> int:
        """The most likely token after `token`, computed together with what others ask for."""
        with self._changed:
            self._asked[lane] = token
            self._changed.notify_all()
            batch = self._await_turn(lane)
            if batch is None:
                return self._hear(lane)
        told = self._sing(batch)
        with self._changed:
            self._told.update(told)
            self._running, self._last = False, set(batch) & self._singing
            self._changed.notify_all()
            return self._hear(lane)

    def _await_turn(self, lane: Lane) -> dict[Lane, int] | None:
        """What to run, where it is for this thread to run it; None once another has."""
        deadline = time.monotonic() + WINDOW_S
        while lane not in self._told:
            late = time.monotonic() >= deadline
            if not self._running and lane in self._asked and (late or self._last <= set(self._asked)):
                batch, self._asked, self._running = self._asked, {}, True
                return batch
            self._changed.wait(None if late else deadline - time.monotonic())
        return None

    def _hear(self, lane: Lane) -> int:
        told = self._told.pop(lane)
        if isinstance(told, Exception):
            raise told
        return told

    def _sing(self, batch: dict[Lane, int]) -> dict[Lane, int | Exception]:
        try:
            return dict(zip(batch, self._pass(batch), strict=True))
        except Exception as error:  # noqa: BLE001  (each of those who wait raises it)
            return dict.fromkeys(batch, error)

    def _pass(self, batch: dict[Lane, int]) -> list[int]:
        tokens = torch.tensor([batch.get(lane, 0) for lane in self._lanes]).pin_memory()
        with Lane.launching:
            self._inputs.copy_(tokens, non_blocking=True)
            for lane in self._lanes:
                lane.place()
            self._graph.replay()
            chosen = self._tokens.clone()
            for lane in batch:
                lane.n_tail += 1
        told = dict(zip(self._lanes, chosen.tolist(), strict=True))
        return [told[lane] for lane in batch]

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
        layers = [_TailLayers([lane.tail(i) for lane in self._lanes]) for i in range(self._model.n_layers)]

        def attend(module: Any, query: Any, key: Any, value: Any, scaling: float) -> torch.Tensor:
            rows = [lane.attend(module, query[:, :, i : i + 1], scaling, 1) for i, lane in enumerate(self._lanes)]
            return torch.cat(rows, dim=1)

        logits = self._model.network(
            input_ids=self._inputs[None],
            position_ids=torch.stack([lane.position for lane in self._lanes])[None],
            attention_mask=UNMASKED,
            past_key_values=Cache(layers=layers),
            use_cache=True,
            attend=attend,
        ).logits
        return logits[0].argmax(dim=-1)


class _TailLayers(TailLayer):
    """One layer's tails of several lanes: a token for each."""

    def __init__(self, tails: Sequence[TailLayer]):
        super().__init__(tails[0].keys, tails[0].values, tails[0].places)
        self._tails = tails

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write each token's states into its own lane's tail."""
        for i, tail in enumerate(self._tails):
            tail.update(key_states[:, :, i : i + 1], value_states[:, :, i : i + 1])
        return key_states, value_states
