"""How much arithmetic a pass is, and what share of the device's rate that makes (MFU). Knows shapes only."""

import torch

from training.distill.attention import n_pairs
from training.distill.config import DistillConfig
from training.distill.layout import Layout
from training.distill.learner import Learner
from training.distill.objectives import Pass

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Multiply-adds count two; dense, 16 bits, a second; by a part of the device's name (vendor's data sheets)."""


class Work:
    """Floating-point operations of passes of one learner.

    Only what the method needs is counted: no activation is computed twice, no pair that does not see each other, the
    gradient of a weight only where the change is added to it.
    """

    def __init__(self, learner: Learner, config: DistillConfig):
        self._config = config
        network = learner.model.network
        self._weights = sum(layer.weight.numel() for layer in learner.low_rank.layers.values())
        self._head = learner.head.numel()
        heads = network.config.num_attention_heads * learner.model.head_dim * learner.model.n_layers
        self._pair = 4 * heads

    def of(self, a_pass: Pass) -> float:
        """Of all runs of the network that the objective makes of a pass."""
        if self._config.objective != "distill":
            return sum(self._run(each, learned=True) for each in (a_pass.full, a_pass.blocks) if each)
        assert a_pass.full is not None and a_pass.blocks is not None
        looks = 1 + (self._config.token_weights == "damage")
        runs = [self._run(each, learned=False) for each in (a_pass.full, a_pass.blocks)[:looks]]
        return sum(runs) + self._run(a_pass.blocks, learned=True)

    def _run(self, layout: Layout, *, learned: bool) -> float:
        linear, attention = 2 * self._weights * layout.n_tokens, self._pair * n_pairs(layout)
        head = 2 * self._head * len(layout.rows)
        if not learned:
            return linear + attention + head
        return linear * (3 if self._config.merged else 2) + attention * 3 + head * 2


def peak(device: torch.device) -> float | None:
    """The device's rate, where it is known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate for part, rate in PEAK.items() if part in name), None)
