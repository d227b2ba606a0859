"""Convert: SmolLM2's GGUF file -> plain float32 safetensors, once, so that later starts are quick."""

from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert_gguf(folder: Path, file: str, target: Path) -> None:
    """Write config, weights and tokenizer of ``folder / file`` to the new folder `target`.

    The file holds 4-bit weights; they are dequantised, and nothing is rounded again.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    # What transformers makes of a GGUF lacks SmolLM2's splitting of digits: "a  12" must be a, two spaces, 1, 2.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    config = loaded.config
    if hasattr(config, "quantization_config"):  # later releases mark it as quantised, and then refuse to save it
        del config.quantization_config
    config.name_or_path = ""
    network = type(loaded)(config)
    network.load_state_dict(loaded.state_dict())
    network.generation_config = loaded.generation_config
    network.save_pretrained(target)
    tokenizer.save_pretrained(target)
