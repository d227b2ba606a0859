"""Time to first token in block mode and in full mode: ``python -m benchmarks.ttft --model llama-3.1-8b``.

Blocks of 512 tokens are in the device tier, followed by a question of 50 tokens. Both modes use the engine's runner, in
one process, on the same tokens. Block mode includes joining, the question's pass and the choice of the token.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks import common
from benchmarks.machine import Machine, median_s, synchronize
from benchmarks.shapes import Subject
from blockrag.attention.runner import Runner, make_runner
from blockrag.kv.block_kv import BlockKV

LENGTHS = (256, 512, 1024, 2048, 4096)
ROOM = 64


def measure(subject: Subject, machine: Machine, lengths: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """One row for each length."""
    runner = make_runner(subject.model)
    ids, question = common.random_ids(subject, max(lengths)), common.random_ids(subject, common.QUESTION_TOKENS, 1)
    parts = common.encode_all(subject, common.cut(ids))
    rows = []
    for length in sorted(lengths):
        blocks = _first(subject, parts, ids, length)
        rows.append(_row(subject, machine, runner, blocks, [*ids[:length], *question], repeats))
    return rows


def _first(subject: Subject, parts: list[BlockKV], ids: list[int], length: int) -> list[BlockKV]:
    whole, rest = divmod(length, common.BLOCK_TOKENS)
    return parts[:whole] + (common.encode_all(subject, [ids[length - rest : length]]) if rest else [])


def _row(
    subject: Subject, machine: Machine, runner: Runner, parts: list[BlockKV], prompt: list[int], repeats: int
) -> dict[str, Any]:
    device = subject.model.device
    question = prompt[-common.QUESTION_TOKENS :]
    n_full = max(1, min(repeats // 2, 4096 // len(prompt)))
    n_warm = int(len(prompt) < 1024 or device.type == "cuda")
    full = median_s(lambda: first_token(runner, [], prompt), device, n_full, n_warm)
    block = median_s(lambda: first_token(runner, parts, question), device, repeats, warm=2)
    assemble, query = _stages(subject, runner, parts, question, 1 + repeats // 3)
    nbytes = subject.weights_nbytes + 3 * sum(part.nbytes for part in parts)
    floor = nbytes / machine.copy_gb_per_s / 1e9
    return {
        "context": len(prompt) - len(question),
        "full_ms": 1e3 * full,
        "block_ms": 1e3 * block,
        "assemble_ms": 1e3 * assemble,
        "query_ms": 1e3 * query,
        "floor_ms": 1e3 * floor,
        "ratio": full / block,
        "times_floor": block / floor,
    }


def first_token(runner: Runner, parts: Sequence[BlockKV], prompt: Sequence[int]) -> int:
    """The most likely token after `prompt` over `parts`; full mode if there are no parts."""
    with runner.join(parts, len(prompt) + ROOM) as joined:
        return int(joined.logits(prompt).argmax())


def _stages(
    subject: Subject, runner: Runner, parts: list[BlockKV], question: list[int], repeats: int
) -> tuple[float, float]:
    """Median seconds of joining and of the question's pass."""
    device, times = subject.model.device, []
    for _ in range(repeats):
        synchronize(device)
        with ExitStack() as held:
            start = time.perf_counter()
            joined = held.enter_context(runner.join(parts, len(question) + ROOM))
            synchronize(device)
            middle = time.perf_counter()
            int(joined.logits(question).argmax())
            times.append((middle - start, time.perf_counter() - middle))
    return tuple(sorted(stage)[len(times) // 2] for stage in zip(*times, strict=True))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    common.run("Time to first token in block mode and in full mode.", LENGTHS, measure, argv)


if __name__ == "__main__":
    main()
