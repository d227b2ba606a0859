"""Low-rank changes of linear layers while they are learned (LoRA, arXiv 2106.09685). Knows modules, no losses.

Layers whose weights have one shape are kept in one stack, so that a pass begins with a few large products rather than
with several small ones for each layer.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import linear


class LowRankLinear(torch.nn.Module):
    """A frozen linear layer and a change of low rank, which `Stack.begin_pass` gives it.

    Parameters
    ----------
    layer : torch.nn.Linear
        Its weight is frozen and shared.
    stack : Stack
        Where its matrices are.
    number : int
        At which place.
    """

    def __init__(self, layer: torch.nn.Linear, stack: "Stack", number: int):
        super().__init__()
        self.weight, self.bias = layer.weight.requires_grad_(False), layer.bias
        self.stack, self.number = stack, number
        self.merged: torch.Tensor | None = None
        self.beside: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def up(self) -> torch.Tensor:
        """A view, ``(n_out, rank)``."""
        return self.stack.up[self.number]

    @property
    def down(self) -> torch.Tensor:
        """A view, ``(rank, n_in)``."""
        return self.stack.down[self.number]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., n_in)`` -> ``(..., n_out)``."""
        if not self.stack.enabled:
            return linear(x, self.weight, self.bias)
        if self.merged is not None:
            return linear(x, self.merged, self.bias)
        assert self.beside is not None
        rows = x.reshape(-1, x.shape[-1])
        return Beside.apply(rows, self.weight, self.bias, *self.beside, self.stack.scale).view(*x.shape[:-1], -1)


class Beside(torch.autograd.Function):
    """A linear layer and a change of low rank, with every sum made within a product: large results are written once."""

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
        """Of the input and the two matrices; weight and bias are frozen."""
        x, weight, down, up, inner = ctx.saved_tensors
        (gradient,) = gradients
        of_inner = (gradient @ up).mul_(ctx.scale)
        of_x = (gradient @ weight).addmm_(of_inner, down) if ctx.needs_input_grad[0] else None
        return of_x, None, None, of_inner.t() @ x, (gradient.t() @ inner).mul_(ctx.scale), None


class Stack:
    """The changes of layers of one shape: `up` ``(layers, n_out, rank)`` and `down` ``(layers, rank, n_in)``.

    A change is either added to the weight before each pass, in the weight's type, so that what is learned is what
    serving will compute; or computed beside it, which is less work for wide layers.

    Parameters
    ----------
    weights : list of torch.Tensor
        Of all layers, ``(n_out, n_in)`` each.
    downs : list of torch.Tensor
        What `down` begins as; `up` begins as 0, so that nothing is changed at first.
    scale : float
        The product of the two matrices is multiplied with it.
    merged : bool
        Whether the change is added to the weight.
    """

    def __init__(self, weights: list[torch.Tensor], downs: list[torch.Tensor], scale: float, merged: bool):
        (n_out, _), device = weights[0].shape, weights[0].device
        self.down = torch.nn.Parameter(torch.stack(downs).to(device))
        self.up = torch.nn.Parameter(torch.zeros(len(weights), n_out, len(downs[0]), device=device))
        self.scale, self.enabled, self._dtype = scale, True, weights[0].dtype
        self.layers: list[LowRankLinear] = []
        self._weights: torch.Tensor | None = None
        if merged:
            self._weights = torch.stack([weight.detach() for weight in weights])
            for weight, place in zip(weights, self._weights, strict=True):
                weight.data = place  # a view: nothing is kept twice

    def begin_pass(self) -> None:
        """Give the layers their changes as the matrices stand now."""
        if self._weights is not None:
            merged = torch.baddbmm(self._weights.float(), self.up, self.down, alpha=self.scale).to(self._dtype)
            for layer, weight in zip(self.layers, merged.unbind(), strict=True):
                layer.merged = weight
        else:
            pairs = zip(*(matrices.to(self._dtype).unbind() for matrices in (self.down, self.up)), strict=True)
            for layer, pair in zip(self.layers, pairs, strict=True):
                layer.beside = pair


class LowRank:
    """All low-rank layers of a network.

    Parameters
    ----------
    network : torch.nn.Module
        Its decoder's linear layers are replaced, and all else is frozen.
    rank : int
    scale, merged
        See `Stack`.
    seed : int
        Of what `down` begins as.
    """

    def __init__(self, network: Any, rank: int, scale: float, merged: bool, seed: int):
        network.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        named: dict[tuple[int, ...], list[str]] = defaultdict(list)
        downs: dict[str, torch.Tensor] = {}
        for name, module in network.named_modules():
            if type(module) is torch.nn.Linear and name.startswith("model.layers."):
                bound = math.sqrt(3 / module.in_features)  # Kaiming's, for a linear layer
                downs[name] = torch.empty(rank, module.in_features).uniform_(-bound, bound, generator=generator)
                named[tuple(module.weight.shape)].append(name)
        self.layers: dict[str, LowRankLinear] = {}
        self.stacks: dict[str, Stack] = {}
        for shape, names in named.items():
            weights = [network.get_submodule(name).weight for name in names]
            stack = Stack(weights, [downs[name] for name in names], scale, merged)
            self.stacks["x".join(map(str, shape))] = stack
            for number, name in enumerate(names):
                self._replace(network, name, stack, number)
        network.model.register_forward_pre_hook(self._begin_pass)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """What is learned, by name."""
        return {f"{n}.{kind}": getattr(stack, kind) for n, stack in self.stacks.items() for kind in ("down", "up")}

    @contextmanager
    def off(self) -> Iterator[None]:
        """The network without its changes, bit for bit."""
        self._enable(False)
        try:
            yield
        finally:
            self._enable(True)

    def _replace(self, network: torch.nn.Module, name: str, stack: Stack, number: int) -> None:
        parent, _, attribute = name.rpartition(".")
        self.layers[name] = LowRankLinear(network.get_submodule(name), stack, number)  # type: ignore[arg-type]
        stack.layers.append(self.layers[name])
        setattr(network.get_submodule(parent), attribute, self.layers[name])

    def _begin_pass(self, *_: object) -> None:
        for stack in self.stacks.values():
            if stack.enabled:
                stack.begin_pass()

    def _enable(self, enabled: bool) -> None:
        for stack in self.stacks.values():
            stack.enabled = enabled
