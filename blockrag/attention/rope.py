"""Rotary positions: moves keys that were encoded at local positions to their positions in a prompt.

Rotations compose, R(p + offset) = R(offset) R(p) (RoPE, arXiv 2104.09864, section 3.2), so that all keys of a block
are rotated by one angle per frequency, whatever their own positions. A scaling of the keys' length (YaRN's attention
factor) is applied once, at encoding, and commutes with the rotation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from blockrag.errors import UnsupportedModelError

ROPE_TYPES = ("default", "linear", "llama3", "yarn", "dynamic", "longrope")
"""RoPE types whose frequencies do not depend on the length of the prompt, and two for which `fix_length` sees to that.
Only then do rotations compose."""


Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosine and sine for each frequency, float32, shape ``(rotary_dim / 2,)`` each."""


@dataclass(frozen=True)
class Rope:
    """How positions act in each layer: the frequencies of rotary positions, and windows.

    Attributes
    ----------
    inv_freq : torch.Tensor
        Angles per position in radians, float64, shape ``(rotary_dim / 2,)``. The first `rotary_dim` components of a
        head are rotated; the others stay.
    rotated_layers : tuple of bool, optional
        Layer by layer, whether its keys are rotated; by default all are.
    interleaved : bool
        Whether components 2 i and 2 i + 1 are rotated together; by default i and i + rotary_dim / 2 are.
    windows : tuple of int or None, optional
        Layer by layer, how many positions a token sees, its own included; None sees all.
    local_inv_freq : torch.Tensor, optional
        Frequencies of the layers with a window, if they have their own.
    latent_sizes : tuple of int, optional
        With latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1), the components of a token's rotated key,
        which all heads share, and of its latent, from which the network computes the rest of keys and values. Block KV
        holds the former as keys and the latter as values, both with one head.
    """

    inv_freq: torch.Tensor
    rotated_layers: tuple[bool, ...] | None = None
    interleaved: bool = False
    windows: tuple[int | None, ...] | None = None
    local_inv_freq: torch.Tensor | None = None
    latent_sizes: tuple[int, int] | None = None

    def rotates(self, layer: int) -> bool:
        """Whether the keys of `layer` are rotated."""
        return self.rotated_layers is None or self.rotated_layers[layer]

    def window(self, layer: int) -> int | None:
        """How many positions a token of `layer` sees; None for all."""
        return None if self.windows is None else self.windows[layer]

    def is_local(self, layer: int) -> bool:
        """Whether `layer` has the frequencies `local_inv_freq`."""
        return self.local_inv_freq is not None and self.window(layer) is not None

    def is_common(self, head_dim: int) -> bool:
        """Whether all components of all layers are rotated alike, in halves, and no layer has a window: the case that
        CUDA kernels are written for."""
        is_alike = self.rotated_layers is None and self.windows is None and self.local_inv_freq is None
        return is_alike and self.latent_sizes is None and not self.interleaved and 2 * len(self.inv_freq) == head_dim

    def rotation(self, offset: int, layer: int = 0) -> Rotation | None:
        """The rotation by `offset` positions, of either sign; None for 0. `layer` matters where frequencies differ."""
        if offset == 0:
            return None
        local = self.local_inv_freq if self.is_local(layer) else None
        angle = (self.inv_freq if local is None else local) * offset
        return angle.cos().float(), angle.sin().float()

    def rotate(self, keys: torch.Tensor, rotation: Rotation | None, out: torch.Tensor) -> None:
        """Write rotated `keys` to `out`; `keys` is left as it is (rule 5).

        Parameters
        ----------
        keys, out : torch.Tensor
            Shape ``(..., tokens, head_dim)``, any float dtype; must not overlap. Arithmetic is float32 inside.
        rotation : Rotation or None
            See `rotation`; None copies.
        """
        if rotation is None:
            out.copy_(keys)
            return
        cos, sin = (part.to(keys.device) for part in rotation)
        low, high = (part.float() for part in self._pairs(keys))
        for target, one, other, sign in zip(self._pairs(out), (low, high), (high, low), (-1, 1), strict=True):
            rotated = target if out.dtype == torch.float32 else torch.empty(target.shape, device=out.device)
            torch.mul(one, cos, out=rotated).addcmul_(other, sin, value=sign)
            if rotated is not target:
                target.copy_(rotated)
        rotary = 2 * len(self.inv_freq)
        out[..., rotary:] = keys[..., rotary:]

    def _pairs(self, heads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Views of the components that are rotated together, shape ``(..., rotary_dim / 2)`` each."""
        half = len(self.inv_freq)
        if self.interleaved:
            return heads[..., 0 : 2 * half : 2], heads[..., 1 : 2 * half : 2]
        return heads[..., :half], heads[..., half : 2 * half]


def fix_length(rotary: Any, n_tokens: int) -> None:
    """Make a rotary module of type ``longrope`` or ``dynamic`` take the frequencies for a context of `n_tokens`,
    whatever the length of a prompt. Keys of other prompts could not be reused otherwise."""
    if getattr(rotary, "rope_type", "") in ("longrope", "dynamic"):
        inv_freq, scaling = ROPE_INIT_FUNCTIONS[rotary.rope_type](
            rotary.config, rotary.inv_freq.device, seq_len=n_tokens
        )
        rotary.inv_freq.copy_(inv_freq)
        rotary.attention_scaling, rotary.rope_type = scaling, "default"


def use_exact_angles(rotary: torch.nn.Module) -> RemovableHandle:
    """Make a network's rotary module compute its angles in float64, until the returned handle is removed. A
    second call replaces the first.

    Networks compute ``position * inv_freq`` in float32, which at position 4,096 is off by up to 2e-4 radians. Ordinary
    attention is not affected, since all of a prompt's tokens share the error; a block that was encoded at local
    positions does not share it, and the logits of a 135M model move by 3e-4. With exact angles a rotated key is what
    the network computes at the joined position, up to the rounding of float32.

    Parameters
    ----------
    rotary : torch.nn.Module
        A `transformers` rotary embedding: buffer `inv_freq`, attribute `attention_scaling`, called with hidden states
        and position ids.

    Raises
    ------
    UnsupportedModelError
        If its angles are not positions times `inv_freq`.
    """
    kinds = layer_kinds(rotary) or ("",)
    layouts = {kind: _layout(rotary, kind) for kind in kinds}

    def recompute(module: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        given = dict(zip(("x", "position_ids", "layer_type"), args, strict=False)) | kwargs
        kind = given.get("layer_type") or ""
        inv_freq, scaling = frequencies(module, kind)
        angles = given["position_ids"][..., None].double() * inv_freq.double()
        layout = layouts[kind]
        if layout is None:
            return torch.polar(torch.full_like(angles, scaling), angles).to(output.dtype)
        angles = layout(angles)
        return tuple((f(angles) * scaling).to(output[0].dtype) for f in (torch.cos, torch.sin))

    for number, hook in list(rotary._forward_hooks.items()):
        if getattr(hook, "computes_exact_angles", False):
            del rotary._forward_hooks[number], rotary._forward_hooks_with_kwargs[number]
    recompute.computes_exact_angles = True  # type: ignore[attr-defined]
    return rotary.register_forward_hook(recompute, with_kwargs=True)


def layer_kinds(rotary: Any) -> tuple[str, ...]:
    """Types of layers with frequencies of their own, such as ``full_attention``; empty if all layers share them."""
    if hasattr(rotary, "inv_freq"):
        return ()
    return tuple(kind for kind in getattr(rotary, "layer_types", ()) if hasattr(rotary, f"{kind}_inv_freq"))


def frequencies(rotary: Any, kind: str = "") -> tuple[torch.Tensor, float]:
    """Frequencies and scaling of a rotary module; of layers of type `kind`, if these have their own."""
    prefix = f"{kind}_" if kind else ""
    return getattr(rotary, f"{prefix}inv_freq"), getattr(rotary, f"{prefix}attention_scaling")


def _layout(rotary: Any, kind: str) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """How the module repeats the angles: all of them twice, each twice, or not at all. None if it gives complex numbers
    instead of cosines and sines."""
    inv_freq, scaling = frequencies(rotary, kind)
    one = torch.ones(1, 1, dtype=torch.long, device=inv_freq.device)
    found = rotary(torch.zeros(1, 1, device=inv_freq.device), one, *([kind] if kind else []))
    if torch.is_tensor(found) and found.is_complex():
        expected = torch.polar(torch.full_like(inv_freq, scaling, dtype=torch.float32), inv_freq.float())
        if found.shape[-1:] == expected.shape and torch.allclose(found[0, 0], expected, atol=1e-5):
            return None
    cos = found[0][0, 0]
    for twice in (_halves, _neighbours, _once):
        expected = twice(inv_freq.float()).cos() * scaling
        if cos.shape == expected.shape and torch.allclose(cos, expected, atol=1e-5):
            return twice
    raise UnsupportedModelError(
        f"{type(rotary).__name__} computes its angles in its own way, so that cached keys cannot be moved; "
        "expected are cosines and sines of positions times inv_freq. Use a model of a verified family."
    )


def _halves(angles: torch.Tensor) -> torch.Tensor:
    return torch.cat([angles, angles], dim=-1)


def _once(angles: torch.Tensor) -> torch.Tensor:
    return angles


def _neighbours(angles: torch.Tensor) -> torch.Tensor:
    return angles.repeat_interleave(2, dim=-1)
