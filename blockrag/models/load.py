"""A name or a folder -> an `AnswerModel` on a device. Knows where nothing comes from: that is `local_path`'s."""

import copy

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from blockrag.attention import gqa
from blockrag.errors import WeightsError
from blockrag.models.adapter import Adapter, apply_changes
from blockrag.models.answer_model import AnswerModel
from blockrag.models.families import check_supported
from blockrag.models.store import base_id, local_path, weights_sha256


def load_answer_model(
    name: str,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    allow_unverified: bool = False,
    adapter: Adapter | None = None,
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
    adapter : Adapter, optional
        Made for this model; block mode gets a network of its own, which shares with full mode's what it leaves alone.

    Raises
    ------
    WeightsError, UnsupportedModelError
    """
    folder = local_path(name)
    if adapter is not None and adapter.base_id != base_id(name):
        raise WeightsError(
            f"this adapter was made for {adapter.base} ({adapter.base_id[:12]}), and {name} is {base_id(name)[:12]}: "
            "name that model, another adapter, or none (--adapter none)."
        )
    check_supported(AutoConfig.from_pretrained(folder), allow_unverified=allow_unverified)
    dtype = dtype or (torch.float32 if device.startswith("cpu") else torch.bfloat16)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=gqa.NAME).to(device)
    tokenizer = load_tokenizer(name)
    if adapter is not None:
        return adapted(network, tokenizer, weights_sha256(folder), adapter, allow_unverified=allow_unverified)
    return AnswerModel(network, tokenizer, weights_sha256(folder), allow_unverified=allow_unverified)


def adapted(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    weights_id: str,
    adapter: Adapter,
    *,
    allow_unverified: bool = False,
) -> AnswerModel:
    """The model of block mode, with that of full mode as its `full`; `network` becomes full mode's.

    Both are whole networks with changed weights, so that several threads may run both at once and captured graphs keep
    theirs. Tensors that the student does not change are in memory once.
    """
    apply_changes(network, adapter.teacher)
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    block_network = copy.deepcopy(network, shared)
    apply_changes(block_network, adapter.student)
    full = AnswerModel(network, tokenizer, weights_id, adapter.full_format, allow_unverified)
    return AnswerModel(block_network, tokenizer, weights_id, adapter.block_format, allow_unverified, full)


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
