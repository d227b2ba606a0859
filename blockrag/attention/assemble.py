"""Assemble: join block KVs into the KV of one prompt."""

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec

import torch

from blockrag.attention.kv_cache import PreallocatedCache, sized
from blockrag.attention.rope import Rope
from blockrag.kv.block_kv import BlockKV


def assemble(parts: Sequence[BlockKV], rope: Rope, storage: torch.Tensor) -> PreallocatedCache:
    """Concatenate `parts`, each part's keys rotated from local to joined positions.

    Parameters
    ----------
    parts : sequence of BlockKV
        Prefix first, then the blocks, in prompt order, on any device. They are read, never written (rule 5).
    rope : Rope
        The model's rotary positions.
    storage : torch.Tensor
        Shape ``(2, layers, 1, kv_heads, capacity, head_dim)``; capacity beyond the parts is room for the final block
        and the answer.

    Returns
    -------
    PreallocatedCache
        Over `storage`, holding the parts' tokens. Each layer is joined when it is first read, so that parts may still
        be loading.
    """
    near = all(part.keys.device == storage.device for part in parts)
    if parts and near and has_kernel(storage) and rope.is_common(storage.shape[-1]):
        from blockrag.attention.cuda.assemble import assemble_cuda  # noqa: PLC0415  (Triton, where there is a GPU)

        return assemble_cuda(parts, rope, storage)
    joining = _Joining(parts, rope, storage)
    return PreallocatedCache(storage, joining.n_tokens, joining.fill, rope)


class _Joining:
    """Joins one layer at a time, just before the network reads it, while it is in the processor's cache."""

    def __init__(self, parts: Sequence[BlockKV], rope: Rope, storage: torch.Tensor):
        self._rope, self._storage = rope, storage
        self._moves = []
        self.n_tokens = 0
        for part in parts:
            start, self.n_tokens = self.n_tokens, self.n_tokens + part.n_tokens
            self._moves.append((part, start, start - part.first_position))
        self._rotation = lru_cache(maxsize=None)(rope.rotation)

    def fill(self, layer: int) -> None:
        keys, values = sized(self._storage[:, layer, 0], self._rope)
        window, one_such_layer = self._rope.window(layer), self._layer_like(layer)
        first_seen = 0 if window is None else self.n_tokens - window + 1
        for part, start, offset in self._moves:
            skipped = max(0, first_seen - start)
            if skipped >= part.n_tokens:
                continue
            part.await_layer(layer)
            span = slice(start + skipped, start + part.n_tokens)
            values[:, span] = part.values[layer][:, skipped:]
            self._rope.rotate(
                part.keys[layer][:, skipped:].to(keys.device),
                self._rotation(offset, one_such_layer) if self._rope.rotates(layer) else None,
                out=keys[:, span],
            )

    def _layer_like(self, layer: int) -> int:
        """The first layer with the same frequencies, so that rotations are computed once for each kind."""
        is_local = self._rope.is_local(layer)
        return next(i for i in range(layer + 1) if self._rope.is_local(i) == is_local)


def has_kernel(storage: torch.Tensor) -> bool:
    """Whether a kernel joins the blocks: on CUDA, where Triton is installed, for heads of 2^n components."""
    return kernels_serve(storage.device, storage.shape[-1])


def kernels_serve(device: torch.device, head_dim: int) -> bool:
    """Whether Triton kernels over whole heads run on `device`."""
    return device.type == "cuda" and head_dim & (head_dim - 1) == 0 and find_spec("triton") is not None
