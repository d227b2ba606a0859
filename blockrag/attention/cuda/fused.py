"""Replaces a network's small steps by one kernel each, within a context.

Replaced are normalisations, rotations, gated feed-forward layers, and the three products for query, key and value (done
as one, over concatenated weights, of which the modules' own weights become views). A function is replaced only if the
replacement gives the same result on random input.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

import torch
from torch.nn.functional import linear as many_row_product

from blockrag.attention.cuda.kernels import gated, normalise, rotate_both, row_product
from blockrag.attention.reference import agree

Replacement = tuple[Any, str, Callable[..., Any]]
"""Owner, name of its attribute, and the replacement."""

ROTATIONS = (
    rotate_both,
    partial(rotate_both, neighbours=True),
    partial(rotate_both, neighbours=True, repeat_each=True),
)
"""The families' rotations; no two give the same result for angles that differ in every component."""


class Fused:
    """The replacements for one network. Several threads may be inside at once; the last one out removes them."""

    def __init__(self, network: torch.nn.Module):
        self._lock = threading.Lock()
        self._n_inside = 0
        self._patches = ExitStack()
        kinds = (_norms, _rotation, _projections, _outputs, _feed_forwards)
        self._replacements = [replacement for kind in kinds for replacement in kind(network)]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Apply the replacements; for batches of one."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            if self._n_inside == 0:
                for owner, name, replacement in self._replacements:
                    self._patches.enter_context(patch.object(owner, name, replacement))
            self._n_inside += change
            if self._n_inside == 0:
                self._patches.close()


_MADE: WeakKeyDictionary[torch.nn.Module, Fused] = WeakKeyDictionary()


def fused(network: torch.nn.Module) -> AbstractContextManager[None]:
    """A context in which the small steps of `network`, on a GPU, are one kernel each; for batches of one."""
    if network not in _MADE:
        _MADE[network] = Fused(network)
    return _MADE[network]()


def _norms(network: torch.nn.Module) -> Iterator[Replacement]:
    """Root-mean-square normalisations of the common form."""
    for module in network.modules():
        if hasattr(module, "variance_epsilon") and module.weight.dim() == 1:
            forward = _norm(module)
            off_centre = torch.randn_like(module.weight)[None] + 1  # tells them from norms that subtract the mean
            if agree(module, forward, off_centre):
                yield module, "forward", forward


def _norm(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda hidden: normalise(hidden, module.weight, module.variance_epsilon)


def _projections(network: torch.nn.Module) -> Iterator[Replacement]:
    """Query, key and value of each attention module in one product."""
    for module in network.modules():
        linears = [getattr(module, name, None) for name in ("q_proj", "k_proj", "v_proj")]
        if all(type(projection) is torch.nn.Linear for projection in linears):
            yield from _together(linears)


def _together(linears: Sequence[Any]) -> Iterator[Replacement]:
    """The first one's pass computes all; the others return their part."""
    weight, bias = _side_by_side(linears, "weight"), None
    if linears[0].bias is not None:
        bias = _side_by_side(linears, "bias")
    sizes, waiting = [projection.out_features for projection in linears], threading.local()

    def first(hidden: torch.Tensor) -> torch.Tensor:
        own, *waiting.rest = _product(hidden, weight, bias).split(sizes, dim=-1)
        return own

    def later(hidden: torch.Tensor) -> torch.Tensor:
        return waiting.rest.pop(0)

    yield from ((projection, "forward", later if i else first) for i, projection in enumerate(linears))


@torch.no_grad()
def _side_by_side(linears: Sequence[Any], name: str) -> torch.Tensor:
    """One tensor of all weights (or biases); each module's own becomes a view of it."""
    whole = torch.cat([getattr(projection, name) for projection in linears])
    for projection, piece in zip(linears, whole.split([p.out_features for p in linears]), strict=True):
        getattr(projection, name).data = piece
    return whole


def _feed_forwards(network: torch.nn.Module) -> Iterator[Replacement]:
    """Gated feed-forward layers with SiLU and without biases."""
    for module in network.modules():
        linears = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
        if all(type(projection) is torch.nn.Linear and projection.bias is None for projection in linears):
            forward = _feed_forward(module)
            if agree(module, forward, torch.randn_like(module.gate_proj.weight[:1])):
                yield module, "forward", forward


def _feed_forward(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    weight, down = _side_by_side([module.gate_proj, module.up_proj], "weight"), module.down_proj.weight

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        if _is_row(hidden):
            return row_product(row_product(hidden, weight, gate=True), down)
        return module.down_proj(gated(many_row_product(hidden, weight)))

    return forward


def _outputs(network: torch.nn.Module) -> Iterator[Replacement]:
    """The output projection of each attention."""
    for module in network.modules():
        projection = getattr(module, "o_proj", None)
        if type(projection) is torch.nn.Linear:
            yield projection, "forward", _output(projection)


def _output(projection: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda hidden: _product(hidden, projection.weight, projection.bias)


def _product(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return (row_product if _is_row(hidden) else many_row_product)(hidden, weight, bias)


def _is_row(hidden: torch.Tensor) -> bool:
    return hidden.numel() == hidden.shape[-1] and hidden.is_contiguous()


def _rotation(network: torch.nn.Module) -> Iterator[Replacement]:
    """The family's rotation, if it is one of `ROTATIONS`."""
    rotation = find_rotation(network)
    if rotation is not None:
        yield sys.modules[type(network).__module__], "apply_rotary_pos_emb", rotation


def find_rotation(network: Any) -> Callable[..., Any] | None:
    """The one of `ROTATIONS` that gives what the network's family's `apply_rotary_pos_emb` gives."""
    original = getattr(sys.modules[type(network).__module__], "apply_rotary_pos_emb", None)
    dim = 2 * len(network.model.rotary_emb.inv_freq)
    if original is None or dim & (dim - 1):
        return None
    query, key, cos, sin = torch.randn(4, 1, 2, 3, dim, device=network.device, dtype=network.dtype)
    return next((each for each in ROTATIONS if agree(original, each, query, key, cos[:, 0], sin[:, 0])), None)
