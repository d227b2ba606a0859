"""The loop: steps of passes, gradients over all processes, a log, checkpoints. Knows no files but its own."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from tqdm import tqdm

from training.distill import checkpoint
from training.distill.config import DistillConfig
from training.distill.examples import Example, Examples
from training.distill.layout import KINDS
from training.distill.learner import Learner
from training.distill.objectives import Pass, lay, losses, total, worths
from training.distill.processes import Processes
from training.distill.work import Work, peak

LOG_EVERY = 10
LOG = "log.jsonl"


@dataclass(frozen=True, eq=False)
class Run:
    """What one training run is made of.

    Attributes
    ----------
    learner : Learner
    examples : Examples
    config : DistillConfig
    processes : Processes
    out : Path
        Folder of the log and the checkpoint.
    """

    learner: Learner
    examples: Examples
    config: DistillConfig
    processes: Processes
    out: Path

    @property
    def checkpoint(self) -> Path:
        """Folder of the checkpoint."""
        return self.out / "checkpoint"


def fit(run: Run, *, resume: bool = False, keep: bool = True) -> dict[str, Any]:
    """Train; returns the last line of the log.

    Every step is the same whether the run was stopped before it or not. Without `keep` no checkpoint is written.
    """
    config, parameters = run.config, run.learner.parameters()
    fused = run.learner.device.type == "cuda"
    optimizer = torch.optim.AdamW(parameters.values(), config.lr, (0.9, 0.95), weight_decay=0.0, fused=fused)
    resuming = resume and run.checkpoint.exists()
    begun = checkpoint.restore(run.checkpoint, parameters, optimizer) if resuming else 0
    run.out.mkdir(parents=True, exist_ok=True)
    line: dict[str, Any] = {}
    since = time.perf_counter()
    with _Log(run, begun) as log:
        for step, passes in _prefetched(run, begun):
            spent = run.processes.most((time.perf_counter() - since) / (60 * config.minutes)) if config.minutes else 0.0
            _step(run, step, passes, optimizer, log, rate(step, config, spent))
            last = step + 1 == config.steps or spent >= 1
            line = log.close_step(step, optimizer, last=last) or line
            due = last or (config.save_every and (step + 1) % config.save_every == 0)
            if keep and due and run.processes.is_first:
                checkpoint.save(run.checkpoint, step + 1, parameters, optimizer)
            if last:
                break
    run.processes.wait()
    return line


def _step(
    run: Run, step: int, passes: Sequence[Pass], optimizer: torch.optim.Optimizer, log: "_Log", lr: float
) -> None:
    config = run.config
    optimizer.zero_grad(set_to_none=True)
    for a_pass in passes:
        found = losses(run.learner, a_pass.to(run.learner.device), config)
        (total(found.learned, config) / config.examples).backward()
        log.add(a_pass, {"loss": found.learned.detach(), **found.told})
    parameters = [group_parameter for group in optimizer.param_groups for group_parameter in group["params"]]
    run.processes.sum_gradients(parameters)
    log.norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()


def rate(step: int, config: DistillConfig, spent: float = 0.0) -> float:
    """Learning rate of a step, counted from 0. `spent` is the share of the time that has passed, if it is limited."""
    rising = min(1.0, (step + 1) / max(1, config.warmup))
    done = max(spent, max(0, step - config.warmup) / max(1, config.steps - config.warmup))
    falling = config.lr_end + (1 - config.lr_end) * (1 + math.cos(math.pi * min(1.0, done))) / 2
    return config.lr * rising * falling


def draw(examples: Examples, step: int, config: DistillConfig) -> list[tuple[Example, list[bool]]]:
    """The examples of a step, each with which of its blocks are lifted; every example once before any comes again."""
    drawn = []
    for slot in range(config.examples):
        epoch, place = divmod(step * config.examples + slot, len(examples.items))
        example = examples.items[_order(len(examples.items), config.seed, epoch)[place]]
        chance = np.random.default_rng((config.seed, step, slot)).random(len(example.blocks))
        share = config.dropout if config.objective == "distill" else 0.0
        drawn.append((example, (chance < share).tolist()))
    return drawn


@cache
def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(n)


def passes_of(run: Run, step: int) -> list[Pass]:
    """This process's share of a step, packed: each pass holds as many examples as fit, at least one."""
    drawn = draw(run.examples, step, run.config)[run.processes.number :: run.processes.n]
    rules, prefix = run.learner.rules, run.examples.prefix
    packs: list[list[tuple[Example, list[bool]]]] = []
    room = 0
    for example, lifted in drawn:
        extra = rules.n_sinks + rules.n_links + (len(prefix) if rules.prefix_visible else 0)
        n_tokens = len(prefix) + example.n_tokens + extra * len(example.blocks)
        if not packs or n_tokens > room:
            packs.append([])
            room = run.config.pack_tokens
        packs[-1].append((example, lifted))
        room -= n_tokens
    return [
        lay(prefix, [one for one, _ in pack], [lifted for _, lifted in pack], run.learner, run.config) for pack in packs
    ]


