"""Examples -> one row of tokens and who sees whom, in full or in block mode. Knows token ids, no network.

Several examples stand behind one another without padding; each begins at position 0 and none sees another. In block
mode a part is *closed* (its tokens see their own part) or *open* (they see all before them): the final part is open,
and a block that dropout lifts is. Where blocks see the prefix, a closed block has a copy of it before it that it alone
sees, as in `blockrag.attention.reference`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from training.distill.examples import Example, Ids

ANSWER, QUESTION, LIFTED = 0, 1, 2
"""Kinds of tokens that are learned from."""

KINDS = ("answer", "question", "lifted")


@dataclass(frozen=True)
class BlockRules:
    """How block mode lays an example out.

    Attributes
    ----------
    n_sinks : int
        Before every block.
    n_links : int
        Behind every block: learned tokens that see all before them.
    prefix_visible : bool
        Whether blocks see the prefix.
    """

    n_sinks: int = 0
    prefix_visible: bool = False
    n_links: int = 0


@dataclass(frozen=True)
class Part:
    """A run of tokens that see alike: where it begins in the row, its length, what stands before its own in it."""

    example: int
    start: int
    n_tokens: int
    n_copied: int
    open: bool


@dataclass(frozen=True, eq=False)
class Layout:
    """A row of tokens.

    Attributes
    ----------
    ids, positions : torch.Tensor
        int64 ``(tokens,)``. The id of a sink is 0.
    sinks : torch.Tensor
        int64 ``(tokens,)``: the number of the sink or, counted behind the sinks, of the link token; or -1.
    parts : tuple of Part
        In order; they tile the row.
    rows : torch.Tensor
        int64 ``(learned,)``: the tokens whose prediction is learned from.
    targets, kinds, examples : torch.Tensor
        int64 ``(learned,)``: what follows each, its kind, whose it is. The same in full and in block mode.
    shares : torch.Tensor
        float32 ``(learned,)``: of an answer's tokens one over their number, so that a short answer counts as much as a
        long one; 1 elsewhere.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    sinks: torch.Tensor
    parts: tuple[Part, ...]
    rows: torch.Tensor
    targets: torch.Tensor
    kinds: torch.Tensor
    examples: torch.Tensor
    shares: torch.Tensor

    @property
    def n_tokens(self) -> int:
        """Of the row."""
        return len(self.ids)

    def to(self, device: torch.device) -> "Layout":
        """The same, there."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "parts"}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


def lay_full(prefix: Ids, examples: Sequence[Example], lifted: Sequence[Sequence[bool]]) -> Layout:
    """Ordinary causal attention: each example is one open part, without sinks.

    `lifted` says for each block whether its tokens are learned from, as they are in block mode.
    """
    row = _Row()
    for number, (example, lifts) in enumerate(zip(examples, lifted, strict=True)):
        row.begin(number)
        row.add(prefix)
        for block, lift in zip(example.blocks, lifts, strict=True):
            row.add(block, LIFTED if lift else None)
        row.add_turns(example)
        row.close(open=True)
    return row.done()


def lay_blocks(prefix: Ids, examples: Sequence[Example], lifted: Sequence[Sequence[bool]], rules: BlockRules) -> Layout:
    """Block attention; a lifted block is open."""
    row = _Row()
    for number, (example, lifts) in enumerate(zip(examples, lifted, strict=True)):
        row.begin(number)
        row.add(prefix)
        row.close(open=False)
        for block, lift in zip(example.blocks, lifts, strict=True):
            if rules.prefix_visible and not lift:
                row.copy(prefix)
            row.add_sinks(rules.n_sinks)
            row.add(block, LIFTED if lift else None)
            row.close(open=lift)
            row.add_sinks(rules.n_links, rules.n_sinks)
            row.close(open=True)
        row.add_turns(example)
        row.close(open=True)
    return row.done()


def visible(layout: Layout) -> torch.Tensor:
    """The dense mask: bool ``(tokens, tokens)``, row = query. What the fast attention is tested against."""
    owner, example, opened, copied = (np.empty(layout.n_tokens, np.int64) for _ in range(4))
    for number, part in enumerate(layout.parts):
        span = slice(part.start, part.start + part.n_tokens)
        owner[span], example[span], opened[span] = number, part.example, part.open
        copied[span] = np.arange(part.n_tokens) < part.n_copied
    same_part, same_example = owner[:, None] == owner, example[:, None] == example
    seen = np.where(opened[:, None] > 0, same_example & (copied == 0), same_part)
    return torch.from_numpy(np.tril(seen))


class _Row:
    """A layout that grows."""

    def __init__(self) -> None:
        self._ids: list[np.ndarray] = []
        self._positions: list[np.ndarray] = []
        self._sinks: list[np.ndarray] = []
        self._learned: list[tuple[np.ndarray, ...]] = []
        self._parts: list[Part] = []
        self._n = self._start = self._position = self._n_copied = self._example = 0

    def begin(self, example: int) -> None:
        self._example, self._position = example, 0

    def add(self, ids: Ids, kind: int | None = None) -> None:
        """Tokens; of those with a kind, each predicts the next."""
        if kind is not None:
            self._learn(np.arange(len(ids) - 1), ids[1:], kind)
        self._put(ids, np.full(len(ids), -1), self._position)
        self._position += len(ids)

    def add_sinks(self, n: int, first: int = 0) -> None:
        """Learned tokens, numbered from `first`."""
        self._put(np.zeros(n, np.int32), np.arange(first, first + n), self._position)
        self._position += n

    def copy(self, prefix: Ids) -> None:
        """A copy of the prefix, at the positions just before what follows."""
        self._put(prefix, np.full(len(prefix), -1), self._position - len(prefix))
        self._n_copied = len(prefix)

    def add_turns(self, example: Example) -> None:
        """The final part: an answer's tokens are predicted as answer, the others as question."""
        for number, (question, answer) in enumerate(example.turns):
            first = 0 if number else 1  # what stands before the final part does not predict it
            self._learn(np.arange(first, len(question)) - 1, question[first:], QUESTION)
            self.add(question)
            self._learn(np.arange(len(answer)) - 1, answer, ANSWER, 1 / len(answer))
            self.add(answer)

    def close(self, *, open: bool) -> None:
        """End a part."""
        if self._n > self._start:
            self._parts.append(Part(self._example, self._start, self._n - self._start, self._n_copied, open))
        self._start, self._n_copied = self._n, 0

    def done(self) -> Layout:
        *indices, shares = zip(*self._learned, strict=True)
        ids, positions, sinks = map(_whole, (self._ids, self._positions, self._sinks))
        rows, targets, kinds, examples = map(_whole, indices)
        of_answers = torch.from_numpy(np.concatenate(shares).astype(np.float32))
        return Layout(ids, positions, sinks, tuple(self._parts), rows, targets, kinds, examples, of_answers)

    def _learn(self, at: np.ndarray, targets: np.ndarray, kind: int, share: float = 1.0) -> None:
        """The tokens at these places, counted from the row's end, predict the targets."""
        n = len(at)
        whose = (np.full(n, kind), np.full(n, self._example), np.full(n, share))
        self._learned.append((self._n + at, targets, *whose))

    def _put(self, ids: np.ndarray, sinks: np.ndarray, position: int) -> None:
        self._ids.append(ids)
        self._sinks.append(sinks)
        self._positions.append(np.arange(position, position + len(ids)))
        self._n += len(ids)


def _whole(pieces: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(pieces).astype(np.int64))
