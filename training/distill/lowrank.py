"""Low-rank changes of linear layers while they are learned (LoRA, arXiv 2106.09685). Knows modules, no losses."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.functional import linear


class LowRankLinear(torch.nn.Module):
    """A frozen linear layer and a change of low rank.

    The change is either added to the weight before each pass, in the weight's type, so that what is learned is what
    serving will compute; or computed beside it, which is less work for wide layers.

    Parameters
    ----------
    layer : torch.nn.Linear
        Its weight is frozen and shared.
    rank : int
    scale : float
        The product of the two matrices is multiplied with it.
    merged : bool
        Whether the change is added to the weight.
    generator : torch.Generator
        Draws `down`; `up` begins as 0, so that nothing is changed at first.
    """

    def __init__(self, layer: torch.nn.Linear, rank: int, scale: float, merged: bool, generator: torch.Generator):
        super().__init__()
        self.weight, self.bias = layer.weight.requires_grad_(False), layer.bias
        n_out, n_in = layer.weight.shape
        bound = math.sqrt(3 / n_in)  # Kaiming's, for a linear layer
        drawn = torch.empty(rank, n_in).uniform_(-bound, bound, generator=generator)
        self.down = torch.nn.Parameter(drawn.to(layer.weight.device))
        self.up = torch.nn.Parameter(torch.zeros(n_out, rank, device=layer.weight.device))
        self.scale, self.merged, self.enabled = scale, merged, True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., n_in)`` -> ``(..., n_out)``."""
        if not self.enabled:
            return linear(x, self.weight, self.bias)
        if self.merged:
            weight = torch.addmm(self.weight.float(), self.up, self.down, alpha=self.scale)
            return linear(x, weight.to(self.weight.dtype), self.bias)
        beside = linear(linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))
        return torch.add(linear(x, self.weight, self.bias), beside, alpha=self.scale)


class LowRank:
    """All low-rank layers of a network.

    Parameters
    ----------
    network : torch.nn.Module
        Its decoder's linear layers are replaced, and all else is frozen.
    rank, scale, merged, seed
        See `LowRankLinear`.
    """

    def __init__(self, network: torch.nn.Module, rank: int, scale: float, merged: bool, seed: int):
        network.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        names = [n for n, m in network.named_modules() if type(m) is torch.nn.Linear and n.startswith("model.layers.")]
        self.layers: dict[str, LowRankLinear] = {}
        for name in names:
            parent, _, attribute = name.rpartition(".")
            layer = getattr(network.get_submodule(parent), attribute)
            self.layers[name] = LowRankLinear(layer, rank, scale, merged, generator)
            setattr(network.get_submodule(parent), attribute, self.layers[name])

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """What is learned, by name."""
        return {f"{n}.{kind}": getattr(m, kind) for n, m in self.layers.items() for kind in ("down", "up")}

    @contextmanager
    def off(self) -> Iterator[None]:
        """The network without its changes, bit for bit."""
        self._enable(False)
        try:
            yield
        finally:
            self._enable(True)

    def _enable(self, enabled: bool) -> None:
        for layer in self.layers.values():
            layer.enabled = enabled
