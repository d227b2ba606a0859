"""Everything that a run of block distillation is made of; command line, checkpoint and adapter speak of it alike."""

from dataclasses import dataclass, field
from typing import Any

OBJECTIVES = ("teacher", "distill", "finetune", "finetune-both")
SINKS = ("none", "literal", "learned")
DIVERGENCES = ("forward", "reverse", "jsd")
TOKEN_WEIGHTS = ("none", "damage")


def setting(default: Any, help: str) -> Any:
    """A field of a settings class, with the help text of its flag."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class DistillConfig:
    """Settings of one stage. What concerns block mode alone is idle where the teacher is made.

    Raises
    ------
    ValueError
        If a value is out of its range: with the value and the range.
    """

    objective: str = setting(
        "distill",
        "teacher: answers in full mode; distill: its distribution in block mode; finetune: answers in block mode; "
        "finetune-both: answers in block and in full mode, as in arXiv 2409.15355",
    )
    steps: int = setting(400, "optimiser steps")
    minutes: float = setting(0.0, "finish within this time, with a full schedule but fewer steps; 0: no limit")
    examples: int = setting(16, "examples in a step, over all processes")
    pack_tokens: int = setting(49152, "most tokens that go through the network at once; a step takes as many passes")
    lr: float = setting(4e-4, "highest learning rate; a teacher learns well at 1e-3")
    lr_end: float = setting(0.05, "share of it that is left at the end")
    warmup: int = setting(20, "steps in which the rate rises; then it falls as a cosine")
    clip: float = setting(1.0, "longest gradient")
    rank: int = setting(16, "of the low-rank matrices")
    alpha: float = setting(32.0, "their product counts alpha / rank")
    merged: bool = setting(True, "add the product to the weights before each pass, as serving does; else beside them")
    sinks: str = setting("none", "before every block: none, literal (the text of --sink-text), learned from it")
    n_sinks: int = setting(4, "how many; the text is repeated or cut to as many tokens")
    sink_text: str = setting("\n", "what literal sinks say and learned ones begin as")
    n_links: int = setting(0, "learned tokens behind every block that see all before them (KVLink, arXiv 2502.16002)")
    prefix_visible: bool = setting(True, "blocks see the prompt's prefix, which serves them as a sink")
    dropout: float = setting(0.2, "share of the blocks that see all before them in a step, and are learned from too")
    divergence: str = setting("forward", "forward: KL(teacher, student); reverse: the other way; jsd: of both")
    temperature: float = setting(1.0, "both distributions are flattened by")
    token_weights: str = setting("none", "none, or damage: by how far block mode moves the teacher's own prediction")
    weight_floor: float = setting(0.5, "what a token weighs that block mode does not move; the mean one weighs 1 more")
    question_weight: float = setting(0.3, "of the question's tokens, against 1 for the answers'")
    hidden_weight: float = setting(0.0, "of how far hidden states are from the teacher's, after every layer")
    agreement: float = setting(0.0, "of the divergence between both modes where answers are learned in both")
    gold_weight: float = setting(0.0, "of the given answer's cross-entropy, beside the divergence from the teacher's")
    lifted_weight: float = setting(0.3, "of the tokens of blocks that see all before them")
    chunk: int = setting(2048, "tokens whose distributions over the vocabulary are held at once")
    checkpointing: float = setting(0.0, "share of the layers whose activations are computed twice rather than kept")
    save_every: int = setting(0, "steps between checkpoints; 0: only at the end")
    seed: int = setting(0, "of everything random")

    def __post_init__(self) -> None:
        _among("objective", self.objective, OBJECTIVES)
        _among("sinks", self.sinks, SINKS)
        _among("divergence", self.divergence, DIVERGENCES)
        _among("token_weights", self.token_weights, TOKEN_WEIGHTS)
        for name in ("steps", "examples", "pack_tokens", "rank", "chunk"):
            within(name, getattr(self, name), 1, 1 << 40)
        for name in ("dropout", "lr_end", "checkpointing"):
            within(name, getattr(self, name), 0, 1)
        for name in ("warmup", "save_every", "weight_floor", "minutes"):
            within(name, getattr(self, name), 0, 1 << 40)
        for name in ("question_weight", "lifted_weight", "hidden_weight", "agreement", "gold_weight"):
            within(name, getattr(self, name), 0, 1 << 40)
        for name in ("lr", "clip", "alpha", "temperature"):
            within(name, getattr(self, name), 1e-12, 1e12)
        within("n_links", self.n_links, 0, 64)
        within("n_sinks", self.n_sinks, 1 if self.sinks != "none" else 0, 64)
        if self.sinks != "none" and not self.sink_text:
            raise ValueError("sink_text is empty; give the text that sinks say or begin as, or sinks='none'.")

    @property
    def scale(self) -> float:
        """What the product of the low-rank matrices is multiplied with."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class DataConfig:
    """How examples are made of rows.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    n: int = setting(8000, "examples")
    built: float = setting(0.35, "share of them that are built from documents without questions")
    unsaid: float = setting(0.06, "share of the questions whose answer is taken out of the documents")
    more_turns: float = setting(0.8, "share of the examples with further questions to the same documents")
    most_turns: int = setting(6, "most questions of an example")
    max_tokens: int = setting(3584, "most tokens of an example's blocks")
    granularity: tuple[float, float] = setting((0.1, 0.9), "range from which each document's is drawn")
    block_tokens: tuple[int, int] = setting((16, 1024), "fewest and most tokens of a block")
    answer_tokens: int = setting(160, "longer answers are cut")
    seed: int = setting(0, "of everything random")

    def __post_init__(self) -> None:
        for name in ("built", "unsaid", "more_turns"):
            within(name, getattr(self, name), 0, 1)
        low, high = self.granularity
        if not 0 <= low <= high <= 1:
            raise ValueError(f"granularity runs from {low} to {high}; expected is a range within 0 to 1.")
        for name in ("n", "most_turns", "max_tokens", "answer_tokens"):
            within(name, getattr(self, name), 1, 1 << 40)


def _among(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose: {', '.join(choices)}.")


def within(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError, with value and range, if `value` is out of range."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; expected is {low:g} to {high:g}.")
