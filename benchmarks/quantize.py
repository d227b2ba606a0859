"""Effect of storing block KV in 8 or 4 bits: ``python -m benchmarks.quantize --json FILE``.

Encodes blocks of this repository's texts, stores them in each format, and asks questions over them and over the
exact blocks. `kl` is the divergence of the next-token distribution from the exact one, in nats; `equal_tokens` is the
share of 32 greedy tokens before the first difference. "Before rotation" rotates each key back to position 0 first.
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
from blockrag.kv.quantize import GROUP, Axis, FourBitKV, QuantizedKV, dequantize, dequantize4, quantize, quantize4
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
GROUPS = (32, 64)


@dataclass(frozen=True)
class Format:
    """A format: whether keys are rotated back; in 8 bits, along which axis keys and values have scales; in 4 bits, how
    many tokens of a key's channel, and channels of a token's value, share a scale."""

    before_rotation: bool
    keys: Axis
    values: Axis
    group: int | None = None

    @property
    def name(self) -> str:
        """As the table says it."""
        return "int8" if self.group is None else f"int4 in groups of {self.group}"

    def store(self, kv: BlockKV, rope: Rope) -> QuantizedKV | FourBitKV:
        """Quantise a block."""
        keys = _rotated(kv.keys, rope, -1) if self.before_rotation else kv.keys
        kv = BlockKV(keys, kv.values)
        return quantize(kv, self.keys, self.values) if self.group is None else quantize4(kv, self.group)

    def restore(self, stored: QuantizedKV | FourBitKV, rope: Rope, dtype: torch.dtype) -> BlockKV:
        """Dequantise a block."""
        if isinstance(stored, FourBitKV):
            kv = dequantize4(stored, dtype, self.group or GROUP)
        else:
            kv = dequantize(stored, dtype)
        return BlockKV(_rotated(kv.keys, rope, 1), kv.values) if self.before_rotation else kv


def _rotated(keys: torch.Tensor, rope: Rope, sign: int) -> torch.Tensor:
    """Rotate each key of a block encoded at position 0 by `sign` times its own position, in float32."""
    angles = sign * torch.arange(keys.shape[-2], dtype=torch.double)[:, None] * rope.inv_freq
    rotation, rotated = (angles.cos().float(), angles.sin().float()), torch.empty(keys.shape)
    for layer in range(len(keys)):
        rope.rotate(keys[layer].float(), rotation if rope.rotates(layer) else None, out=rotated[layer])
    return rotated.to(keys.dtype)


def formats(bits: Sequence[int]) -> Iterator[Format]:
    """Every format of so many bits."""
    if 8 in bits:
        yield from (Format(before, keys, values) for before, keys, values in product((False, True), AXES, AXES))
    if 4 in bits:
        yield from (Format(before, "channel", "token", group) for before, group in product((False, True), GROUPS))


def measure(subject: Subject, bits: Sequence[int] = (8, 4)) -> list[dict[str, Any]]:
    """One row for each format, the exact one first."""
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
    return [*rows, *(_row(subject, form, prefix, asked, exact) for form in formats(bits))]


def _blocks(subject: Subject) -> Iterator[Sequence[int]]:
    for name in TEXTS:
        text = (Path(__file__).parent.parent / name).read_text(encoding="utf-8")
        yield from common.cut(subject.model.tokenizer(text, verbose=False).input_ids, BLOCK_TOKENS)


def _exact_row(subject: Subject, blocks: list[BlockKV], n_tokens: int) -> dict[str, Any]:
    row = {"form": str(subject.model.dtype).removeprefix("torch."), "keys": "", "values": ""}
    nbytes = sum(block.nbytes for block in blocks) / n_tokens
    differences = {"key_error": 0.0, "logit_max": 0.0, "logit_mean": 0.0, "kl": 0.0, "equal_tokens": 1.0}
    return row | {"bytes_per_token": nbytes} | differences


def _row(subject: Subject, form: Format, prefix: BlockKV, asked: list[Any], exact: list[Any]) -> dict[str, Any]:
    rope, errors, differences, kls, equal, nbytes = subject.model.rope, [], [], [], [], []
    for (ids, parts), (logits, tokens) in zip(asked, exact, strict=True):
        stored = [form.store(part, rope) for part in parts]
        back = [form.restore(part, rope, subject.model.dtype) for part in stored]
        found_logits, found = _answer(subject, [prefix, *back], ids)
        errors += [_relative(a.keys, b.keys) for a, b in zip(back, parts, strict=True)]
        differences.append((found_logits - logits).abs())
        kls.append(_divergence(found_logits, logits))
        equal.append(next((i for i, (a, b) in enumerate(zip(found, tokens, strict=True)) if a != b), TOKENS) / TOKENS)
        nbytes.append(sum(part.nbytes for part in stored) / sum(_n_tokens(part) for part in stored))
    return {
        "form": f"{form.name}, keys {'before' if form.before_rotation else 'after'} rotation",
        "keys": form.keys,
        "values": form.values,
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


def _n_tokens(kv: QuantizedKV | FourBitKV) -> int:
    return kv.keys.shape[2]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="Effect of storing block KV in 8 or 4 bits.")
    parser.add_argument("--model", default="smollm2", help="name or folder of a model with its tokenizer")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bits", type=int, nargs="+", choices=(8, 4), default=(8, 4), help="formats (default: both)")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    machine = measure_machine(device, torch.float32)
    subject = open_subject(args.model, device)
    common.finish(args, subject, machine, measure(subject, args.bits))


if __name__ == "__main__":
    main()
