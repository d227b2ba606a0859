"""Time to first token with blocks in each tier, and loading rate against the link: ``python -m benchmarks.tiers``.

`load_ms` is the time until the network can read the last block. `ttft_ms` covers loading, joining, the question's pass
and the choice of the token, which overlap layer by layer. Files are dropped from the page cache before each run, if the
system allows it; otherwise the disk's own rate was measured equally warm.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks import common
from benchmarks.machine import Machine, drop_from_page_cache, synchronize
from benchmarks.shapes import Subject
from benchmarks.ttft import ROOM, first_token
from blockrag.attention.runner import Runner, make_runner
from blockrag.engine import KV_READERS
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.disk import DiskTier
from blockrag.kv.streaming import begin, make_readers

LENGTHS = (1024, 4096)
IDENTITY = "measured"


@dataclass(frozen=True)
class Setup:
    """A tier under test: its name, the rate of its link, how blocks are loaded, and what precedes each run."""

    tier: str
    link_gb_per_s: float | None
    load: Callable[[], list[BlockKV]]
    prepare: Callable[[], None] = lambda: None


def measure(subject: Subject, machine: Machine, lengths: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """One row for each tier and length."""
    runner, rows = make_runner(subject.model), []
    question = common.random_ids(subject, common.QUESTION_TOKENS, 1)
    everything = common.encode_all(subject, common.cut(common.random_ids(subject, max(lengths))))
    for length in sorted(lengths):
        parts = everything[: -(-length // common.BLOCK_TOKENS)]
        with TemporaryDirectory() as folder:
            for setup in _setups(parts, machine, Path(folder)):
                rows.append(_row(setup, parts, subject.model.device, runner, question, repeats))
    return rows


def _setups(parts: list[BlockKV], machine: Machine, folder: Path) -> Iterator[Setup]:
    yield Setup("device", None, lambda: parts)
    if machine.pinned_gb_per_s:
        host = [BlockKV(part.keys.cpu().pin_memory(), part.values.cpu().pin_memory()) for part in parts]
        yield Setup("host", machine.pinned_gb_per_s, lambda: host)
    yield _disk(parts, machine, folder)


def _disk(parts: list[BlockKV], machine: Machine, folder: Path) -> Setup:
    tier = DiskTier(folder, 1 << 50, IDENTITY, pin_memory=machine.pinned_gb_per_s is not None)
    keys, readers = [f"{number:064x}" for number in range(len(parts))], make_readers(KV_READERS)
    for key, part in zip(keys, parts, strict=True):
        tier.put(key, part)

    def load() -> list[BlockKV]:
        found: list[BlockKV] = [kv for kv in map(tier.open, keys) if kv is not None]
        begin(found, readers)
        return found

    def prepare() -> None:
        for path in folder.glob("*/*"):
            drop_from_page_cache(path)

    return Setup("disk", machine.disk_gb_per_s, load, prepare)


def _row(
    setup: Setup, parts: list[BlockKV], device: torch.device, runner: Runner, question: list[int], repeats: int
) -> dict[str, Any]:
    """One row; `parts` are its blocks, on any tier."""
    n_runs = 1 + (repeats if setup.tier != "disk" else min(repeats, 5))
    load, ttft = (
        median([_run_s(setup, run, runner, question, device) for _ in range(n_runs)][1:])
        for run in (_load, first_token)
    )
    rate = sum(part.nbytes for part in parts) / load / 1e9
    return {
        "tier": setup.tier,
        "context": sum(part.n_tokens for part in parts),
        "load_ms": 1e3 * load,
        "ttft_ms": 1e3 * ttft,
        "gb_per_s": rate,
        "share_of_link": rate / setup.link_gb_per_s if setup.link_gb_per_s else None,
    }


def _run_s(
    setup: Setup,
    run: Callable[[Runner, Sequence[BlockKV], Sequence[int]], Any],
    runner: Runner,
    question: list[int],
    device: torch.device,
) -> float:
    setup.prepare()
    synchronize(device)
    start = time.perf_counter()
    parts = setup.load()
    run(runner, parts, question)
    synchronize(device)
    seconds = time.perf_counter() - start
    for part in parts:
        part.settle()
    return seconds


def _load(runner: Runner, parts: Sequence[BlockKV], question: Sequence[int]) -> None:
    """Load the blocks to where the network reads them."""
    with runner.join(parts, ROOM) as joined:
        joined.settle()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    common.run("Time to first token with blocks in each tier.", LENGTHS, measure, argv)


if __name__ == "__main__":
    main()
