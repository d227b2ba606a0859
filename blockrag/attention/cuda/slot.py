"""A slot: the tail for its own KV, the block table and the graphs of one answer in flight, at fixed addresses.

A forward pass of a few tokens is a thousand small kernels, and launching them takes longer than running them; a graph
launches them as one. A graph has fixed addresses and shapes, so questions are padded to a few lengths, and the
addresses of the blocks and the numbers of tokens are read on the device. No block is copied.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache

from blockrag.attention.cuda.attend import attend_blocks, tiling_for
from blockrag.attention.cuda.block_table import BlockTable
from blockrag.attention.cuda.fused import fused
from blockrag.attention.cuda.kernels import write_tail
from blockrag.attention.gqa import UNMASKED
from blockrag.attention.kv_cache import FixedLayer
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.prefetch import Prefetch
from blockrag.models.answer_model import AnswerModel

LENGTHS = (1, 16, 32, 64, 128, 256)
"""Numbers of tokens for which there is a graph; more tokens take several passes."""


class TailLayer(FixedLayer):
    """One layer's tail; the write position is read on the device."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, counts: torch.Tensor):
        super().__init__(keys, values)
        self.counts = counts

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the new states; return the whole tail."""
        write_tail(key_states, value_states, self.keys, self.values, self.counts)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Unused: the attention needs no mask."""
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        """Unused: positions are given."""
        return 0


class Slot:
    """Tail, block table and graphs of one answer.

    Parameters
    ----------
    model : AnswerModel
    capacity : int
        Tokens that the tail holds.

    Attributes
    ----------
    n_before, n_tail : int
        Tokens in the blocks, and in the tail.
    launching : threading.Lock
        Held while work is enqueued on the device and counted, so that passes over several slots see consistent states.
    """

    launching = threading.RLock()

    def __init__(self, model: AnswerModel, capacity: int):
        self._model, self.capacity = model, capacity
        group = model.network.config.num_attention_heads // model.n_kv_heads
        head = model.n_kv_heads, model.head_dim, model.dtype.itemsize
        self._tilings = {n: tiling_for(group * n, *head) for n in LENGTHS}
        self._table = BlockTable(model.rope, {tiling.splits for tiling in self._tilings.values()}, model.device)
        self._prefetch = Prefetch(model.device, model.n_layers)
        self._tail = model.kv_storage(capacity + LENGTHS[-1])  # padded tokens are written too
        new = {"dtype": torch.long, "device": model.device}
        self._inputs = {n: torch.zeros(n + 1, **new) for n in LENGTHS}  # token ids, and the index of the last one
        self._counts = torch.zeros(2, **new)  # n_before and n_tail
        self._staged_token = torch.zeros((), dtype=torch.long).pin_memory()
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}
        self.n_before = self.n_tail = 0
        self._capture()

    def hold(self, parts: Sequence[BlockKV]) -> list[BlockKV]:
        """Start over with `parts`; returns them on the device. The caller keeps them alive until `release`."""
        with Slot.launching:
            on_device = self._prefetch.start(parts)
            self.n_before, self.n_tail = self._table.write(on_device), 0
            self._counts[0] = self.n_before
        return on_device

    def release(self) -> None:
        """Release the parts: nothing launched from here on reads them."""
        with Slot.launching:
            self._prefetch.settle()
            self._table.clear()

    def logits(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Run up to `LENGTHS[-1]` tokens; logits of the last, shape ``(vocab_size,)``, valid until the next call."""
        n = len(token_ids)
        if self.n_tail + n > self.capacity:
            raise ValueError(f"the slot holds {self.capacity} tokens, {self.n_tail + n} were asked for")
        length = next(length for length in LENGTHS if length >= n)
        padding = [0] * (length - n)
        staged = torch.tensor([*token_ids, *padding, n - 1]).pin_memory()
        with Slot.launching:
            self._inputs[length].copy_(staged, non_blocking=True)
            if not self._prefetch.is_loading:
                return self._replay(length, n)
            self.write_counts()
            counts = self._counts.clone()
            self.n_tail += n  # passes over all slots write after these tokens meanwhile
        return self._run(length, counts)[0, 0]

    def settle(self) -> None:
        """Return once all parts are on the device, or being copied there from memory."""
        self._prefetch.send_all()

    def next_token(self, token: torch.Tensor | int) -> torch.Tensor:
        """The most likely token after `token`, which may be a scalar on the device that is not computed yet."""
        with Slot.launching:
            self._inputs[1][0] = token
            return self._replay(1, 1).argmax()

    def read_back(self, token: torch.Tensor) -> Callable[[], int]:
        """Begin to read `token`, a scalar on the device; the function returned waits for it alone, not for later
        work."""
        self._staged_token.copy_(token, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()

        def wait() -> int:
            arrived.synchronize()
            return int(self._staged_token)

        return wait

    def write_counts(self) -> None:
        """Write the number of the tail's tokens to the device."""
        self._counts[1] = self.n_tail

    @property
    def position(self) -> torch.Tensor:
        """Position of the next token, a scalar on the device."""
        return self._counts.sum()

    def tail(self, layer: int, counts: torch.Tensor | None = None) -> TailLayer:
        """The tail of one layer, written at `counts`, by default the slot's."""
        return TailLayer(self._tail[0, layer], self._tail[1, layer], self._counts if counts is None else counts)

    def attend(
        self, module: Any, query: torch.Tensor, scaling: float, length: int, counts: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attention of one of the network's layers over this slot's blocks and tail, up to `counts`."""
        layer, tiling = module.layer_idx, self._tilings[length]
        return attend_blocks(
            query, *self._tail[:, layer], self._table.view(tiling.splits), self._counts if counts is None else counts,
            layer=layer, rotate=self._model.rope.rotates(layer), scale=scaling, tiling=tiling,
        )  # fmt: skip

    def _replay(self, length: int, n: int) -> torch.Tensor:
        graph, logits = self._graphs[length]
        self.write_counts()
        graph.replay()
        self.n_tail += n
        return logits[0, 0]

    @torch.inference_mode()
    def _capture(self) -> None:
        pool = torch.cuda.graph_pool_handle()
        with fused(self._model.network), torch.cuda.stream(side_stream()):
            for length in reversed(LENGTHS):  # the largest first: the others fit into its memory
                for _ in range(2):  # compile kernels and set up libraries outside of the capture
                    self._forward(length)
                torch.cuda.synchronize()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                    logits = self._forward(length)
                self._graphs[length] = graph, logits

    @torch.inference_mode()
    def _run(self, length: int, counts: torch.Tensor) -> torch.Tensor:
        """A pass without a graph, in which each layer waits until its blocks are loaded; other slots go on."""
        return self._forward(length, counts)

    def _forward(self, length: int, counts: torch.Tensor | None = None) -> torch.Tensor:
        counts = self._counts if counts is None else counts
        ids, last = self._inputs[length].split([length, 1])

        def attend(module: Any, query: Any, key: Any, value: Any, scaling: float) -> torch.Tensor:
            self._prefetch.await_layer(module.layer_idx)
            return self.attend(module, query, scaling, length, counts)

        return self._model.network(
            input_ids=ids[None],
            position_ids=(counts.sum() + torch.arange(length, device=ids.device))[None],
            attention_mask=UNMASKED,
            past_key_values=Cache(layers=[self.tail(layer, counts) for layer in range(self._model.n_layers)]),
            use_cache=True,
            logits_to_keep=last,
            attend=attend,
        ).logits


def side_stream() -> torch.cuda.Stream:
    """A new stream, which capturing needs; it waits for all work launched so far, which fills the buffers it reads."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    return stream
