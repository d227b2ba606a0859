"""Trainable low-rank changes of linear layers (LoRA, arXiv 2106.09685).

Matrices of layers with equal shapes are stacked, so that merging takes a few batched products instead of one per layer.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import linear

from blockrag.models.adapter import Changes
from blockrag.models.peft_format import balanced


class _LoRALinear(torch.nn.Module):
    """A frozen linear layer with a low-rank change, set by `_LoRAStack.update`.

    Parameters
    ----------
    layer : torch.nn.Linear
        Its weight is frozen and shared.
    stack : _LoRAStack
        Holds the matrices.
    number : int
        Index in the stack.
    """

    def __init__(self, layer: torch.nn.Linear, stack: "_LoRAStack", number: int):
        super().__init__()
        self.weight, self.bias = layer.weight.requires_grad_(False), layer.bias
        self.stack, self.number = stack, number
        self.merged: torch.Tensor | None = None
        self.factors: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def up(self) -> torch.Tensor:
        """``(n_out, rank)``, a view of the stack."""
        return self.stack.up[self.number]

    @property
    def down(self) -> torch.Tensor:
        """``(rank, n_in)``, a view of the stack."""
        return self.stack.down[self.number]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., n_in)`` -> ``(..., n_out)``."""
        if not self.stack.enabled:
            return linear(x, self.weight, self.bias)
        if self.merged is not None:
            return linear(x, self.merged, self.bias)
        assert self.factors is not None
        rows = x.reshape(-1, x.shape[-1])
        return UnmergedLinear.apply(rows, self.weight, self.bias, *self.factors, self.stack.scale).view(
            *x.shape[:-1], -1
        )


class UnmergedLinear(torch.autograd.Function):
    """A linear layer plus its unmerged low-rank change. Sums are fused into products, to write large results once."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """``(rows, n_in)`` -> ``(rows, n_out)``."""
        inner = linear(x, down)
        ctx.save_for_backward(x, weight, down, up, inner)
        ctx.scale = scale
        return linear(x, weight, bias).addmm_(inner, up.t(), alpha=scale)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Gradients of the input and the two low-rank matrices; weight and bias are frozen."""
        x, weight, down, up, inner = ctx.saved_tensors
        (gradient,) = gradients
        of_inner = (gradient @ up).mul_(ctx.scale)
        of_x = (gradient @ weight).addmm_(of_inner, down) if ctx.needs_input_grad[0] else None
        return of_x, None, None, of_inner.t() @ x, (gradient.t() @ inner).mul_(ctx.scale), None


class _LoRAStack:
    """Changes of layers of one shape: `up` ``(layers, n_out, rank)`` and `down` ``(layers, rank, n_in)``.

    Merged changes are added to the weight before each forward pass and rounded to its dtype, exactly as in serving.
    Unmerged changes are computed beside the weight, which is cheaper for wide layers.

    Parameters
    ----------
    weights : list of torch.Tensor
        Weights of the layers, ``(n_out, n_in)`` each.
    downs : list of torch.Tensor
        Initial `down` matrices; `up` starts at 0, so that the network starts unchanged.
    scale : float
        Factor of the product of the two matrices.
    merged : bool
    """

    def __init__(self, weights: list[torch.Tensor], downs: list[torch.Tensor], scale: float, merged: bool):
        (n_out, _), device = weights[0].shape, weights[0].device
        self.down = torch.nn.Parameter(torch.stack(downs).to(device))
        self.up = torch.nn.Parameter(torch.zeros(len(weights), n_out, len(downs[0]), device=device))
        self.scale, self.enabled, self._dtype = scale, True, weights[0].dtype
        self.layers: list[_LoRALinear] = []
        self._weights: torch.Tensor | None = None
        if merged:
            self._weights = torch.stack([weight.detach() for weight in weights])
            for weight, place in zip(weights, self._weights, strict=True):
                weight.data = place  # a view: no second copy

    def update(self) -> None:
        """Set the layers' changes from the current matrices; called before each forward pass."""
        if self._weights is not None:
            merged = torch.baddbmm(self._weights.float(), self.up, self.down, alpha=self.scale).to(self._dtype)
            for layer, weight in zip(self.layers, merged.unbind(), strict=True):
                layer.merged = weight
        else:
            pairs = zip(*(matrices.to(self._dtype).unbind() for matrices in (self.down, self.up)), strict=True)
            for layer, pair in zip(self.layers, pairs, strict=True):
                layer.factors = pair


