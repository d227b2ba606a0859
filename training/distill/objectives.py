"""What a pass is worth: examples -> losses by kind of token, for each objective. Knows no optimiser."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from training.distill.config import DistillConfig
from training.distill.examples import Example, Ids
from training.distill.layout import ANSWER, KINDS, LIFTED, QUESTION, Layout, lay_blocks, lay_full
from training.distill.learner import Learner
from training.distill.loss import (
    cross_entropy_in_chunks,
    damage_weights,
    distance,
    divergence_in_chunks,
    sum_over_examples,
)


@dataclass(frozen=True, eq=False)
class Pass:
    """Examples that go through the network together, laid out as their objective needs.

    Attributes
    ----------
    n_examples : int
    full, blocks : Layout or None
    """

    n_examples: int
    full: Layout | None
    blocks: Layout | None

    def to(self, device: torch.device) -> "Pass":
        """The same, there."""
        moved = (each.to(device) if each else None for each in (self.full, self.blocks))
        return Pass(self.n_examples, *moved)

    @property
    def n_tokens(self) -> int:
        """Of the longer layout."""
        return max(each.n_tokens for each in (self.full, self.blocks) if each)


@dataclass(frozen=True, eq=False)
class Losses:
    """Sums over the examples of a pass, by kind of token ``(3,)``: what is learned from, and for the log the others."""

    learned: torch.Tensor
    told: dict[str, torch.Tensor] = field(default_factory=dict)


def lay(
    prefix: Ids, examples: Sequence[Example], lifted: Sequence[Sequence[bool]], learner: Learner, config: DistillConfig
) -> Pass:
    """Lay examples out; tokens that count nothing are not looked at."""
    kinds = [kind for kind, worth in enumerate(worths(config)) if worth > 0]
    in_full = config.objective in ("teacher", "distill", "finetune-both")
    full = _only(lay_full(prefix, examples, lifted), kinds) if in_full else None
    in_blocks = config.objective != "teacher"
    blocks = _only(lay_blocks(prefix, examples, lifted, learner.rules), kinds) if in_blocks else None
    return Pass(len(examples), full, blocks)


def worths(config: DistillConfig) -> tuple[float, float, float]:
    """What each kind of token counts; where answers are given rather than distributions, they alone do."""
    if config.objective != "distill":
        return 1.0, 0.0, 0.0
    worth = {ANSWER: 1.0, QUESTION: config.question_weight, LIFTED: config.lifted_weight if config.dropout else 0.0}
    return worth[ANSWER], worth[QUESTION], worth[LIFTED]


def losses(learner: Learner, a_pass: Pass, config: DistillConfig) -> Losses:
    """The pass's losses; the gradient flows through `learned`."""
    if config.objective == "distill":
        return _distil(learner, a_pass, config)
    return _answers(learner, a_pass, config)


def total(learned: torch.Tensor, config: DistillConfig) -> torch.Tensor:
    """One number of the losses by kind."""
    return (learned * learned.new_tensor(worths(config))).sum()


def _answers(learner: Learner, a_pass: Pass, config: DistillConfig) -> Losses:
    """Given answers, in full mode, block mode or both; in both, the two may be drawn together too."""
    layouts = [each for each in (a_pass.full, a_pass.blocks) if each]
    states = [learner.hidden(each) for each in layouts]
    found = [_nll(*pair, learner, a_pass.n_examples, config) for pair in zip(states, layouts, strict=True)]
    nll = torch.stack(found).mean(0)
    if len(states) == 1 or not config.agreement:
        return Losses(nll)
    full, ours = states
    apart = divergence_in_chunks(ours, full, learner.head, config.chunk, config.divergence, config.temperature)
    divergence = _plain(apart, layouts[0], a_pass.n_examples)
    return Losses(nll + config.agreement * divergence, {"nll": nll.detach(), "divergence": divergence.detach()})


def _nll(
    states: torch.Tensor, layout: Layout, learner: Learner, n_examples: int, config: DistillConfig
) -> torch.Tensor:
    nll = cross_entropy_in_chunks(states, layout.targets, learner.head, config.chunk)
    return _plain(nll, layout, n_examples)


def _distil(learner: Learner, a_pass: Pass, config: DistillConfig) -> Losses:
    full, blocks = a_pass.full, a_pass.blocks
    assert full is not None and blocks is not None
    measure = (learner.head, config.chunk, config.divergence, config.temperature)
    every = learner.states(full, changed=False) if config.hidden_weight else None
    theirs = learner.hidden(full, changed=False) if every is None else every[-1]
    weights, told = torch.ones(len(full.rows), device=learner.device), {}
    groups = blocks.kinds * a_pass.n_examples + blocks.examples
    if config.token_weights == "damage":
        with torch.no_grad():
            damage = divergence_in_chunks(learner.hidden(blocks, changed=False), theirs, *measure)
        weights = damage_weights(damage, groups, len(KINDS) * a_pass.n_examples, config.weight_floor)
        told["damage"] = _plain(damage, blocks, a_pass.n_examples)
    our_every = learner.hidden(blocks)[None] if every is None else learner.states(blocks)
    states = our_every[-1]
    ours = divergence_in_chunks(states, theirs, *measure)
    told["divergence"] = _plain(ours.detach(), blocks, a_pass.n_examples)
    if every is not None:
        apart = distance(our_every, every)
        told["distance"] = _plain(apart.detach(), blocks, a_pass.n_examples)
        ours = ours + config.hidden_weight * apart
    learned = sum_over_examples(ours, weights * blocks.shares, blocks.kinds, blocks.examples, a_pass.n_examples)
    if config.gold_weight:
        answers = _only(blocks, [ANSWER])
        nll = _nll(states[blocks.kinds == ANSWER], answers, learner, a_pass.n_examples, config)
        learned, told["nll"] = learned + config.gold_weight * nll, nll.detach()
    return Losses(learned, told)


def _plain(values: torch.Tensor, layout: Layout, n_examples: int) -> torch.Tensor:
    """Unweighted, but that each answer of an example counts alike."""
    return sum_over_examples(values, layout.shares, layout.kinds, layout.examples, n_examples)


def _only(layout: Layout, kinds: Sequence[int]) -> Layout:
    """What is learned from cut down to these kinds."""
    kept = torch.isin(layout.kinds, torch.tensor(kinds, device=layout.kinds.device))
    columns = {name: getattr(layout, name)[kept] for name in ("rows", "targets", "kinds", "examples", "shares")}
    return replace(layout, **columns)
