"""Rotary positions: move keys that were encoded at local positions to their place in a prompt. Knows no model class.

Rotations compose, R(p + offset) = R(offset) R(p) (RoPE, arXiv 2104.09864, section 3.2), so that all keys of a block
turn by one angle per frequency, whatever their own positions. A scaling of the keys' length (YaRN's attention factor)
is applied once, at encoding, and commutes with the turn.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

STATIC_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""RoPE types whose frequencies do not depend on the length of the prompt; only these compose."""


@dataclass(frozen=True)
class Rope:
    """Frequencies of a model's rotary positions.

    Attributes
    ----------
    inv_freq : torch.Tensor
        Angles per position in radians, float64, shape ``(rotary_dim / 2,)``. The first `rotary_dim` components of a
        head are rotated, in the half-split layout of `transformers` (component i pairs with i + rotary_dim / 2).
    """

    inv_freq: torch.Tensor

    def turn(self, offset: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine of a turn by `offset` positions, float32, shape ``(rotary_dim / 2,)`` each."""
        angle = self.inv_freq * offset
        return angle.cos().float(), angle.sin().float()

    def rotate(self, keys: torch.Tensor, offset: int, out: torch.Tensor) -> None:
        """Write `keys`, moved by `offset` positions, into `out`; `keys` is left as it is (rule 5).

        Parameters
        ----------
        keys, out : torch.Tensor
            Shape ``(..., tokens, head_dim)``, any float dtype; must not overlap. Arithmetic is float32 inside.
        offset : int
            Positions to move by, of either sign.
        """
        if offset == 0:
            out.copy_(keys)
            return
        half = len(self.inv_freq)
        rotary = 2 * half
        cos, sin = (part.to(keys.device) for part in self.turn(offset))
        low, high = keys[..., :half].float(), keys[..., half:rotary].float()
        out[..., :half] = (low * cos).addcmul_(high, sin, value=-1)
        out[..., half:rotary] = (high * cos).addcmul_(low, sin)
        out[..., rotary:] = keys[..., rotary:]


def use_exact_angles(rotary: torch.nn.Module) -> RemovableHandle:
    """Make a network's rotary module compute its angles in float64, until the returned handle is removed.

    Networks compute ``position * inv_freq`` in float32, which at position 4,096 is off by up to 2e-4 radians. Ordinary
    attention does not notice, since all of a prompt's tokens share the error; a block that was encoded at local
    positions does not share it, and the logits of a 135M model move by 3e-4. With exact angles a turned key is what
    the network computes in its place, up to the rounding of float32 itself.

    Parameters
    ----------
    rotary : torch.nn.Module
        A `transformers` rotary embedding: buffer `inv_freq`, attribute `attention_scaling`, called with hidden states
        and position ids.
    """

    def recompute(module: Any, args: tuple, kwargs: dict[str, Any], _output: Any) -> Any:
        positions = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        angles = positions[..., None].double() * module.inv_freq.double()
        angles = torch.cat([angles, angles], dim=-1)
        dtype = args[0].dtype
        return tuple((f(angles) * module.attention_scaling).to(dtype) for f in (torch.cos, torch.sin))

    return rotary.register_forward_hook(recompute, with_kwargs=True)
