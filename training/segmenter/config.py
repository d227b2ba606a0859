"""Everything that a training run of the segmenter is made of; the command line and the checkpoint speak of it alike."""

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
    texts: int = field(default=24, metadata={"help": "texts in a step"})
    max_tokens: int = field(default=8192, metadata={"help": "most tokens of a text; longer documents are cropped"})
    lr: float = field(default=5e-4, metadata={"help": "highest learning rate"})
    warmup: int = field(default=200, metadata={"help": "steps in which the rate rises; then it falls as a cosine"})
    weight_decay: float = field(default=0.05, metadata={"help": "AdamW's"})
    layers: int = field(default=5, metadata={"help": "layers of the transformer over candidates"})
    window: int = field(default=512, metadata={"help": "tokens of a window, at most 512"})
    overlap: int = field(default=128, metadata={"help": "tokens that a window shares with the next"})
    one_sided: bool = field(default=False, metadata={"help": "see only what comes before a candidate (ablation)"})
    headings: str = field(default="both", metadata={"help": "train on texts with headings kept, stripped, or both"})
    packed: float = field(default=0.15, metadata={"help": "share of texts joined from two documents"})
    flattened: float = field(default=0.15, metadata={"help": "share of texts that lose their blank lines or all lines"})
    lowered: float = field(default=0.1, metadata={"help": "share of texts that lose their capitals"})
    masked: float = field(default=0.0, metadata={"help": "share of a text's tokens that are hidden from the network"})
    dropout: float = field(default=0.1, metadata={"help": "share of the encoder's activations that are left out"})
    balance: float = field(default=0.7, metadata={"help": "0: categories as large as they are; 1: all alike"})
    level_weights: tuple[float, ...] = field(default=(1.0, 1.0, 0.3), metadata={"help": "of the loss, by level"})
    without: tuple[str, ...] = field(default=(), metadata={"help": "sources left out of training"})
    compile: bool = field(default=False, metadata={"help": "compile the encoder: faster on a GPU after a minute"})
    seed: int = field(default=0, metadata={"help": "of everything random"})

    def __post_init__(self) -> None:
        if not 16 <= self.window <= 512 or not 0 <= self.overlap < self.window - 2:
            raise ValueError(f"Windows of {self.window} tokens that share {self.overlap}: at most 512, sharing less.")
        if self.headings not in ("kept", "stripped", "both"):
            raise ValueError(f"Headings are kept, stripped or both, not {self.headings!r}.")
        if not 0 <= self.masked < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"Shares masked and left out are {self.masked} and {self.dropout}: at least 0, below 1.")
        if min(self.steps, self.texts, self.max_tokens) < 1:
            raise ValueError("Steps, texts and tokens must each be at least 1.")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag a setting."""
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
    """The settings that were given."""
    given: dict[str, Any] = {}
    for each in fields(SegmenterConfig):
        value = getattr(args, each.name)
        given[each.name] = tuple(value) if isinstance(value, list) else value
    return SegmenterConfig(**given)
