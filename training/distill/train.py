"""The training loop: micro-batches, gradients summed over all processes, a log, checkpoints."""

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from training.distill.config import DISTILLATIONS, DistillConfig
from training.distill.examples import Example, Examples
from training.distill.log import TrainingLog
from training.distill.model import TrainableModel
from training.distill.objectives import MicroBatch, losses, make_batch, total
from training.distill.processes import Processes


@dataclass(frozen=True, eq=False)
class Run:
    """Inputs of one training run; `out` is the folder of its log and checkpoint."""

    model: TrainableModel
    examples: Examples
    config: DistillConfig
    processes: Processes
    out: Path

    @property
    def checkpoint(self) -> Path:
        """Folder of the checkpoint."""
        return self.out / "checkpoint"


def fit(run: Run, *, resume: bool = False, keep: bool = True) -> dict[str, Any]:
    """Train; return the last line of the log.

    A resumed run takes the same steps as an uninterrupted one. With ``keep=False`` no checkpoint is written.
    """
    config, parameters = run.config, run.model.parameters()
    fused = run.model.device.type == "cuda"
    optimizer = torch.optim.AdamW(parameters.values(), config.lr, (0.9, 0.95), weight_decay=0.0, fused=fused)
    resuming = resume and run.checkpoint.exists()
    first_step = load_checkpoint(run.checkpoint, parameters, optimizer) if resuming else 0
    run.out.mkdir(parents=True, exist_ok=True)
    line: dict[str, Any] = {}
    since = time.perf_counter()
    with TrainingLog(run.model, config, run.processes, run.out, first_step) as log:
        for step, batches in _prefetched(run, first_step):
            spent = run.processes.max((time.perf_counter() - since) / (60 * config.minutes)) if config.minutes else 0.0
            _step(run, batches, optimizer, log, learning_rate(step, config, spent))
            last = step + 1 == config.steps or spent >= 1
            line = log.end_step(step, optimizer, last=last) or line
            due = last or (config.save_every and (step + 1) % config.save_every == 0)
            if keep and due and run.processes.is_first:
                save_checkpoint(run.checkpoint, step + 1, parameters, optimizer)
            if last:
                break
    run.processes.wait()
    return line


def _step(
    run: Run, batches: Sequence[MicroBatch], optimizer: torch.optim.Optimizer, log: TrainingLog, lr: float
) -> None:
    config = run.config
    optimizer.zero_grad(set_to_none=True)
    for batch in batches:
        found = losses(run.model, batch.to(run.model.device), config)
        (total(found.loss, config) / config.examples).backward()
        log.add(batch, {"loss": found.loss.detach(), **found.logged})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    run.processes.sum_gradients(parameters)
    log.norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()


def learning_rate(step: int, config: DistillConfig, spent: float = 0.0) -> float:
    """Linear warm-up, then a cosine; steps count from 0. `spent` is the share of a time limit that has passed."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup))
    done = max(spent, max(0, step - config.warmup) / max(1, config.steps - config.warmup))
    decay = config.lr_end + (1 - config.lr_end) * (1 + math.cos(math.pi * min(1.0, done))) / 2
    return config.lr * warmup * decay


def draw(examples: Examples, step: int, config: DistillConfig) -> list[tuple[Example, list[bool]]]:
    """A step's examples, each with flags of its open blocks (block dropout). Depends on seed and step only.

    Every example is used once before any is used again; with `shuffle` and `exchange`, between other blocks each time.
    """
    drawn = []
    for slot in range(config.examples):
        epoch, index = divmod(step * config.examples + slot, len(examples.items))
        example = examples.items[_permutation(len(examples.items), config.seed, epoch)[index]]
        generator = np.random.default_rng((config.seed, step, slot))
        chance = generator.random(len(example.blocks))
        example = _rearranged(example, examples, config, generator)
        share = config.dropout if config.objective in DISTILLATIONS else 0.0
        drawn.append((example, (chance < share).tolist()))
    return drawn


def _rearranged(example: Example, examples: Examples, config: DistillConfig, generator: np.random.Generator) -> Example:
    """The example with its blocks in random order, or with some of them exchanged for other examples' blocks.

    Distillation needs no right answers: the teacher reads the same blocks, so whatever it says of them is the target.
    """
    if not (config.shuffle or config.exchange):
        return example
    blocks = list(example.blocks)
    if generator.random() < config.shuffle:
        blocks = [blocks[i] for i in generator.permutation(len(blocks))]
    if config.exchange:
        for place in np.flatnonzero(generator.random(len(blocks)) < config.exchange):
            other = examples.items[generator.integers(len(examples.items))].blocks
            found = other[generator.integers(len(other))]
            if len(found) <= max(len(blocks[place]), 64):  # examples keep about their length
                blocks[place] = found
    return replace(example, blocks=blocks)


@cache
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(n)


def micro_batches(run: Run, step: int) -> list[MicroBatch]:
    """This process's share of a step, packed greedily: each micro-batch holds the examples that fit, at least one."""
    drawn = draw(run.examples, step, run.config)[run.processes.number :: run.processes.n]
    rules, prefix = run.model.rules, run.examples.prefix
    packs: list[list[tuple[Example, list[bool]]]] = []
    room = 0
    for example, open_blocks in drawn:
        extra = rules.n_sinks + rules.n_links + (len(prefix) if rules.prefix_visible else 0)
        n_tokens = len(prefix) + example.n_tokens + extra * len(example.blocks)
        if not packs or n_tokens > room:
            packs.append([])
            room = run.config.pack_tokens
        packs[-1].append((example, open_blocks))
        room -= n_tokens
    batches = []
    for pack in packs:
        examples, flags = zip(*pack, strict=True)
        batches.append(make_batch(prefix, examples, flags, rules, run.config))
    return batches


def _prefetched(run: Run, first_step: int) -> Iterator[tuple[int, list[MicroBatch]]]:
    """Steps with their micro-batches; a thread prepares the next step during this one."""
    steps = range(first_step, run.config.steps)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(micro_batches, run, first_step)
        for step in tqdm(steps, desc=run.config.objective, disable=not run.processes.is_first):
            batches = coming.result()
            coming = pool.submit(micro_batches, run, min(step + 1, run.config.steps - 1))
            yield step, batches


def save_checkpoint(
    folder: Path, step: int, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Write parameters, optimiser state and step to a new folder, then replace `folder`."""
    aside = folder.with_name(folder.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    tensors = {f"parameter.{name}": parameter.detach().cpu().contiguous() for name, parameter in parameters.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value.detach().cpu().contiguous() for key, value in state.items()}
    save_file(tensors, aside / "state.safetensors")
    (aside / "step.json").write_text(json.dumps({"step": step}))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)


def load_checkpoint(
    folder: Path, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> int:
    """Restore parameters and optimiser from `save_checkpoint`; return the step."""
    tensors = load_file(folder / "state.safetensors")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"parameter.{name}"])
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        kind, number, key = (name.split(".", 2) + ["", ""])[:3]
        if kind == "optimizer":
            state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return json.loads((folder / "step.json").read_text())["step"]
