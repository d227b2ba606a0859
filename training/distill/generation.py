"""Answers of one network to many prompts at once: continuous batching with greedy or sampled decoding.

Prompts are prefilled packed behind one another; all rows are then decoded together, one token a step. A row whose
answers are complete is given the next prompt at once. On CUDA a step is one captured graph.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.cache_utils import Cache, CacheLayerMixin

from blockrag.attention.assemble import assemble
from blockrag.attention.gqa import UNMASKED
from blockrag.generate import end_tokens, prefill
from blockrag.kv.block_kv import BlockKV
from blockrag.models.answer_model import AnswerModel
from training.distill.attention import flash

PREFILL_TOKENS = 16384
"""Most tokens of prompts that are prefilled together, one longer prompt apart."""

LIMIT_STEP = 512
"""Attention reads whole multiples of this many keys; each multiple is a graph of its own."""


@dataclass(frozen=True)
class Request:
    """One conversation to complete.

    Attributes
    ----------
    key : Hashable
        Names the request in its `Completion`.
    prompt_ids : sequence of int
        Up to the header of the first answer.
    further : sequence of sequences of int
        Further questions, each with the header of its answer; each is fed behind the end token of the answer before.
    most : int
        Longest answer, in tokens without the end token.
    temperature : float
        0 is greedy.
    """

    key: Hashable
    prompt_ids: Sequence[int]
    further: Sequence[Sequence[int]] = ()
    most: int = 96
    temperature: float = 0.0

    @property
    def n_tokens(self) -> int:
        """Most tokens that the request can take."""
        return len(self.prompt_ids) + sum(map(len, self.further)) + (len(self.further) + 1) * (self.most + 1)


@dataclass
class Completion:
    """The answers to one request, without end tokens.

    Only the last can be incomplete; further turns are then missing."""

    key: Hashable
    answers: list[list[int]] = field(default_factory=list)
    complete: bool = True


class BatchDecoder:
    """Completes requests with one network.

    Parameters
    ----------
    model : AnswerModel
        Run in full mode.
    n_rows : int
        Requests decoded at once.
    capacity : int
        Most tokens of a request.
    seed : int
        Of sampling.
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
        """Complete all requests; yields them as they finish, not in order.

        Raises
        ------
        ValueError
            If a request can take more tokens than a row holds.
        """
        waiting = iter(requests)
        while True:
            self._admit(waiting)
            if not self._active:
                return
            yield from self._advance()

    @torch.inference_mode()
    def submit(self, request: Request, parts: Sequence[BlockKV]) -> list[Completion]:
        """Begin a request whose prompt stands behind block KVs; returns the requests that finished to make room.

        Parameters
        ----------
        request : Request
            Its prompt is the final block.
        parts : sequence of BlockKV
            Prefix first, then the blocks, in prompt order.

        Raises
        ------
        ValueError
            If the request can take more tokens than a row holds.
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
        """Finish what was submitted."""
        while self._active:
            yield from self._advance()

    def _advance(self) -> list[Completion]:
        """Take finished requests out of their rows, or, where there are none, decode one token of each."""
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
            raise ValueError(f"a request can take {n_tokens} tokens; a row holds {self._capacity}.")

    def _admit(self, waiting: Iterator[Request]) -> None:
        """Prefill requests into free rows, as many as there are."""
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
        """Write the prompts' KV into their rows; returns the first token of each answer."""
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
        """Feed every row its next token; returns what each row's network says next."""
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
            for _ in range(2):  # libraries are set up outside of the capture; a step writes the same keys each time
                self._decode(limit)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            sampled = self._decode(limit)
        return graph, sampled

    def _decode(self, limit: int) -> torch.Tensor:
        """One token of every row, over the first `limit` keys; returns int64 ``(rows,)``."""
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
    """The most likely token of each row, or one drawn at the row's temperature (Gumbel's trick)."""
    scores = logits.float()
    noise = -torch.empty_like(scores).exponential_().log()
    return (scores + noise * temperatures[:, None]).argmax(-1)


class _Row:
    """A request while it is decoded: which token comes next, and at which position."""

    def __init__(self, request: Request, ends: frozenset[int], first: int, n_before: int = 0):
        self._request, self._ends = request, ends
        self._further = deque(request.further)
        self._forced: deque[int] = deque()
        self._answer: list[int] = []
        self.completion, self.done = Completion(request.key), False
        self.position, self.token = n_before + len(request.prompt_ids) - 1, -1
        self.take(first)

    def take(self, sampled: int) -> None:
        """What the network said after the token before."""
        self.position += 1
        if self._forced:
            self.token = self._forced.popleft()
        elif sampled in self._ends:
            self._close(sampled)
        elif len(self._answer) == self._request.most:
            self.completion.answers.append(self._answer)
            self.completion.complete, self.done = False, True
        else:
            self._answer.append(sampled)
            self.token = sampled

    def _close(self, end: int) -> None:
        self.completion.answers.append(self._answer)
        self._answer = []
        if not self._further:
            self.done = True
            return
        self.token, self._forced = end, deque(self._further.popleft())


class _Causal:
    """Causal attention of sequences laid behind one another."""

    def __init__(self, lengths: Sequence[int], device: torch.device):
        self._lengths, self._most = list(lengths), max(lengths)
        self._ends = torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)

    def __call__(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        if query.device.type == "cuda" and query.dtype.itemsize == 2:
            q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))
            return flash(q, k, v, self._ends, self._ends, self._most, self._most, scaling)[None]
        pieces = zip(*(t.split(self._lengths, 2) for t in (query, key, value)), strict=True)
        found = [
            scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True) for q, k, v in pieces
        ]
        return torch.cat(found, 2).transpose(1, 2)


class _Layer(CacheLayerMixin):
    """What both kinds of layers share: keys and values ``(rows, kv_heads, capacity, head_dim)``."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor):
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """The storage exists from the start."""

    def get_seq_length(self) -> int:
        """Positions are given; nothing is derived from this."""
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """No mask is built."""
        return query_length, 0

    def get_max_length(self) -> int:
        """Tokens that fit into a row."""
        return self.keys.shape[2]

    def get_max_cache_shape(self) -> int:
        """The same, under the name that earlier releases ask for."""
        return self.keys.shape[2]


class _PrefillLayer(_Layer):
    def __init__(self, keys: torch.Tensor, values: torch.Tensor, rows: Sequence[int], lengths: Sequence[int]):
        super().__init__(keys, values)
        self._rows, self._lengths = rows, list(lengths)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Write each sequence into its row; hand back what was given."""
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
        """Write one token of each row at its position; hand back the first `limit` keys and values of all rows."""
        self.keys[self._rows, :, self._positions] = key_states[:, :, 0]
        self.values[self._rows, :, self._positions] = value_states[:, :, 0]
        return self.keys[:, :, : self._limit], self.values[:, :, : self._limit]
