"""A run that stops and goes on: parameters, the optimiser's moments, the step. Knows files, no losses.

Which examples a step takes and which blocks it lifts follow from seed and step, so that nothing else need be kept.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def save(
    folder: Path, step: int, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Write `folder` aside, then in place of the one before it."""
    aside = folder.with_name(folder.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    tensors = {f"parameter.{name}": parameter.detach().cpu().contiguous() for name, parameter in parameters.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value.detach().cpu().contiguous() for key, value in state.items()}
    save_file(tensors, aside / "state.safetensors")
    (aside / "step.json").write_text(json.dumps({"step": step}))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)


def restore(folder: Path, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
    """Give parameters and optimiser what they had; returns the step."""
    tensors = load_file(folder / "state.safetensors")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"parameter.{name}"])
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        kind, number, key = (name.split(".", 2) + ["", ""])[:3]
        if kind == "optimizer":
            state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return json.loads((folder / "step.json").read_text())["step"]
