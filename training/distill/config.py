"""Settings of block distillation: fields are flags of the command line, and are saved in the adapter."""

from dataclasses import dataclass, field
from typing import Any

OBJECTIVES = ("teacher", "distill", "distill-both", "finetune", "finetune-both")
DISTILLATIONS = ("distill", "distill-both")
SINKS = ("none", "literal", "learned")
DIVERGENCES = ("forward", "reverse", "jsd")
TOKEN_WEIGHTS = ("none", "damage")


def setting(default: Any, help: str) -> Any:
    """A field of a settings dataclass, with the help text of its flag."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class DistillConfig:
    """Settings of one training stage. Settings of block mode have no effect on a teacher in full mode.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    objective: str = setting(
        "distill",
        "teacher: cross-entropy of answers in full mode; distill: divergence from the teacher in block mode; "
        "distill-both: divergence from the published model in block and full mode; "
        "finetune: cross-entropy in block mode; finetune-both: in block and full mode (arXiv 2409.15355)",
    )
    steps: int = setting(400, "optimiser steps")
    minutes: float = setting(0.0, "finish within this time: the schedule is compressed to it; 0: no limit")
    examples: int = setting(16, "examples per step, over all processes")
    pack_tokens: int = setting(
        49152, "maximum tokens of a micro-batch; a step accumulates gradients over micro-batches"
    )
    lr: float = setting(4e-4, "peak learning rate; 1e-3 suits a teacher")
    lr_end: float = setting(0.05, "final learning rate, as a share of the peak")
    warmup: int = setting(20, "steps of linear warm-up; a cosine follows")
    clip: float = setting(1.0, "maximum norm of the gradient")
    rank: int = setting(16, "rank of the LoRA matrices")
    alpha: float = setting(32.0, "scale of the LoRA change is alpha / rank")
    merged: bool = setting(
        True, "merge the change into the weights before each pass, as serving does; else compute it beside them"
    )
    sinks: str = setting(
        "none", "tokens before every block: none, literal (--sink-text) or learned (initialised from it)"
    )
    n_sinks: int = setting(4, "sinks before every block; the sink text is repeated or cut to this many tokens")
    sink_text: str = setting("\n", "text of literal sinks, initial value of learned ones")
    n_links: int = setting(
        0, "learned tokens after every block that attend to all before them (KVLink, arXiv 2502.16002)"
    )
    prefix_visible: bool = setting(True, "blocks attend to the prompt's prefix, which acts as their sink")
    dropout: float = setting(
        0.2, "block dropout: probability that a block attends to all before it; its tokens are then trained on"
    )
    shuffle: float = setting(0.0, "share of examples whose blocks come in a new random order (distill)")
    exchange: float = setting(
        0.0, "probability that a block is exchanged for a block of another example, another one each time (distill)"
    )
    divergence: str = setting(
        "forward", "forward: KL(teacher || student); reverse: KL(student || teacher); jsd: Jensen-Shannon"
    )
    temperature: float = setting(1.0, "temperature of both distributions")
    token_weights: str = setting("none", "none, or damage: divergence of the teacher in block mode from full mode")
    weight_floor: float = setting(0.5, "token weight at no damage; at mean damage the weight is 1 higher")
    question_weight: float = setting(0.3, "loss weight of question tokens; answers have 1")
    hidden_weight: float = setting(
        0.0, "loss weight of the distance of hidden states from the teacher's, over all layers"
    )
    agreement: float = setting(0.0, "loss weight of the divergence between both modes (distill-both, finetune-both)")
    gold_weight: float = setting(0.0, "loss weight of the given answer's cross-entropy (distill)")
    context_weight: float = setting(0.3, "loss weight of tokens of open blocks (see --dropout)")
    chunk: int = setting(2048, "tokens whose logits are in memory at once")
    checkpointing: float = setting(0.0, "share of the layers whose activations are recomputed instead of kept")
    save_every: int = setting(0, "steps between checkpoints; 0: only at the end")
    seed: int = setting(0, "random seed")

    def __post_init__(self) -> None:
        _among("objective", self.objective, OBJECTIVES)
        _among("sinks", self.sinks, SINKS)
        _among("divergence", self.divergence, DIVERGENCES)
        _among("token_weights", self.token_weights, TOKEN_WEIGHTS)
        for name in ("steps", "examples", "pack_tokens", "rank", "chunk"):
            within(name, getattr(self, name), 1, 1 << 40)
        for name in ("dropout", "lr_end", "checkpointing", "shuffle", "exchange"):
            within(name, getattr(self, name), 0, 1)
        for name in ("warmup", "save_every", "weight_floor", "minutes"):
            within(name, getattr(self, name), 0, 1 << 40)
        for name in ("question_weight", "context_weight", "hidden_weight", "agreement", "gold_weight"):
            within(name, getattr(self, name), 0, 1 << 40)
        for name in ("lr", "clip", "alpha", "temperature"):
            within(name, getattr(self, name), 1e-12, 1e12)
        if self.objective not in DISTILLATIONS and (self.shuffle or self.exchange):
            raise ValueError("shuffle and exchange change the right answer; they belong to distillation.")
        within("n_links", self.n_links, 0, 64)
        within("n_sinks", self.n_sinks, 1 if self.sinks != "none" else 0, 64)
        if self.sinks != "none" and not self.sink_text:
            raise ValueError("sink_text is empty; give the text of the sinks, or sinks='none'.")

    @property
    def scale(self) -> float:
        """Factor of the product of the low-rank matrices."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class DataConfig:
    """Settings of the examples.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    n: int = setting(8000, "number of examples")
    built: float = setting(0.35, "share of examples with questions built from documents (see tasks.py)")
    unanswerable: float = setting(0.06, "share of questions that the documents do not answer")
    more_turns: float = setting(0.8, "share of examples with several questions about the same documents")
    most_turns: int = setting(6, "maximum questions of an example")
    max_tokens: int = setting(3584, "maximum tokens of an example's blocks")
    granularity: tuple[float, float] = setting((0.1, 0.9), "range from which each document's granularity is drawn")
    block_tokens: tuple[int, int] = setting((16, 1024), "minimum and maximum tokens of a block")
    answer_tokens: int = setting(160, "maximum tokens of an answer; longer ones are truncated")
    seed: int = setting(0, "random seed")

    def __post_init__(self) -> None:
        for name in ("built", "unanswerable", "more_turns"):
            within(name, getattr(self, name), 0, 1)
        low, high = self.granularity
        if not 0 <= low <= high <= 1:
            raise ValueError(f"granularity is {low} to {high}; expected a range within 0 to 1.")
        for name in ("n", "most_turns", "max_tokens", "answer_tokens"):
            within(name, getattr(self, name), 1, 1 << 40)


def _among(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose: {', '.join(choices)}.")


def within(name: str, value: float, low: float, high: float) -> None:
    """Raise `ValueError` if `value` is out of range."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; expected {low:g} to {high:g}.")
