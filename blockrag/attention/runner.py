"""Runs the final block over joined blocks: the interface, the plain implementation, and the choice between paths.

Only `make_runner` chooses a path; each report names the one that was taken.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch

from blockrag.attention.assemble import assemble, kernels_serve
from blockrag.attention.buffer_pool import BufferPool
from blockrag.attention.inplace import InPlace, pays
from blockrag.attention.kv_cache import PreallocatedCache
from blockrag.generate import prefill
from blockrag.kv.block_kv import BlockKV
from blockrag.models.answer_model import AnswerModel


class Joined(ABC):
    """Blocks joined into one prompt, and what was computed over them.

    Attributes
    ----------
    path : str
        Name of the path, for the report.
    parts : sequence of BlockKV
        The blocks as they are read; after the first logits they are complete.
    """

    path: str
    parts: Sequence[BlockKV]

    @property
    @abstractmethod
    def n_tokens(self) -> int:
        """Tokens held: the position of the next one."""

    @abstractmethod
    def logits(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Run the next tokens over all that is held; one token is a decoding step.

        Returns
        -------
        torch.Tensor
            Logits of the last token, shape ``(vocab_size,)``, on the device; valid until the next call.

        Raises
        ------
        KVCorruptError, KVTierError
            If a block that is still loading is damaged, or its tier fails.
        """

    def settle(self) -> None:
        """Return once all blocks are loaded. Raises what `BlockKV.await_layer` raises."""
        for part in self.parts:
            for layer in range(len(part.keys)):
                part.await_layer(layer)

    def greedy(self, token_ids: Sequence[int]) -> Iterator[int]:
        """Run `token_ids`, then decode greedily; yields tokens without end.

        When a token is yielded, the computation of the next may have begun.
        """
        token = int(self.logits(token_ids).argmax())
        while True:
            yield token
            token = int(self.logits([token]).argmax())


class Runner(ABC):
    """Joins blocks. Safe to use from several threads, each with its own `Joined`."""

    @abstractmethod
    def join(self, parts: Sequence[BlockKV], room: int) -> AbstractContextManager[Joined]:
        """A context in which `parts` are joined.

        Parameters
        ----------
        parts : sequence of BlockKV
            Prefix first, then the blocks, in prompt order; on any device. They are read, never written (rule 5).
            Full mode passes none.
        room : int
            Most tokens that will be run over them.
        """


class PlainRunner(Runner):
    """Joins the blocks and runs the network as `transformers` does.

    On a CPU, a question over long blocks reads them in place; they are joined when decoding begins.
    """

    def __init__(self, model: AnswerModel):
        self._model = model
        self._storage = BufferPool(model)

    @contextmanager
    def join(self, parts: Sequence[BlockKV], room: int) -> Iterator[Joined]:
        """See `Runner`."""
        n_tokens = sum(part.n_tokens for part in parts) + room
        with self._storage.take(n_tokens) as storage:
            yield _PlainJoined(self._model, parts, assemble(parts, self._model.rope, storage))


class _PlainJoined(Joined):
    path = "plain"

    def __init__(self, model: AnswerModel, parts: Sequence[BlockKV], cache: PreallocatedCache):
        self._model, self.parts, self._cache = model, parts, cache
        self._begun = False

    @property
    def n_tokens(self) -> int:
        return self._cache.n_tokens

    def logits(self, token_ids: Sequence[int]) -> torch.Tensor:
        begun, self._begun = self._begun, True
        if begun or not self._reads_in_place(len(token_ids)):
            return prefill(self._model, token_ids, self._cache)
        with self._cache.newest_alone():
            return prefill(self._model, token_ids, self._cache, InPlace(self.parts, self._model.rope))

    def _reads_in_place(self, n_queries: int) -> bool:
        group = self._model.network.config.num_attention_heads // self._model.n_kv_heads
        is_fit = self._model.has_plain_attention and self._model.device.type == "cpu"
        return is_fit and n_queries > 1 and pays(self.parts, n_queries * group)


def make_runner(model: AnswerModel, n_slots: int = 1) -> Runner:
    """The fastest runner for this model, device and installation, for up to `n_slots` answers at once.

    On CUDA with Triton, for heads of 2^n components: kernels that read the blocks in place, in captured graphs, which
    decode several answers in one pass (`GraphRunner`). Everywhere else: `PlainRunner`.
    """
    if has_kernels(model):
        from blockrag.attention.cuda.runner import GraphRunner  # noqa: PLC0415  (Triton, where there is a GPU)

        return GraphRunner(model, n_slots)
    return PlainRunner(model)


def has_kernels(model: AnswerModel) -> bool:
    """Whether there are CUDA kernels for this model here: for dense layers with plain attention."""
    if not model.has_plain_attention or model.has_experts:
        return False
    return model.head_dim >= 16 and kernels_serve(model.device, model.head_dim)
