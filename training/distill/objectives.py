"""Losses of a micro-batch for each training objective, summed by kind of token."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from training.distill.config import DISTILLATIONS, DistillConfig
from training.distill.examples import Example, Examples, Ids
from training.distill.layout import ANSWER, CONTEXT, KINDS, QUESTION, BlockRules, Layout, block_layout, full_layout
from training.distill.loss import (
    cross_entropy_in_chunks,
    damage_weights,
    divergence_in_chunks,
    hidden_distance,
    sum_over_examples,
)
from training.distill.model import TrainableModel


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Examples for one forward pass, in the layouts that the objective needs.

    Attributes
    ----------
    n_examples : int
    full, blocks : Layout or None
    """

    n_examples: int
    full: Layout | None
    blocks: Layout | None

    def to(self, device: torch.device) -> "MicroBatch":
        """A copy on `device`."""
        moved = (each.to(device) if each else None for each in (self.full, self.blocks))
        return MicroBatch(self.n_examples, *moved)

    @property
    def n_tokens(self) -> int:
        """Length of the longer layout."""
        return max(each.n_tokens for each in (self.full, self.blocks) if each)


@dataclass(frozen=True, eq=False)
class Losses:
    """Sums over a micro-batch's examples by kind of token, ``(3,)``: the training loss, and quantities to log."""

    loss: torch.Tensor
    logged: dict[str, torch.Tensor] = field(default_factory=dict)


def make_batch(
    prefix: Ids,
    examples: Sequence[Example],
    open_blocks: Sequence[Sequence[bool]],
    rules: BlockRules,
    config: DistillConfig,
) -> MicroBatch:
    """Lay out examples for the objective; token kinds with weight 0 are not predicted."""
    kinds = [kind for kind, weight in enumerate(kind_weights(config)) if weight > 0]
    needs_full = config.objective != "finetune"
    full = full_layout(prefix, examples, open_blocks).only(kinds) if needs_full else None
    needs_blocks = config.objective != "teacher"
    blocks = block_layout(prefix, examples, open_blocks, rules).only(kinds) if needs_blocks else None
    return MicroBatch(len(examples), full, blocks)


def kind_weights(config: DistillConfig) -> tuple[float, float, float]:
    """Loss weight of each kind of token. Objectives other than distillation train on answers only."""
    if config.objective not in DISTILLATIONS:
        return 1.0, 0.0, 0.0
    weights = {ANSWER: 1.0, QUESTION: config.question_weight, CONTEXT: config.context_weight if config.dropout else 0.0}
    return weights[ANSWER], weights[QUESTION], weights[CONTEXT]


def losses(model: TrainableModel, batch: MicroBatch, config: DistillConfig) -> Losses:
    """Losses of a micro-batch; `Losses.loss` carries the gradient."""
    if config.objective == "distill":
        return _distillation(model, batch, config)
    if config.objective == "distill-both":
        return _distillation_of_both(model, batch, config)
    return _finetuning(model, batch, config)


def total(loss: torch.Tensor, config: DistillConfig) -> torch.Tensor:
    """Weighted sum of the losses by kind."""
    return (loss * loss.new_tensor(kind_weights(config))).sum()


@torch.no_grad()
def held_out(model: TrainableModel, examples: Examples, config: DistillConfig) -> dict[str, float]:
    """Mean divergence from full mode on held-out examples, in nats per token, on answer and question tokens.

    ``block_*`` is block mode as trained, ``naive_*`` the full mode's weights in block mode without sinks. If training
    changes full mode, ``kept_*`` is its divergence from the published model. Every answer and every example counts
    equally.
    """
    kinds, moved = (ANSWER, QUESTION), config.objective not in ("distill", "finetune")
    names = ["block", "naive", *(["kept"] if moved else [])]
    sums = torch.zeros(len(names), 2)
    for example in examples.items:
        none_open = [[False] * len(example.blocks)]
        full = full_layout(examples.prefix, [example], none_open).only(kinds).to(model.device)
        own = model.hidden(full, changed=moved)
        for row, (rules, changed) in enumerate(((model.rules, True), (BlockRules(), moved))):
            blocks = block_layout(examples.prefix, [example], none_open, rules).only(kinds).to(model.device)
            found = _divergence(model.hidden(blocks, changed=changed), own, model, config)
            sums[row] += _unweighted(found, blocks, 1)[list(kinds)].cpu()
        if moved:
            found = _divergence(own, model.hidden(full, changed=False), model, config)
            sums[2] += _unweighted(found, full, 1)[list(kinds)].cpu()
    means = (sums / len(examples.items)).flatten().tolist()
    return dict(zip((f"{mode}_{KINDS[kind]}" for mode in names for kind in kinds), means, strict=True))


