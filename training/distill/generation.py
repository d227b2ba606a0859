"""Continuous batching: answer many prompts with one network, greedily or by sampling.

Prompts are packed for prefill; then all rows are decoded together, one token per step. A finished row takes the next
prompt at once. On CUDA a step is one captured graph.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.cache_utils import Cache

from blockrag.attention.assemble import assemble
from blockrag.attention.gqa import UNMASKED
from blockrag.attention.kv_cache import FixedLayer
from blockrag.generate import end_tokens, prefill
from blockrag.kv.block_kv import BlockKV
from blockrag.models.answer_model import AnswerModel
from training.distill.attention import flash_varlen

PREFILL_TOKENS = 16384
"""Prompts are added to a prefill until it has this many tokens."""

LIMIT_STEP = 512
"""Attention reads a multiple of this many keys; each multiple has its own graph."""


@dataclass(frozen=True)
class Request:
    """One conversation to complete.

    Attributes
    ----------
    key : Hashable
        Identifies the request in its `Completion`.
    prompt_ids : sequence of int
        Up to the header of the first answer.
    follow_ups : sequence of sequences of int
        Further questions with their answers' headers; each is fed after the end token of the previous answer.
    max_new_tokens : int
        Maximum tokens of an answer, without the end token.
    temperature : float
        0 is greedy.
    """

    key: Hashable
    prompt_ids: Sequence[int]
    follow_ups: Sequence[Sequence[int]] = ()
    max_new_tokens: int = 96
    temperature: float = 0.0

    @property
    def n_tokens(self) -> int:
        """Maximum tokens of the whole conversation."""
        n_answers = len(self.follow_ups) + 1
        return len(self.prompt_ids) + sum(map(len, self.follow_ups)) + n_answers * (self.max_new_tokens + 1)


@dataclass
class Completion:
    """Answers to a request, without end tokens. If the last one is incomplete, later turns are missing."""

    key: Hashable
    answers: list[list[int]] = field(default_factory=list)
    complete: bool = True


class BatchDecoder:
    """Answers requests with one network.

    Parameters
    ----------
    model : AnswerModel
        Run in full mode.
    n_rows : int
        Requests decoded at once.
    capacity : int
        Maximum tokens of a request.
    seed : int
        Seed of sampling.
    """

    def __init__(self, model: AnswerModel, n_rows: int, capacity: int, seed: int = 0):
        self._model, self._n_rows = model, n_rows
        self._capacity = -(-capacity // LIMIT_STEP) * LIMIT_STEP
        self._storage = model.kv_storage(self._capacity, n_rows).zero_()
        self._ends = end_tokens(model)
        self._inputs = torch.zeros(2, n_rows, dtype=torch.long, device=model.device)  # token ids, positions
        self._temperatures = torch.zeros(n_rows, device=model.device)
        self._rows = torch.arange(n_rows, device=model.device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}
        self._active: dict[int, _Row] = {}
        torch.manual_seed(seed)

    @torch.inference_mode()
    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Complete all requests; yield them as they finish, in any order.

        Raises
        ------
        ValueError
            If a request may exceed the capacity of a row.
        """
        waiting = iter(requests)
        while True:
            self._admit(waiting)
            if not self._active:
                return
            yield from self._advance()

    @torch.inference_mode()
    def submit(self, request: Request, parts: Sequence[BlockKV]) -> list[Completion]:
        """Start a request whose prompt follows block KVs; return requests that finished while waiting for a free row.

        Parameters
        ----------
        request : Request
            Its prompt is the final block.
        parts : sequence of BlockKV
            The prefix, then the blocks in prompt order.

        Raises
        ------
        ValueError
            If the request may exceed the capacity of a row.
        """
        finished: list[Completion] = []
        while len(self._active) == self._n_rows:
            finished += self._advance()
        n_before = sum(part.n_tokens for part in parts)
        self._check_room(n_before + request.n_tokens)
        row = self._free()[0]
        cache = assemble(parts, self._model.rope, self._model.kv_storage(n_before + len(request.prompt_ids)))
        logits = prefill(self._model, request.prompt_ids, cache)
        self._storage[:, :, row, :, : cache.n_tokens] = cache.storage[:, :, 0, :, : cache.n_tokens]
        self._temperatures[row] = request.temperature
        first = int(_sample(logits[None], self._temperatures[row : row + 1]))
        self._active[row] = _Row(request, self._ends, first, n_before)
        return finished

    @torch.inference_mode()
    def drain(self) -> Iterator[Completion]:
        """Finish all submitted requests."""
        while self._active:
            yield from self._advance()

    def _advance(self) -> list[Completion]:
        """Return finished requests and free their rows; if there are none, decode one token of every row."""
        finished = [row for row, state in self._active.items() if state.done]
        if not finished:
            sampled = self._step(self._active)
            for row, state in self._active.items():
                state.take(sampled[row])
        return [self._active.pop(row).completion for row in finished]

    def _free(self) -> list[int]:
        return [row for row in range(self._n_rows) if row not in self._active]

    def _check_room(self, n_tokens: int) -> None:
        if n_tokens > self._capacity:
            raise ValueError(f"a request may take {n_tokens} tokens; a row holds {self._capacity}.")

    def _admit(self, waiting: Iterator[Request]) -> None:
        """Prefill waiting requests into the free rows."""
        free = self._free()
        while free:
            batch: list[Request] = []
            while len(batch) < len(free) and sum(len(r.prompt_ids) for r in batch) < PREFILL_TOKENS:
                request = next(waiting, None)
                if request is None:
                    break
                self._check_room(request.n_tokens)
                batch.append(request)
            if not batch:
                return
            rows, free = free[: len(batch)], free[len(batch) :]
            for row, request, token in zip(rows, batch, self._prefill(batch, rows), strict=True):
                self._active[row] = _Row(request, self._ends, token)

    def _prefill(self, batch: Sequence[Request], rows: Sequence[int]) -> list[int]:
        """Write the prompts' KV into their rows; return the first token of each answer."""
        device = self._model.device
        lengths = [len(request.prompt_ids) for request in batch]
        ids = torch.tensor([token for request in batch for token in request.prompt_ids], device=device)
        positions = torch.cat([torch.arange(n, device=device) for n in lengths])
        ends = torch.tensor([0, *lengths], device=device).cumsum(0)
        layers = [_PrefillLayer(keys, values, list(rows), lengths) for keys, values in zip(*self._storage, strict=True)]
        self._temperatures[list(rows)] = torch.tensor([r.temperature for r in batch], device=device)
        logits = self._model.network(
            input_ids=ids[None],
            position_ids=positions[None],
            attention_mask=UNMASKED,
            past_key_values=Cache(layers=layers),
            use_cache=True,
            logits_to_keep=ends[1:] - 1,
            attend=_Causal(lengths, device),
        ).logits[0]
        return _sample(logits, self._temperatures[list(rows)]).tolist()

    def _step(self, active: dict[int, "_Row"]) -> list[int]:
        """Feed every row its next token; return the token sampled in each row."""
        staged = torch.zeros(2, self._n_rows, dtype=torch.long)
        for row, state in active.items():
            staged[0, row], staged[1, row] = state.token, state.position
        self._inputs.copy_(staged)
        limit = -(-(int(staged[1].max()) + 1) // LIMIT_STEP) * LIMIT_STEP
        if self._model.device.type != "cuda":
            return self._decode(limit).tolist()
        if limit not in self._graphs:
            self._graphs[limit] = self._capture(limit)
        graph, sampled = self._graphs[limit]
        graph.replay()
        return sampled.tolist()

    def _capture(self, limit: int) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):  # warm-up outside the capture; a repeated step writes the same keys
                self._decode(limit)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            sampled = self._decode(limit)
        return graph, sampled

    def _decode(self, limit: int) -> torch.Tensor:
        """Decode one token of every row with attention over the first `limit` keys; return int64 ``(rows,)``."""
        ids, positions = self._inputs
        seen = torch.arange(limit, device=ids.device) <= positions[:, None]

        def attend(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> Any:
            rows, heads, _, head_dim = query.shape
            grouped = query.view(rows, key.shape[1], -1, head_dim)
            scores = (grouped @ key.transpose(-1, -2)).float() * scaling
            weights = scores.masked_fill(~seen[:, None, None], float("-inf")).softmax(-1).to(value.dtype)
            return (weights @ value).view(rows, 1, heads, head_dim)

        layers = [
            _DecodeLayer(keys, values, self._rows, positions, limit)
            for keys, values in zip(*self._storage, strict=True)
        ]
        logits = self._model.network(
            input_ids=ids[:, None],
            position_ids=positions[:, None],
            attention_mask=UNMASKED,
            past_key_values=Cache(layers=layers),
            use_cache=True,
            attend=attend,
        ).logits[:, -1]
        return _sample(logits, self._temperatures)


def _sample(logits: torch.Tensor, temperatures: torch.Tensor) -> torch.Tensor:
    """Sample a token of each row at its temperature, 0 being greedy (Gumbel-max trick)."""
    scores = logits.float()
    noise = -torch.empty_like(scores).exponential_().log()
    return (scores + noise * temperatures[:, None]).argmax(-1)


class _Row:
    """State of a request during decoding: the next token to feed and its position."""

    def __init__(self, request: Request, ends: frozenset[int], first: int, n_before: int = 0):
        self._request, self._ends = request, ends
        self._follow_ups = deque(request.follow_ups)
        self._forced: deque[int] = deque()
        self._answer: list[int] = []
        self.completion, self.done = Completion(request.key), False
        self.position, self.token = n_before + len(request.prompt_ids) - 1, -1
        self.take(first)

    def take(self, sampled: int) -> None:
        """Process the token sampled after the previous one."""
        self.position += 1
        if self._forced:
            self.token = self._forced.popleft()
        elif sampled in self._ends:
            self._close(sampled)
        elif len(self._answer) == self._request.max_new_tokens:
            self.completion.answers.append(self._answer)
            self.completion.complete, self.done = False, True
        else:
            self._answer.append(sampled)
            self.token = sampled

    def _close(self, end: int) -> None:
        self.completion.answers.append(self._answer)
        self._answer = []
        if not self._follow_ups:
            self.done = True
            return
        self.token, self._forced = end, deque(self._follow_ups.popleft())


class _Causal:
    """Causal attention over concatenated sequences."""

    def __init__(self, lengths: Sequence[int], device: torch.device):
        self._lengths, self._max = list(lengths), max(lengths)
        self._ends = torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)

    def __call__(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        if query.device.type == "cuda" and query.dtype.itemsize == 2:
            q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))
            return flash_varlen(q, k, v, self._ends, self._ends, self._max, self._max, scaling)[None]
        pieces = zip(*(t.split(self._lengths, 2) for t in (query, key, value)), strict=True)
        found = [
            scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True) for q, k, v in pieces
        ]
        return torch.cat(found, 2).transpose(1, 2)


