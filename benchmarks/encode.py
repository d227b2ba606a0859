"""Time of encoding blocks and of a full prefill of the same tokens: ``python -m benchmarks.encode``.

Measured with blocks of 512 tokens and with mixed blocks of 32 to 512, which would reveal padding.
"""

import random
from collections.abc import Sequence
from typing import Any

from benchmarks import common
from benchmarks.machine import Machine, median_s
from benchmarks.shapes import Subject
from blockrag.attention.encode import encode_blocks
from blockrag.attention.runner import PlainRunner

LENGTHS = (2048,)


def measure(subject: Subject, machine: Machine, lengths: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Two rows for each length: equal and mixed blocks."""
    return [
        _row(subject, machine, kind, blocks, repeats)
        for length in sorted(lengths)
        for kind, blocks in (
            ("512", common.cut(common.random_ids(subject, length))),
            ("32-512", _mixed(common.random_ids(subject, length))),
        )
    ]


def _mixed(ids: Sequence[int]) -> list[Sequence[int]]:
    draw, blocks, start = random.Random(0), [], 0
    while start < len(ids):
        size = draw.randint(32, common.BLOCK_TOKENS)
        blocks.append(ids[start : start + size])
        start += size
    return blocks


def _row(subject: Subject, machine: Machine, kind: str, blocks: list[Sequence[int]], repeats: int) -> dict[str, Any]:
    device, n_tokens = subject.model.device, sum(map(len, blocks))
    encode = median_s(lambda: [None for _ in encode_blocks(subject.model, blocks)], device, repeats)
    runner, ids = PlainRunner(subject.model), [token for block in blocks for token in block]

    def prefill() -> None:
        with runner.join([], len(ids)) as joined:
            joined.logits(ids)

    full = median_s(prefill, device, max(1, repeats // 2))
    rate = subject.flop_per_token * n_tokens / encode / 1e12
    return {
        "context": n_tokens,
        "blocks": f"{len(blocks)} of {kind}",
        "encode_ms": 1e3 * encode,
        "full_ms": 1e3 * full,
        "encode_tokens_per_s": n_tokens / encode,
        "ratio": full / encode,
        "tflop_per_s": rate,
        "share_of_matmul": rate / machine.matmul_tflop_per_s,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    common.run("Encoding blocks, compared with a full prefill.", LENGTHS, measure, argv, most_repeats=5)


if __name__ == "__main__":
    main()
