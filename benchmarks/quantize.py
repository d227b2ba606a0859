"""What 8 bits at rest change: ``python -m benchmarks.quantize --json FILE``.

Blocks of this repository's own texts are encoded, stored in 8 bits in each way, and questions are put to them and to
the exact ones. `kl` is the divergence of the next token's distribution from the exact one's, in nats; `equal_tokens`
the share of 32 greedy tokens that are the same, up to the first that is not. "Before rotation" turns each key back to
position 0 before it is stored.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks import common
from benchmarks.machine import measure_machine
from benchmarks.shapes import Subject, open_subject
from blockrag.attention.encode import encode_prefix
from blockrag.attention.rope import Rope
from blockrag.attention.runner import PlainRunner
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.quantize import Axis, QuantizedKV, dequantize, quantize
from blockrag.prompt import Prompt

TEXTS = ("README.md", "LICENSE", "NOTICE")
BLOCK_TOKENS = 256
BLOCKS_A_QUESTION = 6
TOKENS = 32
QUESTIONS = (
    "What is a block?",
    "Which licence is this?",
    "How are the keys of a block moved?",
    "What does the slider do?",
    "Who may sublicense the work?",
    "What is refused by name?",
    "Where do the default weights come from?",
    "What happens to trademarks?",
)


AXES: tuple[Axis, ...] = ("channel", "token")


@dataclass(frozen=True)
class Way:
    """What is stored, and what has a scale of its own."""

    before_rotation: bool
    keys: Axis
    values: Axis

    def store(self, kv: BlockKV, rope: Rope) -> QuantizedKV:
        """The block in 8 bits."""
        keys = _turned(kv.keys, rope, -1) if self.before_rotation else kv.keys
        return quantize(BlockKV(keys, kv.values), self.keys, self.values)

    def restore(self, stored: QuantizedKV, rope: Rope, dtype: torch.dtype) -> BlockKV:
        """The block that comes back."""
        kv = dequantize(stored, dtype)
        return BlockKV(_turned(kv.keys, rope, 1), kv.values) if self.before_rotation else kv


def _turned(keys: torch.Tensor, rope: Rope, sign: int) -> torch.Tensor:
    """Keys of a block that was encoded from position 0 on, each turned by its own position, in float32."""
    angles = sign * torch.arange(keys.shape[-2], dtype=torch.double)[:, None] * rope.inv_freq
    rotation, moved = (angles.cos().float(), angles.sin().float()), torch.empty(keys.shape)
    for layer in range(len(keys)):
        rope.rotate(keys[layer].float(), rotation if rope.rotates(layer) else None, out=moved[layer])
    return moved.to(keys.dtype)


def measure(subject: Subject) -> list[dict[str, Any]]:
    """A row for each scheme, the exact form first."""
    prompt = Prompt(subject.model.tokenizer)
    blocks = common.encode_all(subject, list(_blocks(subject)))
    prefix = encode_prefix(subject.model, prompt.prefix_ids)
    asked = [
        (prompt.final_ids(question), [blocks[(3 * i + j) % len(blocks)] for j in range(BLOCKS_A_QUESTION)])
        for i, question in enumerate(QUESTIONS)
    ]
    exact = [_answer(subject, [prefix, *parts], ids) for ids, parts in asked]
    n_tokens = sum(block.n_tokens for block in blocks)
    rows = [_exact_row(subject, blocks, n_tokens)]
    for before, keys, values in product((False, True), AXES, AXES):
        rows.append(_row(subject, Way(before, keys, values), prefix, asked, exact))
    return rows


def _blocks(subject: Subject) -> Iterator[Sequence[int]]:
    for name in TEXTS:
        text = (Path(__file__).parent.parent / name).read_text(encoding="utf-8")
        yield from common.cut(subject.model.tokenizer(text, verbose=False).input_ids, BLOCK_TOKENS)


def _exact_row(subject: Subject, blocks: list[BlockKV], n_tokens: int) -> dict[str, Any]:
    row = {"form": str(subject.model.dtype).removeprefix("torch."), "keys": "", "values": ""}
    nbytes = sum(block.nbytes for block in blocks) / n_tokens
    differences = {"key_error": 0.0, "logit_max": 0.0, "logit_mean": 0.0, "kl": 0.0, "equal_tokens": 1.0}
    return row | {"bytes_per_token": nbytes} | differences


def _row(subject: Subject, way: Way, prefix: BlockKV, asked: list[Any], exact: list[Any]) -> dict[str, Any]:
    rope, errors, differences, kls, equal, nbytes = subject.model.rope, [], [], [], [], []
    for (ids, parts), (logits, tokens) in zip(asked, exact, strict=True):
        stored = [way.store(part, rope) for part in parts]
        back = [way.restore(part, rope, subject.model.dtype) for part in stored]
        found_logits, found = _answer(subject, [prefix, *back], ids)
        errors += [_relative(a.keys, b.keys) for a, b in zip(back, parts, strict=True)]
        differences.append((found_logits - logits).abs())
        kls.append(_divergence(found_logits, logits))
        equal.append(next((i for i, (a, b) in enumerate(zip(found, tokens, strict=True)) if a != b), TOKENS) / TOKENS)
        nbytes.append(sum(part.nbytes for part in stored) / sum(_n_tokens(part) for part in stored))
    return {
        "form": f"int8, keys {'before' if way.before_rotation else 'after'} rotation",
        "keys": way.keys,
        "values": way.values,
        "bytes_per_token": mean(nbytes),
        "key_error": mean(errors),
        "logit_max": max(float(d.max()) for d in differences),
        "logit_mean": mean(float(d.mean()) for d in differences),
        "kl": mean(kls),
        "equal_tokens": mean(equal),
    }


def _answer(subject: Subject, parts: Sequence[BlockKV], ids: list[int]) -> tuple[torch.Tensor, list[int]]:
    runner = PlainRunner(subject.model)
    with runner.join(parts, len(ids) + TOKENS) as joined:
        logits = joined.logits(ids).float().clone()
    with runner.join(parts, len(ids) + TOKENS) as joined:
        return logits, list(islice(joined.greedy(ids), TOKENS))


def _relative(found: torch.Tensor, true: torch.Tensor) -> float:
    return float((found.float() - true.float()).norm() / true.float().norm())


def _divergence(found: torch.Tensor, true: torch.Tensor) -> float:
    q, p = found.log_softmax(-1), true.log_softmax(-1)
    return float((p.exp() * (p - q)).sum())


def _n_tokens(kv: QuantizedKV) -> int:
    return kv.keys.shape[2]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="What block KV in 8 bits changes.")
    parser.add_argument("--model", default="smollm2", help="name or folder of a model with its tokenizer")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="file for the result")
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    machine = measure_machine(device, torch.float32)
    subject = open_subject(args.model, device)
    common.finish(args, subject, machine, measure(subject))


if __name__ == "__main__":
    main()
