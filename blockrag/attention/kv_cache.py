"""A preallocated KV cache with the interface of `transformers`.

`DynamicCache` concatenates old and new keys at every layer of every step, which copies the whole context for each
token; here there is room for the answer from the start, and a step writes only its own rows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from blockrag.attention.rope import Rope
from blockrag.errors import UnsupportedModelError


class FixedLayer(CacheLayerMixin):
    """A layer over room that exists from the start: keys and values ``(batch, kv_heads, capacity, head_dim)``."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor):
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: the room exists."""

    def get_max_length(self) -> int:
        """Tokens that fit."""
        return self.keys.shape[2]

    def get_max_cache_shape(self) -> int:
        """The same, under the name that earlier releases of `transformers` use."""
        return self.get_max_length()


class PreallocatedLayer(FixedLayer):
    """One layer: a view ``(batch, kv_heads, capacity, head_dim)`` into the cache's storage, filled up to `n_tokens`.

    `fill`, if given, is called once, before the first tokens are read. While `newest_alone` is set, `update` returns
    only the tokens that it writes. A layer with a `window` returns what the first new token sees, and what follows. A
    `latent` layer gets and returns its values, which are latents, before its keys; see `Rope.latent_sizes`.
    """

    newest_alone = False
    latent = False

    def __init__(
        self,
        keys: torch.Tensor,
        values: torch.Tensor,
        n_tokens: int,
        fill: Callable[[], None] | None = None,
        window: int | None = None,
    ):
        super().__init__(keys, values)
        self.n_tokens, self.window, self.is_sliding = n_tokens, window, window is not None
        self._fill = fill

    def joined(self, first: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the tokens held from `first` on, shape ``(batch, kv_heads, tokens, head_dim)``."""
        if self._fill is not None:
            self._fill()
            self._fill = None
        return self.keys[:, :, first : self.n_tokens], self.values[:, :, first : self.n_tokens]

    @property
    def first_seen(self) -> int:
        """First token that the next one sees."""
        return 0 if self.window is None else max(0, self.n_tokens - self.window + 1)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append new states ``(batch, kv_heads, n, head_dim)``; return views of all of them, or of the newest alone."""
        if self.latent:
            key_states, value_states = value_states, key_states
            if (key_states.shape[-1], value_states.shape[-1]) != (self.keys.shape[-1], self.values.shape[-1]):
                raise UnsupportedModelError(
                    "this release of transformers does not cache the latents of this model, as expected; install a "
                    "newer one."
                )
        start, end, first = self.n_tokens, self.n_tokens + key_states.shape[2], self.first_seen
        if end > self.get_max_length():
            raise ValueError(f"the cache holds {self.get_max_length()} tokens, {end} were asked for")
        self.keys[:, :, start:end] = key_states
        self.values[:, :, start:end] = value_states
        self.n_tokens = end
        if self.newest_alone:
            return self.keys[:, :, start:end], self.values[:, :, start:end]
        keys, values = self.joined(first)
        return (values, keys) if self.latent else (keys, values)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that the next `query_length` tokens are masked against, and the offset of the first."""
        return self.n_tokens + query_length - self.first_seen, self.first_seen

    def get_seq_length(self) -> int:
        """Tokens held."""
        return self.n_tokens


def sized(storage: torch.Tensor, rope: Rope | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Views of keys and values in storage ``(2, ..., head_dim)``; with latent attention they differ in size."""
    keys, values = storage
    if rope is None or rope.latent_sizes is None:
        return keys, values
    n_key, n_value = rope.latent_sizes
    return keys[..., :n_key], values[..., :n_value]


class PreallocatedCache(Cache):
    """KV of one prompt and its answer, or of a batch of blocks while they are encoded.

    Attributes
    ----------
    storage : torch.Tensor
        Shape ``(2, layers, batch, kv_heads, capacity, head_dim)``: keys, then values. Of the capacity the first
        `n_tokens` are filled.
    n_tokens : int
    fill : callable, optional
        Given a layer's number, fills its storage; called once for each, before it is first read.
    rope : Rope, optional
        Its windows and latents hold for the cache.
    """

    def __init__(
        self,
        storage: torch.Tensor,
        n_tokens: int = 0,
        fill: Callable[[int], None] | None = None,
        rope: Rope | None = None,
    ):
        self.storage = storage
        all_keys, all_values = sized(storage, rope)
        layers = [
            PreallocatedLayer(
                keys, values, n_tokens, fill and partial(fill, i), None if rope is None else rope.window(i)
            )
            for i, (keys, values) in enumerate(zip(all_keys, all_values, strict=True))
        ]
        for layer in layers:
            layer.latent = rope is not None and rope.latent_sizes is not None
        super().__init__(layers=layers)

    @contextmanager
    def newest_alone(self) -> Iterator[None]:
        """A context in which a pass gets only its own tokens' KV; earlier tokens are not filled either."""
        for layer in self.layers:
            layer.newest_alone = True
        try:
            yield
        finally:
            for layer in self.layers:
                layer.newest_alone = False

    @property
    def n_tokens(self) -> int:
        """Tokens held; the position of the next one."""
        return self.layers[0].get_seq_length()
