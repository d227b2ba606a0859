"""Models to benchmark: any that the library loads, or a published shape with random weights."""

from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from blockrag.attention import gqa
from blockrag.models.answer_model import AnswerModel
from blockrag.models.load import load_answer_model

SHAPES = {
    "llama-3.1-8b": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    },
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
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000000.0},
    },
}
"""Configurations of Llama-3.1-8B and Qwen3-4B-Instruct-2507."""


@dataclass(frozen=True)
class Subject:
    """The model under test."""

    name: str
    model: AnswerModel
    random_weights: bool

    @property
    def weights_nbytes(self) -> int:
        """Bytes of weights that one pass reads: all but untied input embeddings."""
        network = self.model.network
        total = sum(parameter.nbytes for parameter in network.parameters())
        tied = network.config.tie_word_embeddings
        return total - (0 if tied else network.get_input_embeddings().weight.nbytes)

    @property
    def flop_per_token(self) -> float:
        """Floating-point operations a token in the layers' matrix products, without attention and output."""
        network = self.model.network
        inputs = network.get_input_embeddings().weight.numel()
        outputs = 0 if network.config.tie_word_embeddings else network.get_output_embeddings().weight.numel()
        return 2.0 * (sum(parameter.numel() for parameter in network.parameters()) - inputs - outputs)


def open_subject(name: str, device: torch.device) -> Subject:
    """A shape with random weights, or a model by name or folder (see `load_answer_model`)."""
    if name not in SHAPES:
        return Subject(name, load_answer_model(name, device=str(device)), random_weights=False)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    settings = dict(SHAPES[name])
    config = AutoConfig.for_model(settings.pop("model_type"), max_position_embeddings=131072, **settings)
    torch.manual_seed(0)
    with device:
        torch.set_default_dtype(dtype)
        network = AutoModelForCausalLM.from_config(config, attn_implementation=gqa.NAME, dtype=dtype)
        torch.set_default_dtype(torch.float32)
    return Subject(name, AnswerModel(network, None, f"random {name}"), random_weights=True)
