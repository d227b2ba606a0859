"""``python -m training.distill timing``: speed and memory of training steps of a model shape with random weights."""

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from blockrag.attention import gqa
from blockrag.models.answer_model import AnswerModel
from blockrag.models.load import load_tokenizer
from training.cli import add_flags, commit, from_flags
from training.distill.config import DistillConfig
from training.distill.examples import Example, Examples
from training.distill.log import read_log
from training.distill.model import TrainableModel
from training.distill.processes import Processes
from training.distill.train import Run, fit

SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-4b": {
        "model_type": "qwen3",
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
        "max_position_embeddings": 262144,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000000.0},
    },
    "tiny": {
        "model_type": "qwen3",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 49152,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
}
"""The configuration of Qwen3-4B-Instruct-2507, and a tiny one for tests."""

BLOCK_TOKENS, QUESTION_TOKENS, ANSWER_TOKENS = 512, 64, 192


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``timing``."""
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-4b")
    parser.add_argument(
        "--tokens", type=int, default=16384, help="tokens of a step's single example (default: %(default)s)"
    )
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU if available)")
    add_flags(parser, DistillConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train on random tokens; return medians over all steps but the first ten."""
    config = replace(from_flags(args, DistillConfig), examples=1, pack_tokens=2 * args.tokens, save_every=0)
    processes = Processes(args.device)
    base = _random_model(args.shape, processes.device)
    examples = _random_examples(args.tokens, base.network.config.vocab_size)
    model = TrainableModel(base, config, block_mode=True)
    with tempfile.TemporaryDirectory() as folder:
        fit(Run(model, examples, config, processes, Path(folder)), keep=False)
        lines = read_log(Path(folder))
    settled = lines[1:] or lines
    medians = {name: _median([line[name] for line in settled]) for name in ("step_s", "tokens_per_s", "mfu")}
    device = torch.cuda.get_device_name() if processes.device.type == "cuda" else "cpu"
    about = {"shape": args.shape, "tokens": args.tokens, "device": device, "commit": commit(), "steps": config.steps}
    settings = {
        name: getattr(config, name) for name in ("objective", "merged", "checkpointing", "rank", "token_weights")
    }
    return {**about, **settings, **medians, "memory_nbytes": lines[-1]["memory_nbytes"]}


def _random_model(shape: str, device: torch.device) -> AnswerModel:
    """A model with random weights, created on `device`. Tokens are random, so SmolLM2's tokenizer serves."""
    settings = dict(SHAPES[shape])
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device(device):
        network = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=gqa.NAME)
    return AnswerModel(network, load_tokenizer("smollm2"), f"random {shape}")


def _random_examples(n_tokens: int, vocabulary: int) -> Examples:
    """Four examples of `n_tokens` each: blocks of 512 tokens and one question."""
    draws = np.random.default_rng(0)

    def ids(n: int) -> np.ndarray:
        return draws.integers(3, vocabulary, n).astype(np.int32)

    n_blocks, rest = divmod(n_tokens - QUESTION_TOKENS - ANSWER_TOKENS - 1, BLOCK_TOKENS)
    sizes = [BLOCK_TOKENS] * n_blocks + ([rest] if rest else [])
    items = [Example([ids(n) for n in sizes], [(ids(QUESTION_TOKENS), ids(ANSWER_TOKENS))]) for _ in range(4)]
    return Examples(ids(1), items, {})


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
