"""The block KV: keys and values of one block, encoded alone. Knows no model and no store."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class BlockKV:
    """Keys and values of one block, its sinks included. Never written to once made (rule 5).

    Attributes
    ----------
    keys, values : torch.Tensor
        Shape ``(layers, kv_heads, tokens, head_dim)``, contiguous. Keys are rotated to local positions
        ``first_position, first_position + 1, ...``.
    first_position : int
        0, or the length of the prefix where blocks see the prefix.
    """

    keys: torch.Tensor
    values: torch.Tensor
    first_position: int = 0

    @property
    def n_tokens(self) -> int:
        """Tokens of the block, sinks included."""
        return self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values together."""
        return self.keys.nbytes + self.values.nbytes
