"""Settings of a training run, shared by the command line and the checkpoint."""

import argparse
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class SegmenterConfig:
    """Settings of one run.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    steps: int = field(default=2000, metadata={"help": "optimiser steps"})
    texts: int = field(default=24, metadata={"help": "texts per step"})
    max_tokens: int = field(default=8192, metadata={"help": "longest text in tokens; longer documents are cropped"})
    lr: float = field(default=5e-4, metadata={"help": "peak learning rate"})
    warmup: int = field(default=200, metadata={"help": "warm-up steps, followed by cosine decay"})
    weight_decay: float = field(default=0.05, metadata={"help": "weight decay of AdamW"})
    layers: int = field(default=5, metadata={"help": "layers of the transformer over candidates"})
    window: int = field(default=512, metadata={"help": "tokens per window, at most 512"})
    overlap: int = field(default=128, metadata={"help": "tokens shared by neighbouring windows"})
    one_sided: bool = field(default=False, metadata={"help": "see only what comes before a candidate (ablation)"})
    headings: str = field(default="both", metadata={"help": "train on texts with headings kept, stripped, or both"})
    packed: float = field(default=0.15, metadata={"help": "share of texts packed from two documents"})
    flattened: float = field(
        default=0.15, metadata={"help": "share of texts whose blank lines or line breaks are removed"}
    )
    lowered: float = field(default=0.1, metadata={"help": "share of texts in lower case"})
    masked: float = field(default=0.0, metadata={"help": "share of masked tokens in a text"})
    dropout: float = field(default=0.1, metadata={"help": "dropout in the encoder"})
    balance: float = field(default=0.7, metadata={"help": "0: categories weighted by size; 1: equally"})
    level_weights: tuple[float, ...] = field(default=(1.0, 1.0, 0.3), metadata={"help": "weights of the loss by level"})
    without: tuple[str, ...] = field(default=(), metadata={"help": "sources excluded from training"})
    compile: bool = field(default=False, metadata={"help": "compile the encoder"})
    seed: int = field(default=0, metadata={"help": "random seed"})

    def __post_init__(self) -> None:
        if not 16 <= self.window <= 512 or not 0 <= self.overlap < self.window - 2:
            raise ValueError(
                f"Windows of {self.window} tokens sharing {self.overlap}: expected 16 to 512 tokens, sharing less."
            )
        if self.headings not in ("kept", "stripped", "both"):
            raise ValueError(f"headings is {self.headings!r}; expected kept, stripped or both.")
        if not 0 <= self.masked < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"masked is {self.masked}, dropout {self.dropout}; expected at least 0 and below 1.")
        if min(self.steps, self.texts, self.max_tokens) < 1:
            raise ValueError("steps, texts and max_tokens must be at least 1.")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add one flag for each setting."""
    for each in fields(SegmenterConfig):
        flag, default = "--" + each.name.replace("_", "-"), each.default
        options: dict[str, Any] = {"help": f"{each.metadata['help']} (default: {default})", "default": default}
        if isinstance(default, bool):
            options["action"] = argparse.BooleanOptionalAction
        elif isinstance(default, tuple):
            options |= {"nargs": "*", "type": float if default else str}
        else:
            options["type"] = type(default)
        parser.add_argument(flag, **options)


def from_flags(args: argparse.Namespace) -> SegmenterConfig:
    """The settings from parsed flags."""
    given: dict[str, Any] = {}
    for each in fields(SegmenterConfig):
        value = getattr(args, each.name)
        given[each.name] = tuple(value) if isinstance(value, list) else value
    return SegmenterConfig(**given)