class _Layer(FixedLayer):
    """A cache layer whose positions are passed explicitly, and whose attention needs no mask."""

    def get_seq_length(self) -> int:
        """Unused."""
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Unused."""
        return query_length, 0


class _PrefillLayer(_Layer):
    def __init__(self, keys: torch.Tensor, values: torch.Tensor, rows: Sequence[int], lengths: Sequence[int]):
        super().__init__(keys, values)
        self._rows, self._lengths = rows, list(lengths)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Write each sequence into its row; return the arguments."""
        for target, states in ((self.keys, key_states), (self.values, value_states)):
            for row, piece in zip(self._rows, states[0].split(self._lengths, 1), strict=True):
                target[row, :, : piece.shape[1]] = piece
        return key_states, value_states


class _DecodeLayer(_Layer):
    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, rows: torch.Tensor, positions: torch.Tensor, limit: int
    ):
        super().__init__(keys, values)
        self._rows, self._positions, self._limit = rows, positions, limit

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Write one token per row at its position; return the first `limit` keys and values of all rows."""
        self.keys[self._rows, :, self._positions] = key_states[:, :, 0]
        self.values[self._rows, :, self._positions] = value_states[:, :, 0]
        return self.keys[:, :, : self._limit], self.values[:, :, : self._limit]
