"""What is learned from: divergence of distributions, cross-entropy, weights of tokens. Pure functions of tensors.

Over the vocabulary nothing is computed for more than `chunk` tokens at once: logits are made from hidden states chunk
by chunk, and made again for the gradient.
"""

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy, kl_div, linear, log_softmax
from torch.utils.checkpoint import checkpoint

from training.distill.layout import KINDS


def divergence(student: torch.Tensor, teacher: torch.Tensor, kind: str, temperature: float = 1.0) -> torch.Tensor:
    """Divergence of the student's next-token distributions from the teacher's, in nats.

    Parameters
    ----------
    student, teacher : torch.Tensor
        Logits ``(tokens, vocabulary)``.
    kind : str
        ``forward``: KL(teacher || student), ``reverse``: KL(student || teacher), ``jsd``: the mean of the KL of both
        from their mixture (Jensen and Shannon).
    temperature : float
        Divides the logits. The result is multiplied with its square, so that gradients keep their size (Hinton et al.,
        arXiv 1503.02531, section 2).

    Returns
    -------
    torch.Tensor
        Float32 ``(tokens,)``, 0 where both are equal.
    """
    ours, theirs = (log_softmax(logits.float() / temperature, -1) for logits in (student, teacher))
    if kind == "forward":
        found = _kl(theirs, ours)
    elif kind == "reverse":
        found = _kl(ours, theirs)
    else:
        mixture = torch.logaddexp(ours, theirs) - torch.log(torch.tensor(2.0, device=ours.device))
        found = (_kl(theirs, mixture) + _kl(ours, mixture)) / 2
    return found * temperature**2


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) of log-probabilities; `kl_div` takes its arguments the other way round."""
    return kl_div(q, p, reduction="none", log_target=True).sum(-1)


def divergence_in_chunks(
    student: torch.Tensor, teacher: torch.Tensor, head: torch.Tensor, chunk: int, kind: str, temperature: float = 1.0
) -> torch.Tensor:
    """`divergence` of hidden states ``(tokens, hidden_size)`` under the output matrix `head` (vocabulary, hidden_size).

    `head` is float32, and so are the logits.
    """

    def of_chunk(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        return divergence(linear(ours.float(), head), linear(theirs.float(), head), kind, temperature)

    return _in_chunks(of_chunk, chunk, student, teacher)


def cross_entropy_in_chunks(
    hidden: torch.Tensor, targets: torch.Tensor, head: torch.Tensor, chunk: int
) -> torch.Tensor:
    """Negative log-likelihood ``(tokens,)`` of what follows, from hidden states ``(tokens, hidden_size)``."""

    def of_chunk(states: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return cross_entropy(linear(states.float(), head), wanted, reduction="none")

    return _in_chunks(of_chunk, chunk, hidden, targets)


def _in_chunks(function: Callable[..., torch.Tensor], chunk: int, *columns: torch.Tensor) -> torch.Tensor:
    pieces = zip(*(column.split(chunk) for column in columns), strict=True)
    return torch.cat([checkpoint(function, *piece, use_reentrant=False) for piece in pieces])


def distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """How far hidden states are from the teacher's: squared, as a share of the teacher's own square, mean over layers.

    Parameters
    ----------
    student, teacher : torch.Tensor
        ``(layers, tokens, hidden_size)``.

    Returns
    -------
    torch.Tensor
        Float32 ``(tokens,)``, 0 where both are equal.
    """
    ours, theirs = student.float(), teacher.float()
    return ((ours - theirs).square().sum(-1) / theirs.square().sum(-1).clamp_min(1e-6)).mean(0)


def damage_weights(damage: torch.Tensor, groups: torch.Tensor, n_groups: int, floor: float) -> torch.Tensor:
    """Weights of tokens: `floor`, and what block mode moves the teacher's prediction by, 1 on a group's average.

    Parameters
    ----------
    damage : torch.Tensor
        Float32 ``(tokens,)``: divergence of the teacher in block mode from itself in full mode.
    groups : torch.Tensor
        int64 ``(tokens,)``: averages are taken within.
    n_groups : int
    floor : float

    Returns
    -------
    torch.Tensor
        ``(tokens,)``; no gradient passes through it.
    """
    damage = damage.detach()
    sums = damage.new_zeros(n_groups).index_add(0, groups, damage)
    counts = damage.new_zeros(n_groups).index_add(0, groups, torch.ones_like(damage))
    mean = sums / counts.clamp_min(1)
    return floor + damage / mean[groups].clamp_min(1e-6)


def sum_over_examples(
    losses: torch.Tensor, weights: torch.Tensor, kinds: torch.Tensor, examples: torch.Tensor, n_examples: int
) -> torch.Tensor:
    """For each kind the sum over examples of the weighted mean over its tokens, shape ``(3,)``.

    Since an example counts as a whole, the mean over a step's examples is the same however they are packed, accumulated
    and dealt out to processes. An example without tokens of a kind counts 0 there.
    """
    groups, n_groups = kinds * n_examples + examples, len(KINDS) * n_examples
    total = losses.new_zeros(n_groups).index_add(0, groups, losses * weights)
    weight = losses.new_zeros(n_groups).index_add(0, groups, weights)
    return (total / weight.clamp_min(1e-12)).view(len(KINDS), n_examples).sum(1)
