"""The training log ``log.jsonl``: losses, speed and FLOPs. ``python -m training.distill plot`` plots logs."""

import argparse
import json
import time
from pathlib import Path
from typing import IO, Any

import torch

from training.distill.attention import count_pairs
from training.distill.config import DistillConfig
from training.distill.layout import KINDS, Layout
from training.distill.model import TrainableModel
from training.distill.objectives import MicroBatch, kind_weights, total
from training.distill.processes import Processes

LOG_EVERY = 10
LOG = "log.jsonl"
PANELS = ("loss", "divergence_answer", "damage_answer", "lr", "tokens_per_s")

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense 16-bit FLOP/s by a part of the device's name (vendors' data sheets)."""


class TrainingLog:
    """Writes one line every `LOG_EVERY` steps: means over these steps and all processes.

    Parameters
    ----------
    model : TrainableModel
    config : DistillConfig
    processes : Processes
        Only the first one writes.
    folder : Path
        Folder of ``log.jsonl``.
    first_step : int
        Earlier lines of an existing log are kept up to this step.
    """

    norm: torch.Tensor

    def __init__(
        self, model: TrainableModel, config: DistillConfig, processes: Processes, folder: Path, first_step: int
    ):
        self._config, self._processes, self._device = config, processes, model.device
        self._counter, self._peak = _FlopCounter(model, config), _peak_flops(model.device)
        self._path = folder / LOG
        self._kept = self._earlier_lines(first_step)
        self._file: IO[str] | None = None
        self._reset()

    def __enter__(self) -> "TrainingLog":
        if self._processes.is_first:
            self._file = self._path.open("w")
            self._file.writelines(self._kept)
        return self

    def __exit__(self, *error: object) -> None:
        if self._file:
            self._file.close()

    def add(self, batch: MicroBatch, sums: dict[str, torch.Tensor]) -> None:
        """Add a micro-batch's sums over its examples; they stay on the device."""
        self._n_tokens += batch.n_tokens
        self._flops += self._counter.count(batch)
        for name, values in sums.items():
            self._sums[name] = self._sums.get(name, 0) + values

    def end_step(self, step: int, optimizer: torch.optim.Optimizer, *, last: bool) -> dict[str, Any]:
        """Count a step; write and return a line if one is due, else return an empty dict."""
        self._n_steps += 1
        if not ((step + 1) % LOG_EVERY == 0 or last):
            return {}
        line = self._line(step, optimizer.param_groups[0]["lr"])
        if self._file:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        self._reset()
        return line

    def _line(self, step: int, lr: float) -> dict[str, Any]:
        n = self._n_steps * self._config.examples
        sums = {name: self._processes.sum(values) / n for name, values in self._sums.items()}
        line: dict[str, Any] = {"step": step + 1, "loss": float(total(sums["loss"], self._config))}
        for name, values in sums.items():
            kinds = zip(KINDS, values.tolist(), kind_weights(self._config), strict=True)
            line |= {f"{name}_{kind}": value for kind, value, weight in kinds if weight}
        seconds = time.perf_counter() - self._since
        counts = torch.tensor([self._n_tokens, self._flops], dtype=torch.float64)
        n_tokens, flops = self._processes.sum(counts.float().to(self._device)).tolist()
        speed = {"tokens_per_s": n_tokens / seconds, "step_s": seconds / self._n_steps}
        possible = (self._peak or 0) * self._processes.n * seconds
        memory = torch.cuda.max_memory_allocated() if self._device.type == "cuda" else None
        device = {"mfu": flops / possible if possible else None, "memory_nbytes": memory}
        return {**line, "lr": lr, **speed, **device, "grad_norm": float(self.norm)}

    def _reset(self) -> None:
        self._since, self._n_steps, self._n_tokens, self._flops = time.perf_counter(), 0, 0, 0.0
        self._sums: dict[str, torch.Tensor] = {}

    def _earlier_lines(self, first_step: int) -> list[str]:
        if not first_step or not self._path.exists():
            return []
        lines = self._path.read_text().splitlines(keepends=True)
        return [line for line in lines if json.loads(line)["step"] <= first_step]


class _FlopCounter:
    """Floating-point operations of micro-batches, for MFU.

    Counts only what the method needs: no recomputed activations, no masked pairs, and the gradient of a weight only if
    the low-rank change is merged into it. A multiply-add counts as two.
    """

    def __init__(self, model: TrainableModel, config: DistillConfig):
        self._config = config
        base = model.base
        self._n_weights = sum(layer.weight.numel() for layer in model.lora.layers.values())
        self._n_head = model.head.numel()
        self._per_pair = 4 * base.network.config.num_attention_heads * base.head_dim * base.n_layers

    def count(self, batch: MicroBatch) -> float:
        """FLOPs of all forward and backward passes that the objective needs for this micro-batch."""
        if self._config.objective != "distill":
            trained: float = sum(self._layout_flops(each, trained=True) for each in (batch.full, batch.blocks) if each)
            if self._config.objective == "distill-both" and batch.full:
                trained += self._layout_flops(batch.full, trained=False)
            return trained
        assert batch.full is not None and batch.blocks is not None
        flops = self._layout_flops(batch.full, trained=False) + self._layout_flops(batch.blocks, trained=True)
        if self._config.token_weights == "damage":
            flops += self._layout_flops(batch.blocks, trained=False)
        return flops

    def _layout_flops(self, layout: Layout, *, trained: bool) -> float:
        linear, attention = 2 * self._n_weights * layout.n_tokens, self._per_pair * count_pairs(layout)
        head = 2 * self._n_head * len(layout.rows)
        if not trained:
            return linear + attention + head
        return linear * (3 if self._config.merged else 2) + attention * 3 + head * 2


def _peak_flops(device: torch.device) -> float | None:
    """FLOP/s of the device, or None if unknown."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate for part, rate in PEAK_FLOPS.items() if part in name), None)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Lines of a run's log, in order."""
    return [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``plot``."""
    parser.add_argument("runs", nargs="+", type=Path, help="folders with a log.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="output file, .png or .svg")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Plot one panel per quantity, one line per run."""
    import matplotlib  # noqa: PLC0415  (slow to import)

    matplotlib.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415

    logs = {folder.name: read_log(folder) for folder in args.runs}
    panels = [name for name in PANELS if any(line.get(name) is not None for log in logs.values() for line in log)]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4 * len(panels), 3.2), squeeze=False)
    for name, axis in zip(panels, axes[0], strict=True):
        for run_name, log in logs.items():
            lines = [line for line in log if line.get(name) is not None]
            axis.plot([line["step"] for line in lines], [line[name] for line in lines], label=run_name)
        axis.set(title=name.replace("_", " "), xlabel="step")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(args.out, dpi=120)
    return {"file": str(args.out), "runs": list(logs)}