def _prefetched(run: Run, begun: int) -> Iterator[tuple[int, list[Pass]]]:
    """Steps with their passes, the next one's laid out while one is computed."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(passes_of, run, begun)
        for step in tqdm(range(begun, run.config.steps), desc=run.config.objective, disable=not run.processes.is_first):
            passes = coming.result()
            coming = pool.submit(passes_of, run, min(step + 1, run.config.steps - 1))
            yield step, passes


class _Log:
    """``log.jsonl``: one line every `LOG_EVERY` steps, of means over them and all processes."""

    norm: torch.Tensor

    def __init__(self, run: Run, begun: int):
        self._run, self._work = run, Work(run.learner, run.config)
        self._peak = peak(run.learner.device)
        self._kept = self._lines(run.out / LOG, begun)
        self._file: IO[str] | None = None
        self._reset()

    def __enter__(self) -> "_Log":
        if self._run.processes.is_first:
            self._file = (self._run.out / LOG).open("w")
            self._file.writelines(self._kept)
        return self

    def __exit__(self, *error: object) -> None:
        if self._file:
            self._file.close()

    def add(self, a_pass: Pass, found: dict[str, torch.Tensor]) -> None:
        """A pass's sums over its examples, left on the device."""
        self._n_tokens += a_pass.n_tokens
        self._flops += self._work.of(a_pass)
        for name, values in found.items():
            self._sums[name] = self._sums.get(name, 0) + values

    def close_step(self, step: int, optimizer: torch.optim.Optimizer, *, last: bool) -> dict[str, Any]:
        """Count a step; the line, where one was due."""
        self._n_steps += 1
        due = (step + 1) % LOG_EVERY == 0 or last
        if not due:
            return {}
        line = self._line(step, optimizer.param_groups[0]["lr"])
        if self._file:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        self._reset()
        return line

    def _line(self, step: int, lr: float) -> dict[str, Any]:
        config, n = self._run.config, self._n_steps * self._run.config.examples
        sums = {name: self._run.processes.sum(values) / n for name, values in self._sums.items()}
        line: dict[str, Any] = {"step": step + 1, "loss": float(total(sums["loss"], config))}
        for name, values in sums.items():
            kinds = zip(KINDS, values.tolist(), worths(config), strict=True)
            line |= {f"{name}_{kind}": value for kind, value, worth in kinds if worth}
        seconds = time.perf_counter() - self._since
        counts = torch.tensor([self._n_tokens, self._flops], dtype=torch.float64)
        n_tokens, flops = self._run.processes.sum(counts.float().to(self._run.learner.device)).tolist()
        speed = {"tokens_per_s": n_tokens / seconds, "step_s": seconds / self._n_steps}
        whole = (self._peak or 0) * self._run.processes.n * seconds
        memory = torch.cuda.max_memory_allocated() if self._run.learner.device.type == "cuda" else None
        told = {"mfu": flops / whole if whole else None, "memory_nbytes": memory, "grad_norm": float(self.norm)}
        return {**line, "lr": lr, **speed, **told}

    def _reset(self) -> None:
        self._since, self._n_steps, self._n_tokens, self._flops = time.perf_counter(), 0, 0, 0.0
        self._sums: dict[str, torch.Tensor] = {}

    @staticmethod
    def _lines(path: Path, begun: int) -> list[str]:
        """Of the steps before `begun`."""
        if not begun or not path.exists():
            return []
        return [line for line in path.read_text().splitlines(keepends=True) if json.loads(line)["step"] <= begun]
