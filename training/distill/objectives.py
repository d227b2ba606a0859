"""What a pass is worth: examples -> losses by kind of token, for each objective. Knows no optimiser."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from training.distill.config import DistillConfig
from training.distill.examples import Example, Examples, Ids
from training.distill.layout import ANSWER, KINDS, LIFTED, QUESTION, BlockRules, Layout, lay_blocks, lay_full
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


@torch.no_grad()
def held_out(learner: Learner, examples: Examples, config: DistillConfig) -> dict[str, float]:
    """Mean divergence from full mode on other examples, in nats: of block mode as trained and of naive block mode, on
    answer and question tokens; each answer, and each example, counts alike."""
    kinds, sums = (ANSWER, QUESTION), torch.zeros(2, 2)
    for example in examples.items:
        lifted = [[False] * len(example.blocks)]
        full = _only(lay_full(examples.prefix, [example], lifted), kinds).to(learner.device)
        theirs = learner.hidden(full, changed=False)
        for row, (rules, changed) in enumerate(((learner.rules, True), (BlockRules(), False))):
            blocks = _only(lay_blocks(examples.prefix, [example], lifted, rules), kinds).to(learner.device)
            found = _divergence(learner.hidden(blocks, changed=changed), theirs, learner, config)
            sums[row] += _plain(found, blocks, 1)[list(kinds)].cpu()
    means = (sums / len(examples.items)).flatten().tolist()
    names = [f"{mode}_{KINDS[kind]}" for mode in ("block", "naive") for kind in kinds]
    return dict(zip(names, means, strict=True))


def _answers(learner: Learner, a_pass: Pass, config: DistillConfig) -> Losses:
    """Given answers, in full mode, block mode or both; in both, the two may be drawn together too."""
    layouts = [each for each in (a_pass.full, a_pass.blocks) if each]
    states = [learner.hidden(each) for each in layouts]
    found = [_nll(*pair, learner, a_pass.n_examples, config) for pair in zip(states, layouts, strict=True)]
    nll = torch.stack(found).mean(0)
    if len(states) == 1 or not config.agreement:
        return Losses(nll)
    full, ours = states
    divergence = _plain(_divergence(ours, full, learner, config), layouts[0], a_pass.n_examples)
    return Losses(nll + config.agreement * divergence, {"nll": nll.detach(), "divergence": divergence.detach()})


def _distil(learner: Learner, a_pass: Pass, config: DistillConfig) -> Losses:
    full, blocks, n = a_pass.full, a_pass.blocks, a_pass.n_examples
    assert full is not None and blocks is not None
    every = config.hidden_weight > 0
    theirs = learner.states(full, every_layer=every, changed=False)
    weights, told = _token_weights(learner, blocks, theirs[-1], n, config)
    ours = learner.states(blocks, every_layer=every)
    found = _divergence(ours[-1], theirs[-1], learner, config)
    told["divergence"] = _plain(found.detach(), blocks, n)
    if every:
        apart = distance(ours, theirs)
        found, told["distance"] = found + config.hidden_weight * apart, _plain(apart.detach(), blocks, n)
    learned = sum_over_examples(found, weights * blocks.shares, blocks.kinds, blocks.examples, n)
    if config.gold_weight:
        nll = _nll(ours[-1][blocks.kinds == ANSWER], _only(blocks, [ANSWER]), learner, n, config)
        learned, told["nll"] = learned + config.gold_weight * nll, nll.detach()
    return Losses(learned, told)


def _token_weights(
    learner: Learner, blocks: Layout, theirs: torch.Tensor, n_examples: int, config: DistillConfig
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A weight for each token that is learned from, and what of it is for the log."""
    if config.token_weights == "none":
        return torch.ones(len(theirs), device=theirs.device), {}
    with torch.no_grad():
        damage = _divergence(learner.hidden(blocks, changed=False), theirs, learner, config)
    groups = blocks.kinds * n_examples + blocks.examples
    weights = damage_weights(damage, groups, len(KINDS) * n_examples, config.weight_floor)
    return weights, {"damage": _plain(damage, blocks, n_examples)}


def _divergence(ours: torch.Tensor, theirs: torch.Tensor, learner: Learner, config: DistillConfig) -> torch.Tensor:
    return divergence_in_chunks(ours, theirs, learner.head, config.chunk, config.divergence, config.temperature)


def _nll(
    states: torch.Tensor, layout: Layout, learner: Learner, n_examples: int, config: DistillConfig
) -> torch.Tensor:
    nll = cross_entropy_in_chunks(states, layout.targets, learner.head, config.chunk)
    return _plain(nll, layout, n_examples)


def _plain(values: torch.Tensor, layout: Layout, n_examples: int) -> torch.Tensor:
    """Unweighted, but that each answer of an example counts alike."""
    return sum_over_examples(values, layout.shares, layout.kinds, layout.examples, n_examples)


def _only(layout: Layout, kinds: Sequence[int]) -> Layout:
    """What is learned from cut down to these kinds."""
    kept = torch.isin(layout.kinds, torch.tensor(kinds, device=layout.kinds.device))
    columns = {name: getattr(layout, name)[kept] for name in ("rows", "targets", "kinds", "examples", "shares")}
    return replace(layout, **columns)
