"""Answers at once, and throughput of a queue of questions in both modes: ``python -m benchmarks.queue --lengths 8192``.

64 questions (on a CPU 8) of 50 tokens, each over blocks drawn from 200 (16) of 512 tokens, by a fixed seed, until its
context is full; each answer has 64 (16) tokens. `at_once` answers run at a time, in threads, as the engine runs them.
Block KV is in the device tier. All rows of a context come from one run, on the same questions.
"""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from statistics import mean
from typing import Any, NamedTuple

from benchmarks import common
from benchmarks.machine import Machine, synchronize
from benchmarks.shapes import Subject
from blockrag.attention.runner import Runner, make_runner
from blockrag.kv.block_kv import BlockKV

LENGTHS = (2048,)


class Size(NamedTuple):
    """Questions, blocks and tokens of an answer; numbers of answers at once."""

    questions: int
    blocks: int
    tokens: int
    at_once: tuple[int, ...]


SIZES = {"cuda": Size(64, 200, 64, (1, 4, 8)), "cpu": Size(8, 16, 16, (1, 2))}


class Asked(NamedTuple):
    """A question: its tokens, the KV of its blocks, and the whole prompt of full mode."""

    question: list[int]
    parts: list[BlockKV]
    prompt: list[int]


def measure(subject: Subject, machine: Machine, lengths: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """One row for each context, mode and number of answers at once."""
    size = SIZES[subject.model.device.type]
    blocks = common.cut(common.random_ids(subject, size.blocks * common.BLOCK_TOKENS))
    parts = common.encode_all(subject, blocks)
    rows = []
    for length in sorted(lengths):
        asked = _questions(subject, blocks, parts, max(1, length // common.BLOCK_TOKENS), size.questions)
        for mode in ("block", "full"):
            for at_once in size.at_once:
                rows.append(_row(subject, mode, asked, at_once, size.tokens))
    return rows


def _questions(
    subject: Subject, blocks: list[Sequence[int]], parts: list[BlockKV], n_blocks: int, n: int
) -> list[Asked]:
    draw, asked = random.Random(0), []
    for number in range(n):
        chosen = draw.sample(range(len(blocks)), n_blocks)
        question = common.random_ids(subject, common.QUESTION_TOKENS, number + 1)
        prompt = [token for i in chosen for token in blocks[i]] + question
        asked.append(Asked(question, [parts[i] for i in chosen], prompt))
    return asked


def _row(subject: Subject, mode: str, asked: list[Asked], at_once: int, tokens: int) -> dict[str, Any]:
    runner, device = make_runner(subject.model, at_once), subject.model.device

    def answer(one: Asked) -> float:
        if mode == "block":
            return _answer(runner, one.parts, one.question, tokens)
        return _answer(runner, [], one.prompt, tokens)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(answer, asked[:at_once]))  # graphs are captured, memory is touched
        synchronize(device)
        start = time.perf_counter()
        first = list(pool.map(answer, asked))
        synchronize(device)
        seconds = time.perf_counter() - start
    return {
        "context": len(asked[0].prompt) - common.QUESTION_TOKENS,
        "mode": mode,
        "at_once": at_once,
        "questions": len(asked),
        "questions_per_s": len(asked) / seconds,
        "tokens_per_s": len(asked) * tokens / seconds,
        "first_token_ms": 1e3 * mean(first),
    }


def _answer(runner: Runner, parts: Sequence[BlockKV], prompt: Sequence[int], tokens: int) -> float:
    """Seconds until the first token."""
    start = time.perf_counter()
    with runner.join(parts, len(prompt) + tokens) as joined:
        decoded = joined.greedy(prompt)
        next(decoded)
        seconds = time.perf_counter() - start
        for _ in islice(decoded, tokens - 1):
            pass
    return seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    common.run("Throughput of a queue of questions in both modes.", LENGTHS, measure, argv)


if __name__ == "__main__":
    main()