def _finetuning(model: TrainableModel, batch: MicroBatch, config: DistillConfig) -> Losses:
    """Cross-entropy of given answers in full mode, block mode or both; with both, optionally their divergence."""
    layouts = [each for each in (batch.full, batch.blocks) if each]
    states = [model.hidden(each) for each in layouts]
    found = [_nll(*pair, model, batch.n_examples, config) for pair in zip(states, layouts, strict=True)]
    nll = torch.stack(found).mean(0)
    if len(states) == 1 or not config.agreement:
        return Losses(nll)
    full, blocks = states
    divergence = _unweighted(_divergence(blocks, full, model, config), layouts[0], batch.n_examples)
    return Losses(nll + config.agreement * divergence, {"nll": nll.detach(), "divergence": divergence.detach()})


def _distillation(model: TrainableModel, batch: MicroBatch, config: DistillConfig) -> Losses:
    """Divergence of the student in block mode from the teacher in full mode, plus the optional terms."""
    full, blocks, n = batch.full, batch.blocks, batch.n_examples
    assert full is not None and blocks is not None
    every_layer = config.hidden_weight > 0
    teacher = model.states(full, every_layer=every_layer, changed=False)
    weights, logged = _token_weights(model, blocks, teacher[-1], n, config)
    student = model.states(blocks, every_layer=every_layer)
    found = _divergence(student[-1], teacher[-1], model, config)
    logged["divergence"] = _unweighted(found.detach(), blocks, n)
    if every_layer:
        distance = hidden_distance(student, teacher)
        found = found + config.hidden_weight * distance
        logged["distance"] = _unweighted(distance.detach(), blocks, n)
    loss = sum_over_examples(found, weights * blocks.weights, blocks.kinds, blocks.examples, n)
    if config.gold_weight:
        nll = _nll(student[-1][blocks.kinds == ANSWER], blocks.only([ANSWER]), model, n, config)
        loss, logged["nll"] = loss + config.gold_weight * nll, nll.detach()
    return Losses(loss, logged)


def _distillation_of_both(model: TrainableModel, batch: MicroBatch, config: DistillConfig) -> Losses:
    """Mean divergence of both modes from the published model in full mode, plus that between the modes.

    Block mode cannot know what blocks say of each other in full mode; so full mode, too, gives a little of it up.
    """
    full, blocks, n = batch.full, batch.blocks, batch.n_examples
    assert full is not None and blocks is not None
    published = model.hidden(full, changed=False)
    own, apart = model.hidden(full), model.hidden(blocks)
    kept = _unweighted(_divergence(own, published, model, config), full, n)
    block = _unweighted(_divergence(apart, published, model, config), blocks, n)
    between = _unweighted(_divergence(apart, own, model, config), blocks, n) if config.agreement else block
    loss = (kept + block) / 2 + (config.agreement * between if config.agreement else 0.0)
    return Losses(loss, {"kept": kept.detach(), "divergence": between.detach()})


def _token_weights(
    model: TrainableModel, blocks: Layout, teacher: torch.Tensor, n_examples: int, config: DistillConfig
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A weight for each predicted token, and the damage to log."""
    if config.token_weights == "none":
        return torch.ones(len(teacher), device=teacher.device), {}
    with torch.no_grad():
        damage = _divergence(model.hidden(blocks, changed=False), teacher, model, config)
    groups = blocks.kinds * n_examples + blocks.examples
    weights = damage_weights(damage, groups, len(KINDS) * n_examples, config.weight_floor)
    return weights, {"damage": _unweighted(damage, blocks, n_examples)}


def _divergence(
    student: torch.Tensor, teacher: torch.Tensor, model: TrainableModel, config: DistillConfig
) -> torch.Tensor:
    return divergence_in_chunks(student, teacher, model.head, config.chunk, config.divergence, config.temperature)


def _nll(
    states: torch.Tensor, layout: Layout, model: TrainableModel, n_examples: int, config: DistillConfig
) -> torch.Tensor:
    nll = cross_entropy_in_chunks(states, layout.targets, model.head, config.chunk)
    return _unweighted(nll, layout, n_examples)


def _unweighted(values: torch.Tensor, layout: Layout, n_examples: int) -> torch.Tensor:
    """Sums by kind without token weights; each answer of an example counts equally."""
    return sum_over_examples(values, layout.weights, layout.kinds, layout.examples, n_examples)
