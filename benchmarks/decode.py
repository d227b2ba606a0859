"""Time of decoding over cached blocks: ``python -m benchmarks.decode --model llama-3.1-8b --lengths 8192``.

The floor of a token is reading every weight and the context's KV once at the machine's copy rate.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Barrier
from typing import Any

from benchmarks import common
from benchmarks.machine import Machine, median_s
from benchmarks.shapes import Subject
from blockrag.attention.runner import PlainRunner, Runner, make_runner
from blockrag.kv.block_kv import BlockKV

LENGTHS = (512, 4096)
TOKENS = 16
"""Tokens per run."""

AT_ONCE = 4
"""Answers decoded together, in the last column."""


def measure(subject: Subject, machine: Machine, lengths: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """One row for each length."""
    parts = common.encode_all(subject, common.cut(common.random_ids(subject, max(lengths))))
    fast, plain = make_runner(subject.model, AT_ONCE), PlainRunner(subject.model)
    rows = []
    for length in sorted(lengths):
        blocks = parts[: -(-length // common.BLOCK_TOKENS)]
        token = _token_s(subject, fast, blocks, repeats)
        nbytes = subject.weights_nbytes + sum(part.nbytes for part in blocks)
        floor = nbytes / machine.copy_gb_per_s / 1e9
        rows.append(
            {
                "context": sum(part.n_tokens for part in blocks),
                "token_ms": 1e3 * token,
                "plain_token_ms": 1e3 * _token_s(subject, plain, blocks, repeats),
                "tokens_per_s": 1 / token,
                "floor_ms": 1e3 * floor,
                "share_of_bandwidth": floor / token,
                "answers_at_once": AT_ONCE,
                "tokens_per_s_at_once": _rate_at_once(fast, blocks),
            }
        )
    return rows


def _token_s(subject: Subject, runner: Runner, parts: list[BlockKV], repeats: int) -> float:
    with runner.join(parts, (repeats + 4) * TOKENS) as joined:
        tokens = joined.greedy([5])
        return median_s(lambda: list(islice(tokens, TOKENS)), subject.model.device, repeats) / TOKENS


def _rate_at_once(runner: Runner, parts: list[BlockKV]) -> float:
    """Total tokens a second of `AT_ONCE` answers, each in its own thread."""
    begun, times = Barrier(AT_ONCE), []

    def answer(number: int) -> None:
        with runner.join(parts, 8 * TOKENS) as joined:
            tokens = joined.greedy([5 + number])
            list(islice(tokens, TOKENS))
            begun.wait()
            start = time.perf_counter()
            list(islice(tokens, 4 * TOKENS))
            times.append(time.perf_counter() - start)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(answer, range(AT_ONCE)))
    return AT_ONCE * 4 * TOKENS / max(times)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    common.run("Time of a decoded token.", LENGTHS, measure, argv, most_repeats=10)


if __name__ == "__main__":
    main()