class LoRA:
    """Low-rank changes of all linear layers of a network's decoder.

    Parameters
    ----------
    network : torch.nn.Module
        Modified in place: its decoder's linear layers are replaced, all its weights frozen.
    rank : int
    scale, merged
        See `_LoRAStack`.
    seed : int
        Seed of the initial `down` matrices.
    """

    def __init__(self, network: Any, rank: int, scale: float, merged: bool, seed: int):
        network.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        named: dict[tuple[int, ...], list[str]] = defaultdict(list)
        downs: dict[str, torch.Tensor] = {}
        for name, module in network.named_modules():
            if type(module) is torch.nn.Linear and name.startswith("model.layers."):
                bound = math.sqrt(3 / module.in_features)  # Kaiming initialisation of a linear layer
                downs[name] = torch.empty(rank, module.in_features).uniform_(-bound, bound, generator=generator)
                named[tuple(module.weight.shape)].append(name)
        self.layers: dict[str, _LoRALinear] = {}
        self.stacks: dict[str, _LoRAStack] = {}
        for shape, names in named.items():
            weights = [network.get_submodule(name).weight for name in names]
            stack = _LoRAStack(weights, [downs[name] for name in names], scale, merged)
            self.stacks["x".join(map(str, shape))] = stack
            for number, name in enumerate(names):
                self._replace(network, name, stack, number)
        network.model.register_forward_pre_hook(self._update_stacks)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Trainable parameters by name."""
        return {f"{n}.{kind}": getattr(stack, kind) for n, stack in self.stacks.items() for kind in ("down", "up")}

    @torch.no_grad()
    def start_from(self, changes: Changes) -> None:
        """Set the matrices to those of an adapter, of this rank or a lower one.

        The product stays the same; the rows of `down` get the norm that they have at initialisation, so that one
        learning rate suits both matrices whatever the adapter's scales are.

        Raises
        ------
        ValueError
            If a layer is missing, or its shape or rank does not fit.
        """
        if changes.keys() != self.layers.keys():
            raise ValueError(f"the adapter changes {len(changes)} layers; this network has {len(self.layers)}.")
        for name, layer in self.layers.items():
            up, down = (matrix.to(layer.up.device) for matrix in balanced(changes[name]))
            rank = len(down)
            if rank > layer.up.shape[1] or (len(up), down.shape[1]) != (len(layer.up), layer.down.shape[1]):
                raise ValueError(
                    f"the adapter's change of {name} is {len(up)} x {rank} x {down.shape[1]}; expected {len(layer.up)} "
                    f"x at most {layer.up.shape[1]} x {layer.down.shape[1]}. Raise --rank, or use its base model."
                )
            layer.down[:rank] = down
            layer.up[:, :rank] = up / layer.stack.scale

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Run the original network, bit for bit."""
        self._enable(False)
        try:
            yield
        finally:
            self._enable(True)

    def _replace(self, network: torch.nn.Module, name: str, stack: _LoRAStack, number: int) -> None:
        parent, _, attribute = name.rpartition(".")
        self.layers[name] = _LoRALinear(network.get_submodule(name), stack, number)  # type: ignore[arg-type]
        stack.layers.append(self.layers[name])
        setattr(network.get_submodule(parent), attribute, self.layers[name])

    def _update_stacks(self, *_: object) -> None:
        for stack in self.stacks.values():
            if stack.enabled:
                stack.update()

    def _enable(self, enabled: bool) -> None:
        for stack in self.stacks.values():
            stack.enabled = enabled
