"""Prefill and decode on CUDA as captured graphs: one for each padded number of queries. Knows one model.

A forward pass of a few tokens is a thousand small kernels, and launching them takes longer than running them; a graph
launches them as one. A graph has fixed addresses and shapes, so that the pass works on storage of its own, questions
are padded to a few lengths, and the number of tokens before them is a value on the device.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin

from blockrag.attention.cuda.attend import attend_split
from blockrag.models.answer_model import AnswerModel

NAME = "blockrag_split"
LENGTHS = (1, 16, 32, 64, 128, 256)
"""Numbers of queries for which there is a graph; longer questions run without one."""
SPLITS = 16


def _split_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    n_before: torch.Tensor,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    return attend_split(query, key, value, n_before, scaling, SPLITS), None


AttentionInterface.register(NAME, _split_attention)


class _FixedLayer(CacheLayerMixin):
    """A layer of fixed storage, written at places that are read on the device."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, places: torch.Tensor):
        super().__init__()
        self.keys, self.values, self.places = keys, values, places
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing is left to do."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states to their places; return all of the storage."""
        self.keys.index_copy_(2, self.places, key_states)
        self.values.index_copy_(2, self.places, value_states)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Of no use: the attention needs no mask."""
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        """Of no use: positions are given."""
        return 0

    def get_max_length(self) -> int:
        """Tokens that fit."""
        return self.keys.shape[2]

    def get_max_cache_shape(self) -> int:
        """The same, under the name that earlier releases ask for."""
        return self.keys.shape[2]


class GraphRunner:
    """Runs the newest tokens of a prompt over fixed storage.

    Parameters
    ----------
    model : AnswerModel
        On a GPU; its `attn_implementation` is set to the split attention while a graph is captured.
    storage : torch.Tensor
        Shape ``(2, layers, 1, kv_heads, capacity, head_dim)``.
    """

    def __init__(self, model: AnswerModel, storage: torch.Tensor):
        self._model, self._storage = model, storage
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}
        device = storage.device
        self._n_before = torch.zeros((), dtype=torch.long, device=device)
        self._last = torch.zeros(1, dtype=torch.long, device=device)
        self._ids = {n: torch.zeros(1, n, dtype=torch.long, device=device) for n in LENGTHS}

    def logits(self, token_ids: Sequence[int], n_before: int) -> torch.Tensor:
        """Logits of the last of `token_ids`, shape ``(vocab_size,)``, valid until the next call."""
        length = next(n for n in LENGTHS if n >= len(token_ids))
        padded = torch.tensor([[*token_ids, *[0] * (length - len(token_ids))]]).pin_memory()
        self._ids[length].copy_(padded, non_blocking=True)
        self._n_before.fill_(n_before)
        self._last.fill_(len(token_ids) - 1)
        if length not in self._graphs:
            self._capture(length)  # after the inputs are set: its trial runs write where they say
        graph, logits = self._graphs[length]
        graph.replay()
        return logits[0, 0]

    @torch.inference_mode()
    def _capture(self, length: int) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._forward(length)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self._forward(length)
        self._graphs[length] = graph, logits

    def _forward(self, length: int) -> torch.Tensor:
        places = self._n_before + torch.arange(length, device=self._storage.device)
        layers = [_FixedLayer(k, v, places) for k, v in zip(*self._storage, strict=True)]
        return self._model.network(
            input_ids=self._ids[length],
            position_ids=places[None],
            past_key_values=Cache(layers=layers),
            use_cache=True,
            logits_to_keep=self._last,
            n_before=self._n_before,
        ).logits
