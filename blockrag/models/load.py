"""Load an answering model and its tokenizer onto a device."""

import copy
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from blockrag.attention import gqa
from blockrag.attention.format import read_format
from blockrag.attention.probe import check_exact
from blockrag.errors import UnsupportedModelError, WeightsError
from blockrag.models.adapter import Adapter, apply_changes
from blockrag.models.answer_model import AnswerModel
from blockrag.models.families import FAMILIES, check_supported, n_experts
from blockrag.models.int8 import use_int8
from blockrag.models.store import base_id, local_path, weights_sha256

DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
"""Settings of the type to compute in; int8 is that of the weights alone, on a CPU."""

FEWEST_TOKENS = 100
"""Smallest vocabulary that is taken for a real one."""


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
        By default `best_dtype`; with int8, that of everything but the weights (see `blockrag.models.int8`).
    allow_unverified : bool
        See `check_supported`; the family is checked before any weights are read, and a model of an unverified one is
        compared with one dense pass (`check_exact`).
    adapter : Adapter, optional
        Made for this model; block mode gets a network of its own, which shares unchanged weights with full mode's.

    Raises
    ------
    WeightsError
        If the weights or the tokenizer are missing, incomplete or damaged, or the adapter was made for another model.
    UnsupportedModelError
        If blocks of this model cannot be cached exactly.
    """
    folder = local_path(name)
    if adapter is not None:
        check_base(adapter, name)
    config = _config(folder, name)
    check_supported(config, allow_unverified=allow_unverified)
    if dtype == torch.int8 and not device.startswith("cpu"):
        raise UnsupportedModelError(f"weights in 8 bits are for a CPU, not for {device}; use --dtype auto.")
    if dtype == torch.int8 and n_experts(config) > 1:
        raise UnsupportedModelError(
            f"{name}: weights in 8 bits are for dense models, not for experts; use --dtype auto."
        )
    tokenizer, weights_id = load_tokenizer(name), weights_sha256(folder)
    if dtype == torch.int8:
        weights_id += "-int8"
    computed_in = best_dtype(device, config.dtype) if dtype in (None, torch.int8) else dtype
    network = _network(folder, name, computed_in).to(device)
    if adapter is None:
        model = AnswerModel(network, tokenizer, weights_id, allow_unverified=allow_unverified)
    else:
        model = adapted(network, tokenizer, weights_id, adapter, allow_unverified=allow_unverified)
    if config.model_type not in FAMILIES:
        check_exact(model)
    if dtype == torch.int8:
        use_int8(model.network, (model.full or model).network)
    return model


def describe_answer_model(name: str, *, allow_unverified: bool = False, adapter: Adapter | None = None) -> AnswerModel:
    """A model whose network has no weights: tokenizer, format, limits and identity, for an engine that computes
    elsewhere. The format is that of the adapter, or of a merged checkpoint.

    Raises
    ------
    WeightsError, UnsupportedModelError
        See `load_answer_model`.
    """
    folder = local_path(name)
    if adapter is not None:
        check_base(adapter, name)
    config = _config(folder, name)
    check_supported(config, allow_unverified=allow_unverified)
    network = weightless(config, best_dtype("cpu", config.dtype))
    if (folder / "generation_config.json").exists():
        network.generation_config = GenerationConfig.from_pretrained(folder)
    block_format = read_format(folder) if adapter is None else adapter.block_format
    return AnswerModel(network, load_tokenizer(name), weights_sha256(folder), block_format, allow_unverified)


def weightless(config: PreTrainedConfig, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """A network without weights, whose rotary positions alone can be computed."""
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config, dtype=dtype)
    network.model.rotary_emb = type(network.model.rotary_emb)(config=config)
    return network


def check_base(adapter: Adapter, name: str) -> None:
    """Raise WeightsError if the adapter was made for another model."""
    if adapter.base_id != base_id(name):
        raise WeightsError(
            f"this adapter was made for {adapter.base} ({adapter.base_id[:12]}), and {name} is {base_id(name)[:12]}: "
            "name that model, another adapter, or none (--adapter none)."
        )


def best_dtype(device: str, stored: torch.dtype | None) -> torch.dtype:
    """The type to compute in: bfloat16 on a GPU; on a CPU only if it multiplies bfloat16 and the weights are stored in
    16 bits, otherwise float32."""
    if not device.startswith("cpu"):
        return torch.bfloat16
    in_16_bits = stored is not None and stored.itemsize == 2
    return torch.bfloat16 if in_16_bits and cpu_multiplies_bfloat16() else torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for it; without them bfloat16 is slower than float32."""
    found: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _config(folder: Path, name: str) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder)
    except OSError as error:
        raise WeightsError(f"{name}: its config.json cannot be read: {error}. Fetch the model again.") from error
    except ValueError as error:
        raise UnsupportedModelError(f"{name}: transformers does not know this kind of model: {error}") from error


def _network(folder: Path, name: str, dtype: torch.dtype) -> PreTrainedModel:
    try:
        network, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=gqa.NAME, output_loading_info=True
        )
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{name}: its weights are incomplete or damaged: {error}. Fetch the model again.") from error
    missing = sorted(info["missing_keys"])
    if missing:  # transformers has made them up
        raise WeightsError(
            f"{name}: {len(missing)} tensors are missing, first {missing[0]}; the checkpoint is incomplete. Fetch the "
            "model again."
        )
    return network


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
    """Load the tokenizer of a model alone; a folder with `tokenizer.json` needs no weights.

    Raises
    ------
    WeightsError
        If there is none, or none that gives the offsets of its tokens.
    """
    try:
        alone = (Path(name) / "tokenizer.json").is_file()
        tokenizer = AutoTokenizer.from_pretrained(name if alone else local_path(name))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{name} has no tokenizer that can be read: {error}. Put the model's tokenizer.json and "
            "tokenizer_config.json beside its weights."
        ) from error
    if len(tokenizer) < FEWEST_TOKENS:  # without a file, some of transformers' classes make one up
        raise WeightsError(
            f"{name} has no tokenizer (a vocabulary of {len(tokenizer)}); put the model's tokenizer.json and "
            "tokenizer_config.json beside its weights."
        )
    if not tokenizer.is_fast:
        raise WeightsError(f"{name} has no fast tokenizer (tokenizer.json), which counting tokens by offset needs.")
    return tokenizer
