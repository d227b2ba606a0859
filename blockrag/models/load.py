"""A name or a folder -> an `AnswerModel` on a device. Knows where nothing comes from: that is `local_path`'s."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from blockrag.attention import packed
from blockrag.errors import WeightsError
from blockrag.models.answer_model import AnswerModel
from blockrag.models.cache import local_path, weights_sha256
from blockrag.models.families import check_supported


def load_answer_model(
    name: str, *, device: str = "cpu", dtype: torch.dtype | None = None, allow_unverified: bool = False
) -> AnswerModel:
    """Load a causal language model for block attention.

    Parameters
    ----------
    name : str
        See `local_path`.
    device : str
        Such as ``"cpu"`` or ``"cuda:0"``.
    dtype : torch.dtype, optional
        By default float32 on a CPU and bfloat16 on a GPU.
    allow_unverified : bool
        See `check_supported`; the family is checked before any weights are read.

    Raises
    ------
    WeightsError, UnsupportedModelError
    """
    folder = local_path(name)
    check_supported(AutoConfig.from_pretrained(folder), allow_unverified=allow_unverified)
    dtype = dtype or (torch.float32 if device.startswith("cpu") else torch.bfloat16)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=packed.NAME).to(device)
    tokenizer = load_tokenizer(name)
    return AnswerModel(network, tokenizer, weights_sha256(folder), allow_unverified=allow_unverified)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model alone.

    Raises
    ------
    WeightsError
        If there is none that can say where its tokens begin.
    """
    tokenizer = AutoTokenizer.from_pretrained(local_path(name))
    if not tokenizer.is_fast:
        raise WeightsError(f"{name} has no fast tokenizer (tokenizer.json), which counting tokens by offset needs")
    return tokenizer
