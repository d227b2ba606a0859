"""Block KV in 8 or 4 bits. Not exact, so the user must choose it.

8 bits, symmetric: a number is its scale times an integer from -127 to 127. A channel of a key keeps its size over a
block's tokens (KIVI, arXiv 2402.02750, section 3.2), so keys have a scale for each layer, head and channel; values have
one for each layer, head and token. 4 bits, asymmetric: groups of numbers along the same directions share a scale and a
smallest number. Measured by `benchmarks/quantize.py`: in 8 bits, scales the other way round are two to three times
worse, and rotating keys back to position 0 first makes no measurable difference; in 4 bits it makes keys' errors a
tenth smaller, and the divergence of the next-token distribution no smaller.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from blockrag.errors import KVTierError
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


GROUP = 64
"""In 4 bits, tokens of a key's channel, and channels of a token's value, that share a scale and a smallest number."""

STEPS = 15


@dataclass(frozen=True)
class FourBitKV:
    """A block KV in 4 bits: a number is the smallest one of its group plus its scale times an integer from 0 to 15.

    Attributes
    ----------
    keys, values : torch.Tensor
        uint8, shape ``(layers, kv_heads, tokens, head_dim / 2)``: component i in the low four bits of byte i, component
        i + head_dim / 2 in the high ones.
    key_scales, key_mins : torch.Tensor
        float16, shape ``(layers, kv_heads, groups of tokens, head_dim)``.
    value_scales, value_mins : torch.Tensor
        float16, shape ``(layers, kv_heads, tokens, groups of components)``.
    first_position : int
        See `BlockKV`.
    """

    keys: torch.Tensor
    values: torch.Tensor
    key_scales: torch.Tensor
    key_mins: torch.Tensor
    value_scales: torch.Tensor
    value_mins: torch.Tensor
    first_position: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of integers, scales and smallest numbers together."""
        keys = (self.keys, self.key_scales, self.key_mins)
        return sum(t.nbytes for t in (*keys, self.values, self.value_scales, self.value_mins))


def quantize4(kv: BlockKV, group: int = GROUP) -> FourBitKV:
    """A near block KV in 4 bits; `kv` is left as it is.

    Raises
    ------
    KVTierError
        If numbers are too large for float16, or heads have an odd size.
    """
    keys, key_scales, key_mins = _to_int4(kv.keys.float(), -2, group)
    values, value_scales, value_mins = _to_int4(kv.values.float(), -1, group)
    return FourBitKV(keys, values, key_scales, key_mins, value_scales, value_mins, kv.first_position)


def dequantize4(kv: FourBitKV, dtype: torch.dtype, group: int = GROUP) -> BlockKV:
    """The block KV that `kv` stands for, in `dtype`; on the device where it is."""
    keys = _from_int4(kv.keys, kv.key_scales, kv.key_mins, -2, group)
    values = _from_int4(kv.values, kv.value_scales, kv.value_mins, -1, group)
    return BlockKV(keys.to(dtype), values.to(dtype), kv.first_position)


def _to_int4(numbers: torch.Tensor, dim: int, group: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Packed integers, and scales and smallest numbers of the groups along `dim`."""
    parts = numbers.split(group, dim)
    low = torch.cat([part.amin(dim, keepdim=True) for part in parts], dim).half()
    high = torch.cat([part.amax(dim, keepdim=True) for part in parts], dim)
    scales = ((high - low.float()).clamp(min=0) / STEPS).half()
    if numbers.shape[-1] % 2 or not (low.isfinite().all() and scales.isfinite().all()):
        raise KVTierError(
            f"block KV cannot be kept in 4 bits: heads of {numbers.shape[-1]} components, numbers up to "
            f"{float(numbers.abs().max()):.3g}; expected are even heads and numbers below 65,504. Keep it in 8 bits "
            "(--kv-at-rest int8)."
        )
    length = numbers.shape[dim]
    spread_scales, spread_low = _spread(scales, dim, group, length), _spread(low, dim, group, length)
    divisor = torch.where(spread_scales == 0, 1.0, spread_scales)
    integers = ((numbers - spread_low) / divisor).round().clamp(0, STEPS).to(torch.uint8)
    first, second = integers.chunk(2, -1)
    return first | (second << 4), scales, low


def _from_int4(packed: torch.Tensor, scales: torch.Tensor, low: torch.Tensor, dim: int, group: int) -> torch.Tensor:
    """The numbers, float32."""
    integers = torch.cat([packed & 15, packed >> 4], -1).float()
    length = integers.shape[dim]
    return integers.mul_(_spread(scales, dim, group, length)).add_(_spread(low, dim, group, length))


def _spread(of_groups: torch.Tensor, dim: int, group: int, length: int) -> torch.Tensor:
    """The value of each number's group, float32."""
    return of_groups.float().repeat_interleave(group, dim).narrow(dim, 0, length)
