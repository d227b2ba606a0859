"""Linear layers with weights in 8 bits, for faster decoding on a CPU. Not exact, so the user must choose them.

Decoding is limited by how fast weights are read. Each row of a matrix has a scale; a weight is off by at most 1/254 of
the largest in its row. Few tokens are multiplied with the 8-bit weights directly; for many, the weights are expanded
first, which costs less.

What it gains and costs is measured in docs/guides/models.md.
"""

import torch
from torch.nn.functional import linear

from blockrag.kv.quantize import to_int8

FEW_TOKENS = 16
"""Up to here the 8-bit product is faster than expanding the weights (measured on AVX2 and AVX-512)."""

ROWS = 8192
"""Rows that are converted at once, to bound memory."""


class Int8Linear(torch.nn.Module):
    """Takes the place of a linear layer ``(n_out, n_in)``; inputs and outputs keep the layer's type."""

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, layer: torch.nn.Linear):
        super().__init__()
        parts = [to_int8(rows.float(), 1) for rows in layer.weight.detach().split(ROWS)]
        self.register_buffer("weight", torch.cat([weight for weight, _ in parts]))
        self.register_buffer("scale", torch.cat([scale.flatten() for _, scale in parts]))
        self.bias = layer.bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``(..., n_in)`` -> ``(..., n_out)``."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        if len(rows) > FEW_TOKENS:
            return linear(inputs, self.weight.to(inputs.dtype) * self.scale.to(inputs.dtype)[:, None], self.bias)
        product = torch._weight_int8pack_mm(rows.bfloat16(), self.weight, self.scale.bfloat16())
        outputs = product.to(inputs.dtype).reshape(*inputs.shape[:-1], -1)
        return outputs if self.bias is None else outputs + self.bias


def use_int8(*networks: torch.nn.Module) -> None:
    """Replace all linear layers of the networks; weights that they share stay shared."""
    made: dict[int, Int8Linear] = {}
    for network in networks:
        for parent in list(network.modules()):
            for name, layer in parent.named_children():
                if isinstance(layer, torch.nn.Linear):
                    if id(layer.weight) not in made:
                        made[id(layer.weight)] = Int8Linear(layer)
                    setattr(parent, name, made[id(layer.weight)])
