"""Pack examples into one row of tokens, with the attention pattern of full mode or block mode.

Examples are concatenated without padding; each starts at position 0 and none attends to another. In block mode a part
is *closed* (its tokens attend to their own part only) or *open* (they attend to everything before them in the
example). The final part is open, and so are the blocks that block dropout selects. If blocks see the prefix, each
closed block is preceded by a copy of the prefix that only this block attends to, as in `blockrag.attention.reference`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from training.distill.examples import Example, Ids

ANSWER, QUESTION, CONTEXT = 0, 1, 2
"""Kinds of predicted tokens. Context tokens are those of open blocks."""

KINDS = ("answer", "question", "context")


@dataclass(frozen=True)
class BlockRules:
    """Layout of block mode.

    Attributes
    ----------
    n_sinks : int
        Sinks before every block.
    n_links : int
        Link tokens after every block: learned tokens that attend to everything before them (KVLink).
    prefix_visible : bool
        Whether blocks attend to the prefix.
    """

    n_sinks: int = 0
    prefix_visible: bool = False
    n_links: int = 0


@dataclass(frozen=True)
class Part:
    """Consecutive tokens with the same attention pattern; the first `n_copied` are a copy of the prefix."""

    example: int
    start: int
    n_tokens: int
    n_copied: int
    open: bool


@dataclass(frozen=True, eq=False)
class Layout:
    """A packed row of tokens.

    Attributes
    ----------
    ids, positions : torch.Tensor
        int64 ``(tokens,)``. Sinks and link tokens have id 0.
    sinks : torch.Tensor
        int64 ``(tokens,)``: index of the sink, or the number of sinks plus the index of the link token; -1 elsewhere.
    parts : tuple of Part
        In order; they tile the row.
    rows : torch.Tensor
        int64 ``(predicted,)``: tokens whose next token is predicted.
    targets, kinds, examples : torch.Tensor
        int64 ``(predicted,)``: the next token, its kind and its example. Identical in full and block mode.
    weights : torch.Tensor
        float32 ``(predicted,)``: 1 / length for the tokens of an answer, so that short and long answers count equally;
        1 elsewhere.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    sinks: torch.Tensor
    parts: tuple[Part, ...]
    rows: torch.Tensor
    targets: torch.Tensor
    kinds: torch.Tensor
    examples: torch.Tensor
    weights: torch.Tensor

    @property
    def n_tokens(self) -> int:
        """Length of the row."""
        return len(self.ids)

    def to(self, device: torch.device) -> "Layout":
        """A copy on `device`."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "parts"}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})

    def only(self, kinds: Sequence[int]) -> "Layout":
        """The same row, predicting only tokens of these kinds."""
        kept = torch.isin(self.kinds, torch.tensor(kinds, device=self.kinds.device))
        columns = {name: getattr(self, name)[kept] for name in ("rows", "targets", "kinds", "examples", "weights")}
        return replace(self, **columns)


def full_layout(prefix: Ids, examples: Sequence[Example], open_blocks: Sequence[Sequence[bool]]) -> Layout:
    """Full mode: each example is one open part with causal attention, without sinks.

    `open_blocks` says for each block whether its tokens are predicted, as they are in block mode.
    """
    builder = _Builder()
    for number, (example, flags) in enumerate(zip(examples, open_blocks, strict=True)):
        builder.begin_example(number)
        builder.add(prefix)
        for block, is_open in zip(example.blocks, flags, strict=True):
            builder.add(block, CONTEXT if is_open else None)
        builder.add_turns(example)
        builder.end_part(open=True)
    return builder.build()


def block_layout(
    prefix: Ids, examples: Sequence[Example], open_blocks: Sequence[Sequence[bool]], rules: BlockRules
) -> Layout:
    """Block mode; the blocks flagged in `open_blocks` are open."""
    builder = _Builder()
    for number, (example, flags) in enumerate(zip(examples, open_blocks, strict=True)):
        builder.begin_example(number)
        builder.add(prefix)
        builder.end_part(open=False)
        for block, is_open in zip(example.blocks, flags, strict=True):
            if rules.prefix_visible and not is_open:
                builder.add_prefix_copy(prefix)
            builder.add_sinks(rules.n_sinks)
            builder.add(block, CONTEXT if is_open else None)
            builder.end_part(open=is_open)
            builder.add_sinks(rules.n_links, rules.n_sinks)
            builder.end_part(open=True)
        builder.add_turns(example)
        builder.end_part(open=True)
    return builder.build()


def dense_mask(layout: Layout) -> torch.Tensor:
    """bool ``(tokens, tokens)``, row = query. The varlen attention is tested against it."""
    owner, example, opened, copied = (np.empty(layout.n_tokens, np.int64) for _ in range(4))
    for number, part in enumerate(layout.parts):
        span = slice(part.start, part.start + part.n_tokens)
        owner[span], example[span], opened[span] = number, part.example, part.open
        copied[span] = np.arange(part.n_tokens) < part.n_copied
    same_part, same_example = owner[:, None] == owner, example[:, None] == example
    seen = np.where(opened[:, None] > 0, same_example & (copied == 0), same_part)
    return torch.from_numpy(np.tril(seen))


class _Builder:
    """Builds a layout, part by part."""

    def __init__(self) -> None:
        self._ids: list[np.ndarray] = []
        self._positions: list[np.ndarray] = []
        self._sinks: list[np.ndarray] = []
        self._predicted: list[tuple[np.ndarray, ...]] = []
        self._parts: list[Part] = []
        self._n = self._start = self._position = self._n_copied = self._example = 0

    def begin_example(self, example: int) -> None:
        self._example, self._position = example, 0

    def add(self, ids: Ids, kind: int | None = None) -> None:
        """Append tokens; with a kind, each predicts the next."""
        if kind is not None:
            self._predict(np.arange(len(ids) - 1), ids[1:], kind)
        self._append(ids, np.full(len(ids), -1), self._position)
        self._position += len(ids)

    def add_sinks(self, n: int, first: int = 0) -> None:
        """Append `n` sinks or link tokens, numbered from `first`."""
        self._append(np.zeros(n, np.int32), np.arange(first, first + n), self._position)
        self._position += n

    def add_prefix_copy(self, prefix: Ids) -> None:
        """Append a copy of the prefix at the positions just before the next token."""
        self._append(prefix, np.full(len(prefix), -1), self._position - len(prefix))
        self._n_copied = len(prefix)

    def add_turns(self, example: Example) -> None:
        """Append the final part, whose question and answer tokens are predicted."""
        for number, (question, answer) in enumerate(example.turns):
            first = 0 if number else 1  # nothing predicts the first token of the final part
            self._predict(np.arange(first, len(question)) - 1, question[first:], QUESTION)
            self.add(question)
            self._predict(np.arange(len(answer)) - 1, answer, ANSWER, 1 / len(answer))
            self.add(answer)

    def end_part(self, *, open: bool) -> None:
        if self._n > self._start:
            self._parts.append(Part(self._example, self._start, self._n - self._start, self._n_copied, open))
        self._start, self._n_copied = self._n, 0

    def build(self) -> Layout:
        *indices, weights = zip(*self._predicted, strict=True)
        ids, positions, sinks = map(_joined, (self._ids, self._positions, self._sinks))
        rows, targets, kinds, examples = map(_joined, indices)
        answer_weights = torch.from_numpy(np.concatenate(weights).astype(np.float32))
        return Layout(ids, positions, sinks, tuple(self._parts), rows, targets, kinds, examples, answer_weights)

    def _predict(self, offsets: np.ndarray, targets: np.ndarray, kind: int, weight: float = 1.0) -> None:
        """The tokens at these offsets from the end of the row predict `targets`."""
        n = len(offsets)
        columns = (np.full(n, kind), np.full(n, self._example), np.full(n, weight))
        self._predicted.append((self._n + offsets, targets, *columns))

    def _append(self, ids: np.ndarray, sinks: np.ndarray, position: int) -> None:
        self._ids.append(ids)
        self._sinks.append(sinks)
        self._positions.append(np.arange(position, position + len(ids)))
        self._n += len(ids)


def _joined(pieces: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(pieces).astype(np.int64))
