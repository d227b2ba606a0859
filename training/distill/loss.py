"""Loss functions: divergence of distributions, cross-entropy, distance of hidden states, token weights.

Logits exist for at most `chunk` tokens at a time: they are computed from hidden states chunk by chunk, and recomputed
in the backward pass.
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
        ``forward``: KL(teacher || student), ``reverse``: KL(student || teacher), ``jsd``: Jensen-Shannon
        divergence, the mean KL of both from their mixture.
    temperature : float
        Divides the logits. The result is multiplied by its square, which keeps the gradients' scale (Hinton et al.,
        arXiv 1503.02531, section 2).

    Returns
    -------
    torch.Tensor
        Float32 ``(tokens,)``, 0 for equal distributions.
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
    """KL(p || q) of log-probabilities; `kl_div` expects (q, p)."""
    return kl_div(q, p, reduction="none", log_target=True).sum(-1)


def divergence_in_chunks(
    student: torch.Tensor, teacher: torch.Tensor, head: torch.Tensor, chunk: int, kind: str, temperature: float = 1.0
) -> torch.Tensor:
    """`divergence` from hidden states ``(tokens, hidden_size)`` and output matrix `head` ``(vocabulary, hidden_size)``.

    `head` and the logits are float32.
    """

    def of_chunk(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        return divergence(linear(ours.float(), head), linear(theirs.float(), head), kind, temperature)

    return _in_chunks(of_chunk, chunk, student, teacher)


def cross_entropy_in_chunks(
    hidden: torch.Tensor, targets: torch.Tensor, head: torch.Tensor, chunk: int
) -> torch.Tensor:
    """Negative log-likelihood ``(tokens,)`` of the next tokens, from hidden states ``(tokens, hidden_size)``."""

    def of_chunk(states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return cross_entropy(linear(states.float(), head), tokens, reduction="none")

    return _in_chunks(of_chunk, chunk, hidden, targets)


def _in_chunks(function: Callable[..., torch.Tensor], chunk: int, *columns: torch.Tensor) -> torch.Tensor:
    pieces = zip(*(column.split(chunk) for column in columns), strict=True)
    return torch.cat([checkpoint(function, *piece, use_reentrant=False) for piece in pieces])


def hidden_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Squared distance of hidden states from the teacher's, relative to the teacher's squared norm; mean over layers.

    Parameters
    ----------
    student, teacher : torch.Tensor
        ``(layers, tokens, hidden_size)``.

    Returns
    -------
    torch.Tensor
        Float32 ``(tokens,)``, 0 for equal states.
    """
    ours, theirs = student.float(), teacher.float()
    return ((ours - theirs).square().sum(-1) / theirs.square().sum(-1).clamp_min(1e-6)).mean(0)


def damage_weights(damage: torch.Tensor, groups: torch.Tensor, n_groups: int, floor: float) -> torch.Tensor:
    """Token weights: `floor` plus the damage relative to the mean damage of the token's group.

    Parameters
    ----------
    damage : torch.Tensor
        Float32 ``(tokens,)``: divergence of the teacher in block mode from the teacher in full mode.
    groups : torch.Tensor
        int64 ``(tokens,)``: group of each token.
    n_groups : int
    floor : float

    Returns
    -------
    torch.Tensor
        ``(tokens,)``, without gradient.
    """
    damage = damage.detach()
    sums = damage.new_zeros(n_groups).index_add(0, groups, damage)
    counts = damage.new_zeros(n_groups).index_add(0, groups, torch.ones_like(damage))
    mean = sums / counts.clamp_min(1)
    return floor + damage / mean[groups].clamp_min(1e-6)


def sum_over_examples(
    losses: torch.Tensor, weights: torch.Tensor, kinds: torch.Tensor, examples: torch.Tensor, n_examples: int
) -> torch.Tensor:
    """For each kind of token, the sum over examples of the weighted mean over the example's tokens, shape ``(3,)``.

    Every example counts equally, so packing, accumulation and the number of processes do not change a step's mean. An
    example without tokens of a kind contributes 0.
    """
    groups, n_groups = kinds * n_examples + examples, len(KINDS) * n_examples
    total = losses.new_zeros(n_groups).index_add(0, groups, losses * weights)
    weight = losses.new_zeros(n_groups).index_add(0, groups, weights)
    return (total / weight.clamp_min(1e-12)).view(len(KINDS), n_examples).sum(1)
