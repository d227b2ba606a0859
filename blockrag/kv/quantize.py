"""Block KV in 8 bits: a quarter of float32's bytes, half of bfloat16's. Not exact, so the user must choose it.

Symmetric: a number is its scale times an integer from -127 to 127. A channel of a key keeps its size over a block's
tokens (KIVI, arXiv 2402.02750, section 3.2), so keys have a scale for each layer, head and channel; values have one for
each layer, head and token. Measured by `benchmarks/quantize.py`: scales the other way round are two to three times
worse, and rotating keys back to position 0 first makes no measurable difference.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from blockrag.kv.block_kv import BlockKV

LARGEST = 127

Axis = Literal["channel", "token"]
"""Values that share a scale, in each layer and head."""

_SHARED = {"channel": -2, "token": -1}
"""The dimension that shares a scale."""


@dataclass(frozen=True)
class QuantizedKV:
    """A block KV in 8 bits.

    Attributes
    ----------
    keys, values : torch.Tensor
        int8, shape ``(layers, kv_heads, tokens, head_dim)``.
    key_scales, value_scales : torch.Tensor
        float32, of the same shape but for a 1 at the dimension that shares a scale.
    first_position : int
        See `BlockKV`.
    """

    keys: torch.Tensor
    values: torch.Tensor
    key_scales: torch.Tensor
    value_scales: torch.Tensor
    first_position: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of integers and scales together."""
        return sum(t.nbytes for t in (self.keys, self.values, self.key_scales, self.value_scales))


def to_int8(numbers: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers from -127 to 127 and the scales that numbers along `dim` share.

    Parameters
    ----------
    numbers : torch.Tensor
        float32. The largest along `dim` becomes 127 or -127.
    dim : int

    Returns
    -------
    integers : torch.Tensor
        int8, of the same shape.
    scales : torch.Tensor
        float32, of the same shape but for a 1 at `dim`; 0 where all numbers are 0.
    """
    scales = numbers.abs().amax(dim, keepdim=True) / LARGEST
    divisor = torch.where(scales == 0, 1.0, scales)
    return (numbers / divisor).round().clamp(-LARGEST, LARGEST).to(torch.int8), scales


def quantize(kv: BlockKV, keys: Axis = "channel", values: Axis = "token") -> QuantizedKV:
    """The nearest block KV in 8 bits; `kv` is left as it is."""
    integer_keys, key_scales = to_int8(kv.keys.float(), _SHARED[keys])
    integer_values, value_scales = to_int8(kv.values.float(), _SHARED[values])
    return QuantizedKV(integer_keys, integer_values, key_scales, value_scales, kv.first_position)


def dequantize(kv: QuantizedKV, dtype: torch.dtype) -> BlockKV:
    """The block KV that `kv` stands for, in `dtype`."""
    keys, values = (t.float() * scales for t, scales in ((kv.keys, kv.key_scales), (kv.values, kv.value_scales)))
    return BlockKV(keys.to(dtype), values.to(dtype), kv.first_position)
