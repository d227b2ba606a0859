"""The block KV: keys and values of one block, encoded alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch


@dataclass(frozen=True)
class BlockKV:
    """Keys and values of one block, its sinks included. Never written to once made (rule 5).

    Attributes
    ----------
    keys, values : torch.Tensor
        Shape ``(layers, kv_heads, tokens, head_dim)``, contiguous. Keys are rotated to local positions
        ``first_position, first_position + 1, ...``. With latent attention both have one head, and sizes of their own;
        see `Rope.latent_sizes`.
    first_position : int
        0, or the length of the prefix where blocks see the prefix.
    """

    keys: torch.Tensor
    values: torch.Tensor
    first_position: int = 0

    @classmethod
    def cut(cls, storage: Iterable[torch.Tensor], first_position: int = 0) -> "BlockKV":
        """A copy of keys and values ``(layers, kv_heads, tokens, head_dim)``, so that the batch they come from can be
        freed."""
        keys, values = (part.clone(memory_format=torch.contiguous_format) for part in storage)
        return cls(keys, values, first_position)

    @property
    def n_tokens(self) -> int:
        """Tokens of the block, sinks included."""
        return self.keys.shape[2]

    @cached_property
    def addresses(self) -> tuple[int, int]:
        """Addresses of keys and values."""
        return self.keys.data_ptr(), self.values.data_ptr()

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values together."""
        return self.keys.nbytes + self.values.nbytes

    def await_layer(self, layer: int) -> None:
        """Return once the keys and values of `layer` are loaded. In memory they always are."""

    def settle(self) -> bool:
        """Cancel pending reads. Return True if every layer is loaded."""
        return True
