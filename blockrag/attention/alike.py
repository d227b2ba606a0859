"""Whether a faster way to compute something gives what the network's own way gives. Knows tensors alone."""

from collections.abc import Callable
from typing import Any

import torch

CLOSE = 2**-6
"""Relative difference of two ways to round the same sums in bfloat16: a few units of its last place."""


@torch.no_grad()
def alike(one: Callable[..., Any], other: Callable[..., Any], *args: torch.Tensor) -> bool:
    """Whether both give the same tensors, one or several, but for `CLOSE`."""
    pairs = zip(*(r if isinstance(r, tuple) else (r,) for r in (one(*args), other(*args))), strict=True)
    return all(bool((a - b).abs().max() <= CLOSE * a.abs().max()) for a, b in pairs)
