"""Small steps of a network by one kernel each while it learns. Knows modules, no losses.

`transformers` normalises in eight small steps each way and rotates in ten, which on a small network are more of a
training step than its products.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.functional import rms_norm

from blockrag.attention.alike import alike

Rotate = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""(query, key, cos, sin) -> both, turned; as `apply_rotary_pos_emb` of `transformers`."""


def fuse(network: torch.nn.Module) -> None:
    """On CUDA, for as long as the process trains."""
    from blockrag.attention.cuda.fused import find_rotation  # noqa: PLC0415  (Triton, where there is a GPU)

    fuse_norms(network)
    rotate = find_rotation(network)
    if rotate:
        fuse_rotation(network, rotate)


def fuse_norms(network: torch.nn.Module) -> int:
    """Normalise by PyTorch's kernel where random input shows that it is the same; returns in how many places."""
    n_fused = 0
    for module in network.modules():
        weight, eps = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
        if eps is None or weight is None or weight.dim() != 1:
            continue
        forward = partial(rms_norm, normalized_shape=weight.shape, weight=weight, eps=eps)
        off_centre = torch.randn_like(weight)[None] + 1  # tells from those that take the mean away
        if alike(module, forward, off_centre):
            module.forward = forward
            n_fused += 1
    return n_fused


def fuse_rotation(network: torch.nn.Module, rotate: Rotate) -> None:
    """Let all networks of this one's family, from here on in this process, rotate by `rotate`, gradients too."""
    family = sys.modules[type(network).__module__]

    def with_gradient(query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *_: Any) -> Any:
        return Rotation.apply(rotate, query, key, cos, sin)

    family.apply_rotary_pos_emb = with_gradient  # type: ignore[attr-defined]


class Rotation(torch.autograd.Function):
    """A rotation of queries and keys. Its gradient is rotated the other way."""

    @staticmethod
    def forward(
        ctx: Any, rotate: Rotate, query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Rotate`."""
        ctx.rotate = rotate
        ctx.save_for_backward(cos, sin)
        return rotate(query, key, cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Of queries and keys; angles have none."""
        cos, sin = ctx.saved_tensors
        rows = (each if each.stride(-1) == 1 else each.contiguous() for each in gradients)
        return None, *ctx.rotate(*rows, cos, -sin), None, None
