"""Fused kernels for norms, gates and rotations in training.

`transformers` runs eight small kernels for a norm and ten for a rotation. In a small network they take longer than the
matrix products.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn.functional import rms_norm, silu

from blockrag.attention.reference import agree

Gate = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(gate, up) -> silu(gate) * up."""

Candidate = tuple[Any, Callable[..., torch.Tensor], torch.Tensor]
"""A module, a replacement of its `forward`, and an input to compare the two."""

Rotate = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""(query, key, cos, sin) -> rotated query and key, like `apply_rotary_pos_emb` of `transformers`."""


def silu_gate(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """See `Gate`."""
    return silu(gate) * up


def fuse(network: torch.nn.Module) -> None:
    """Replace norms, gates and the rotation on CUDA. Lasts until the process ends."""
    from blockrag.attention.cuda.fused import find_rotation  # noqa: PLC0415  (needs Triton)

    fuse_norms(network)
    fuse_gates(network, torch.compile(silu_gate, dynamic=True))
    rotate = find_rotation(network)
    if rotate:
        fuse_rotation(network, rotate)


def fuse_norms(network: torch.nn.Module) -> int:
    """Use PyTorch's RMSNorm kernel where it agrees on random input; return the number of replaced modules."""
    return _replace(_norms(network))


def fuse_gates(network: torch.nn.Module, gate: Gate) -> int:
    """Use `gate` in feed-forward layers where it agrees on random input; return the number of replaced modules.

    The linear layers inside may be replaced afterwards.
    """
    return _replace(_feed_forwards(network, gate))


def _replace(candidates: Iterable[Candidate]) -> int:
    n_replaced = 0
    for module, forward, tried in candidates:
        if agree(module, forward, tried):
            module.forward = forward
            n_replaced += 1
    return n_replaced


def _norms(network: torch.nn.Module) -> Iterator[Candidate]:
    for module in network.modules():
        weight, eps = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
        if eps is not None and weight is not None and weight.dim() == 1:
            off_centre = torch.randn_like(weight)[None] + 1  # a LayerNorm, which subtracts the mean, fails on it
            yield module, partial(rms_norm, normalized_shape=weight.shape, weight=weight, eps=eps), off_centre


def _feed_forwards(network: Any, gate: Gate) -> Iterator[Candidate]:
    for module in network.modules():
        if all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj")):
            yield module, partial(_gated, module, gate), torch.randn_like(module.gate_proj.weight[:1])


def _gated(module: Any, gate: Gate, hidden: torch.Tensor) -> torch.Tensor:
    return module.down_proj(gate(module.gate_proj(hidden), module.up_proj(hidden)))


def fuse_rotation(network: torch.nn.Module, rotate: Rotate) -> None:
    """Use `rotate`, forward and backward, in all networks of this family, until the process ends."""
    family = sys.modules[type(network).__module__]

    def with_gradient(query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *_: Any) -> Any:
        return Rotation.apply(rotate, query, key, cos, sin)

    family.apply_rotary_pos_emb = with_gradient  # type: ignore[attr-defined]


class Rotation(torch.autograd.Function):
    """A rotation of queries and keys; the gradient is rotated by the opposite angle."""

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
        """Gradients of queries and keys only."""
        cos, sin = ctx.saved_tensors
        rows = (each if each.stride(-1) == 1 else each.contiguous() for each in gradients)
        return None, *ctx.rotate(*rows, cos, -sin), None, None
