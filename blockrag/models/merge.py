"""Merge a base model and its adapter into an ordinary checkpoint, for engines that do not know our adapters."""

from pathlib import Path
from typing import Literal

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from blockrag.attention import gqa
from blockrag.attention.format import BlockFormat, write_format
from blockrag.errors import WeightsError
from blockrag.models.adapter import Adapter
from blockrag.models.load import adapted, load_tokenizer
from blockrag.models.store import base_id, local_path

SINK_TOKEN = "<|block_sink_{}|>"


def merge(model: str, adapter: Adapter, mode: Literal["full", "block"], out: Path) -> None:
    """Write the weights of one mode as a checkpoint.

    Learned sinks become tokens of the vocabulary. For block mode, the tokens that precede every block, and
    whether blocks see the prefix, are written too; see `write_format`.

    Parameters
    ----------
    model : str
        The adapter's base; see `local_path`.
    adapter : Adapter
    mode : "full" or "block"
    out : Path
        A folder that does not exist yet.

    Raises
    ------
    WeightsError
        If the adapter was made for another model, or `out` exists.
    """
    if adapter.base_id != base_id(model):
        raise WeightsError(f"this adapter was made for {adapter.base}, not for {model}; name that model (--model).")
    if out.exists():
        raise WeightsError(f"{out} exists already; name a new folder.")
    base = AutoModelForCausalLM.from_pretrained(local_path(model), dtype="auto", attn_implementation=gqa.NAME)
    tokenizer = load_tokenizer(model)
    both = adapted(base, tokenizer, "", adapter, allow_unverified=True)
    assert both.full is not None
    network = both.network if mode == "block" else both.full.network
    if mode == "block":
        sinks = tuple(_sink_tokens(network, tokenizer, adapter))
    network.save_pretrained(out)
    tokenizer.save_pretrained(out)
    if mode == "block":
        block_format = BlockFormat(sinks, prefix_visible=adapter.prefix_visible)
        write_format(out, sinks, block_format.prefix_visible, block_format.digest)


def _sink_tokens(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, adapter: Adapter) -> list[int]:
    """Return the sinks' token ids; learned sinks get new rows at the end of the vocabulary."""
    learned = adapter.sink_embeddings
    if learned is None:
        return list(adapter.sink_ids)
    first = network.get_input_embeddings().num_embeddings
    names = [SINK_TOKEN.format(number) for number in range(len(learned))]
    unused = [f"<|unused_{number}|>" for number in range(first - len(tokenizer))]  # rows that have no token
    tokenizer.add_special_tokens({"additional_special_tokens": unused + names})
    network.resize_token_embeddings(first + len(learned), mean_resizing=False)
    with torch.no_grad():
        network.get_input_embeddings().weight[first:] = learned.to(network.dtype)
    return tokenizer.convert_tokens_to_ids(names)
