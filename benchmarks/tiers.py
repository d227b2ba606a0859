"""Time to first token with blocks in each tier, beside computing them again: ``python -m benchmarks.tiers``.

`ttft_ms` is what an answer takes: it reads blocks or encodes them again, as `blockrag.kv.costs` decides from costs that
this run has measured. Beside it stand the pure ways: reading all blocks, encoding all of them, and full mode, whose
prefill computes the whole prompt. `load_ms` is the time until the network can read the last block of those that are
read. All of them cover joining, the question's pass and the choice of the token. Files are dropped from the page cache
before each run, if the system allows it; otherwise the disk's own rate was measured equally warm.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import common
from benchmarks.machine import Machine, drop_from_page_cache, synchronize
from benchmarks.shapes import Subject
from benchmarks.ttft import ROOM, first_token
from blockrag.attention.encode import encode_blocks, pass_tokens
from blockrag.attention.runner import make_runner
from blockrag.engine import KV_READERS
from blockrag.gather import Gathered, Gatherer, Wanted
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.costs import ENCODE, Costs, Meter, choose
from blockrag.kv.disk import DiskTier
from blockrag.kv.streaming import begin, make_readers
from blockrag.kv.tiered import TieredKV
from blockrag.stopwatch import Stopwatch

LENGTHS = (512, 1024, 4096)
IDENTITY = "measured"
TOKENS_OF_SLOW_RUNS = 4096
"""Full mode and encoding are run about as often as this many tokens allow, at least once."""

NOTHING = Gathered()


@dataclass(frozen=True)
class Setup:
    """A tier under test: its name, the rate of its link, how blocks are loaded, how an answer gathers them, and what
    precedes each run."""

    tier: str
    link_gb_per_s: float | None
    load: Callable[[], list[BlockKV]]
    gather: Callable[[], AbstractContextManager[tuple[list[BlockKV], Gathered]]]
    prepare: Callable[[], None] = lambda: None


class Bench:
    """One subject's runner, question and blocks.

    Parameters
    ----------
    subject : Subject
    machine : Machine
    most : int
        Tokens of all blocks.
    """

    def __init__(self, subject: Subject, machine: Machine, most: int):
        self.subject, self.machine = subject, machine
        self.runner, self.device = make_runner(subject.model), subject.model.device
        self.question = common.random_ids(subject, common.QUESTION_TOKENS, 1)
        self.blocks = common.cut(common.random_ids(subject, most))
        self.parts = common.encode_all(subject, self.blocks)

    def rows(self, length: int, repeats: int) -> Iterator[dict[str, Any]]:
        """One row for each tier."""
        n = -(-length // common.BLOCK_TOKENS)
        blocks, parts = self.blocks[:n], self.parts[:n]
        n_slow = max(1, min(repeats // 2, TOKENS_OF_SLOW_RUNS // length))
        encode_s = self._median_s(lambda: self._answer(common.encode_all(self.subject, blocks)), n_slow)
        prompt = [token for block in blocks for token in block] + self.question
        full_s = self._median_s(lambda: first_token(self.runner, [], prompt), n_slow)
        encode = Meter()
        encode.add(pass_tokens(self.subject.model, [len(block) for block in blocks]), encode_s)
        with TemporaryDirectory() as folder:
            for setup in self._setups(blocks, parts, encode, Path(folder)):
                pure = {"encode_ms": 1e3 * encode_s, "full_ms": 1e3 * full_s}
                yield self._row(setup, parts, repeats) | pure

    def _row(self, setup: Setup, parts: list[BlockKV], repeats: int) -> dict[str, Any]:
        n_runs = 1 + (repeats if setup.tier != "disk" else min(repeats, 5))
        load = self._median_s(lambda: self._load(setup.load()), n_runs, setup.prepare)
        chosen = NOTHING

        def answer() -> None:
            nonlocal chosen
            with setup.gather() as (gathered, chosen):
                self._answer(gathered)

        is_chosen = setup.tier == "disk"
        read = self._median_s(lambda: self._answer(setup.load()), n_runs, setup.prepare) if is_chosen else None
        ttft = self._median_s(answer, n_runs, setup.prepare)
        rate = sum(part.nbytes for part in parts) / load / 1e9
        return {
            "tier": setup.tier,
            "context": sum(part.n_tokens for part in parts),
            "ttft_ms": 1e3 * ttft,
            "again": chosen.n_again,
            "read_ms": 1e3 * (ttft if read is None else read),
            "load_ms": 1e3 * load,
            "gb_per_s": rate,
            "share_of_link": rate / setup.link_gb_per_s if setup.link_gb_per_s else None,
            "why": chosen.why,
        }

    def _median_s(self, run: Callable[[], Any], n_runs: int, prepare: Callable[[], None] = lambda: None) -> float:
        """Median seconds; the first of several runs is not counted."""
        times = []
        for _ in range(n_runs):
            prepare()
            synchronize(self.device)
            start = time.perf_counter()
            run()
            synchronize(self.device)
            times.append(time.perf_counter() - start)
        return median(times[1:] or times)

    def _answer(self, parts: Sequence[BlockKV]) -> None:
        first_token(self.runner, parts, self.question)
        for part in parts:
            part.settle()

    def _load(self, parts: Sequence[BlockKV]) -> None:
        """Load the blocks to where the network reads them."""
        with self.runner.join(parts, ROOM) as joined:
            joined.settle()

    def _setups(
        self, blocks: Sequence[Sequence[int]], parts: list[BlockKV], encode: Meter, folder: Path
    ) -> Iterator[Setup]:
        yield Setup("device", None, lambda: parts, lambda: nullcontext((parts, NOTHING)))
        if self.machine.pinned_gb_per_s:
            host = [BlockKV(part.keys.cpu().pin_memory(), part.values.cpu().pin_memory()) for part in parts]
            yield Setup("host", self.machine.pinned_gb_per_s, lambda: host, lambda: nullcontext((host, NOTHING)))
        yield self._disk(blocks, parts, encode, folder)

    def _disk(self, blocks: Sequence[Sequence[int]], parts: list[BlockKV], encode: Meter, folder: Path) -> Setup:
        tier = DiskTier(folder, 1 << 50, IDENTITY, pin_memory=self.machine.pinned_gb_per_s is not None)
        keys, readers = [f"{number:064x}" for number in range(len(parts))], make_readers(KV_READERS)
        for key, part in zip(keys, parts, strict=True):
            tier.put(key, part)
        kv, model, of_key = TieredKV([tier]), self.subject.model, dict(zip(keys, blocks, strict=True))
        costs = Costs({ENCODE: encode, tier.name: tier.meter}, None, "", overlap=self.device.type == "cuda")

        def load() -> list[BlockKV]:
            found: list[BlockKV] = [kv for kv in map(tier.open, keys) if kv is not None]
            begin(found, readers)
            return found

        def encode_again(token_ids: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, BlockKV]]:
            names = list(token_ids)
            for encoded in encode_blocks(model, [token_ids[key] for key in names]):
                yield names[encoded.number], encoded.kv

        @contextmanager
        def gather() -> Iterator[tuple[list[BlockKV], Gathered]]:
            wanted = [Wanted(key, len(of_key[key]), partial(of_key.__getitem__, key)) for key in keys]
            pick = partial(choose, costs=costs, pass_tokens=partial(pass_tokens, model))
            with kv.lease() as lease:
                nbytes = model.kv_nbytes_per_token
                gatherer = Gatherer(lease, pick, encode_again, nbytes, readers, Stopwatch(), [])
                gathered = gatherer.gather(wanted, streaming=True, at_once=KV_READERS)
                yield [gathered.found[key] for key in keys], gathered

        def prepare() -> None:
            for path in folder.glob("*/*"):
                drop_from_page_cache(path)

        return Setup("disk", self.machine.disk_gb_per_s, load, gather, prepare)


def measure(subject: Subject, machine: Machine, lengths: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """One row for each tier and length."""
    bench = Bench(subject, machine, max(lengths))
    return [row for length in sorted(lengths) for row in bench.rows(length, repeats)]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    common.run("Time to first token with blocks in each tier, and of computing them again.", LENGTHS, measure, argv)


if __name__ == "__main__":
    main()
