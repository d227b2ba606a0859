"""Adapters in the format of PEFT (https://huggingface.co/docs/peft), which other tools read, such as vLLM."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from blockrag.attention.format import write_format
from blockrag.errors import WeightsError
from blockrag.models.adapter import Adapter, Change, Changes

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"

MODES = ("block", "full")

_PREFIX = "base_model.model."
_UNSUPPORTED = {"use_dora": False, "fan_in_fan_out": False, "bias": "none", "modules_to_save": None}
"""Settings that change more than the product of two matrices, with the values that change nothing."""


def export_peft(adapter: Adapter, folder: Path, mode: str = "block") -> None:
    """Write the changes of one mode as a LoRA adapter, in float32.

    Block mode holds the teacher's and the student's changes, full mode the teacher's alone. PEFT knows no sinks and no
    attention masks; for block mode a file beside the adapter describes them (see `write_format`), for an engine that
    can give blocks their literal sinks and the view of the prefix.

    Parameters
    ----------
    adapter : Adapter
    folder : Path
        Created if it is absent.
    mode : str
        ``block`` or ``full``.

    Raises
    ------
    ValueError
        If there is no such mode.
    WeightsError
        If the mode changes nothing, or has learned sinks, which the format cannot hold.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; choose: {', '.join(MODES)}.")
    if mode == "block" and adapter.sink_embeddings is not None:
        raise WeightsError("the adapter has learned sinks, which PEFT's format cannot hold.")
    roles = [adapter.teacher, adapter.student] if mode == "block" else [adapter.teacher]
    changes = {name: _stacked([role[name] for role in roles if name in role]) for role in roles for name in role}
    if not changes:
        raise WeightsError(f"the adapter changes nothing in {mode} mode: it is the model as published.")
    ranks = {name: len(change.down) for name, change in changes.items()}
    rank = max(ranks.values())
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": {name: each for name, each in ranks.items() if each != rank},
        "alpha_pattern": {name: each for name, each in ranks.items() if each != rank},
        "target_modules": sorted(changes),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    tensors = {}
    for name, change in changes.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = change.down.float().contiguous()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = change.up.float().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / TENSORS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    if mode == "block":
        block_format = adapter.block_format
        write_format(folder, block_format.sink_ids, block_format.prefix_visible, block_format.digest)


def import_peft(folder: Path) -> Changes:
    """Read the changes of a LoRA adapter, for `Adapter.teacher` or `Adapter.student`.

    Raises
    ------
    WeightsError
        If the folder holds no LoRA adapter, or one whose change is more than a product of two matrices.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{folder} holds no PEFT adapter ({error}); expected {CONFIG} and {TENSORS}.") from error
    if config.get("peft_type") != "LORA":
        raise WeightsError(f"{folder} holds an adapter of type {config.get('peft_type')}; only LORA can be read.")
    for name, harmless in _UNSUPPORTED.items():
        if config.get(name) not in (harmless, None, []):
            raise WeightsError(f"{folder} has {name}={config[name]!r}, which cannot be read.")
    names = sorted(name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight"))
    left = tensors.keys() - {f"{name}.lora_{side}.weight" for name in names for side in "AB"}
    if left or not names:
        raise WeightsError(f"{folder} has tensors that are no matrices of linear layers: {sorted(left)[:3]}.")
    changes = {}
    for name in names:
        layer, down = name.removeprefix(_PREFIX), tensors[f"{name}.lora_A.weight"].float()
        changes[layer] = Change(tensors[f"{name}.lora_B.weight"].float() * _scale(config, layer, len(down)), down)
    return changes


def _scale(config: dict[str, Any], layer: str, rank: int) -> float:
    """alpha / rank, or alpha / sqrt(rank) with `use_rslora`; a pattern names the end of a layer's name."""
    patterns = config.get("alpha_pattern") or {}
    found = [alpha for name, alpha in patterns.items() if layer == name or layer.endswith(f".{name}")]
    alpha = found[0] if found else config["lora_alpha"]
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _stacked(changes: list[Change]) -> Change:
    """One change that is the sum of several."""
    ups, downs = zip(*((change.up.float(), change.down.float()) for change in changes), strict=True)
    return balanced(Change(torch.cat(ups, 1), torch.cat(downs, 0)))


def balanced(change: Change) -> Change:
    """The same product, with rows of `down` of norm 1."""
    norms = change.down.float().norm(dim=1).clamp_min(1e-12)
    return Change(change.up.float() * norms, change.down.float() / norms[:, None])
