"""How the final block runs over joined blocks: the seam, the plain way, and the choice between ways.

`make_runner` is the one place where a path is chosen; each report names the one that was taken.
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
        Names the way it is computed.
    parts : sequence of BlockKV
        The blocks where they are read; once the first logits are there, they are whole.
    """

    path: str
    parts: Sequence[BlockKV]

    @property
    @abstractmethod
    def n_tokens(self) -> int:
        """Tokens held; the position of the next one."""

    @abstractmethod
    def logits(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Run the next tokens over all that is held. Decoding is the same with one token.

        Returns
        -------
        torch.Tensor
            Logits of the last token, shape ``(vocab_size,)``, on the device; valid until the next call.

        Raises
        ------
        KVCorruptError, KVTierError
            If a block that is still being read proves damaged, or its medium fails.
        """

    def settle(self) -> None:
        """Return once the blocks have been read whole, or raise what `BlockKV.await_layer` raises."""
        for part in self.parts:
            for layer in range(len(part.keys)):
                part.await_layer(layer)

    def greedy(self, token_ids: Sequence[int]) -> Iterator[int]:
        """Run `token_ids`, then the most likely token again and again; yields each, without end.

        The one after it may have been begun when a token is yielded.
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
            Without parts, all is computed: full mode.
        room : int
            Tokens that will be run over them at most.
        """


class PlainRunner(Runner):
    """Copies the blocks together, keys rotated on the way, and runs the network as `transformers` does.

    On a CPU a question over long blocks reads them where they lie, and they are joined when decoding begins.
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
        return self._model.device.type == "cpu" and n_queries > 1 and pays(self.parts, n_queries * group)


def make_runner(model: AnswerModel, n_together: int = 1) -> Runner:
    """The fastest way that this model, device and installation allow.

    `n_together` answers at once are decoded together where that is faster.

    On CUDA with Triton, for heads of 2^n components: kernels that read the blocks where they
    lie, in captured graphs (`GraphRunner`). Everywhere else: `PlainRunner`.
    """
    if has_kernels(model):
        from blockrag.attention.cuda.runner import GraphRunner  # noqa: PLC0415  (Triton, where there is a GPU)

        return GraphRunner(model, n_together)
    return PlainRunner(model)


def has_kernels(model: AnswerModel) -> bool:
    """Whether there are CUDA kernels for this model here."""
    return model.head_dim >= 16 and kernels_serve(model.device, model.head_dim)
