"""Convert: SmolLM2's GGUF file -> plain float32 safetensors, once, so that later starts are quick."""

from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

CONTROL = 3
"""The token type of control tokens in a GGUF."""


def convert_gguf(folder: Path, file: str, target: Path) -> None:
    """Write config, weights and tokenizer of ``folder / file`` to the new folder `target`.

    The file holds 4-bit weights; they are dequantised, and nothing is rounded again.
    """
    _network(folder, file).save_pretrained(target)
    _tokenizer(folder / file).save_pretrained(target)


def _network(folder: Path, file: str) -> PreTrainedModel:
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    config = loaded.config
    config.name_or_path = ""
    # transformers takes this network for quantised still and refuses to save it; a fresh one with its weights it saves.
    del config.quantization_config
    network = type(loaded)(config)
    network.load_state_dict(loaded.state_dict())
    network.generation_config = loaded.generation_config
    return network


def _tokenizer(file: Path) -> PreTrainedTokenizerFast:
    """What the file says, built here: transformers' own reading of it varies by release.

    Some give it Llama's decoder and another end token, and none splits digits as SmolLM2 does ("a  12" must be a, two
    spaces, 1, 2).
    """
    fields = GGUFReader(file).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    core = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"].contents()
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL]
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=tokens[fields["tokenizer.ggml.bos_token_id"].contents()],
        eos_token=tokens[fields["tokenizer.ggml.eos_token_id"].contents()],
        pad_token=tokens[fields["tokenizer.ggml.padding_token_id"].contents()],
        unk_token=tokens[fields["tokenizer.ggml.unknown_token_id"].contents()],
        clean_up_tokenization_spaces=False,
        chat_template=fields["tokenizer.chat_template"].contents(),
    )
