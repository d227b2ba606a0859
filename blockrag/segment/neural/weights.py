"""Saves and loads a segmenter: a folder with its configuration, tokenizer and weights in 8 bits."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from blockrag.errors import WeightsError
from blockrag.kv.quantize import to_int8
from blockrag.segment.neural.network import NetworkConfig, SegmenterNetwork

SHIPPED = Path(__file__).parent / "shipped"
"""The segmenter that comes with the library."""

_CONFIG, _WEIGHTS, _TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
_SCALE = ".scale"


@dataclass(frozen=True)
class Scale:
    """How three probabilities become one score.

    Attributes
    ----------
    shares : tuple[float, float, float]
        Weights of the probabilities of being a boundary of level 1, at most 2, at most 3; they sum to 1.
    raw, scores : tuple[float, ...]
        Increasing: the weighted sum `raw[i]` maps to the score `scores[i]`, linearly in between.
    """

    shares: tuple[float, ...] = (0.3, 0.6, 0.1)
    raw: tuple[float, ...] = (0.0, 1.0)
    scores: tuple[float, ...] = (0.0, 1.0)

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """``(candidates, 3)`` to float32 ``(candidates,)``."""
        return np.interp(probabilities @ np.array(self.shares), self.raw, self.scores).astype(np.float32)


def save(folder: Path, network: SegmenterNetwork, tokenizer: Tokenizer, scale: Scale) -> None:
    """Write a folder for `load`; matrices are stored in 8 bits, with one scale a row."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in network.state_dict().items():
        if tensor.ndim == 2:
            tensors[name], scales = to_int8(tensor.float().cpu(), 1)
            tensors[name + _SCALE] = scales[:, 0]
        else:
            tensors[name] = tensor.float().cpu().contiguous()
    save_file(tensors, folder / _WEIGHTS)
    config = {"network": asdict(network.config), "scale": asdict(scale)}
    (folder / _CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    tokenizer.save(str(folder / _TOKENIZER), pretty=False)


def save_scale(folder: Path, scale: Scale) -> None:
    """Replace the scale in a folder that `save` wrote."""
    path = folder / _CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scale": asdict(scale)}, indent=1) + "\n")


def load(folder: Path) -> tuple[SegmenterNetwork, Tokenizer, Scale]:
    """The network in float32 on the CPU, in eval mode; its tokenizer, and its scale.

    Raises
    ------
    WeightsError
        If a file is missing or does not fit the others.
    """
    try:
        config = json.loads((folder / _CONFIG).read_text())
        network = SegmenterNetwork(NetworkConfig(**config["network"]))
        tensors = load_file(folder / _WEIGHTS)
        scale = Scale(**{name: tuple(values) for name, values in config["scale"].items()})
        network.load_state_dict({n: _restored(n, tensors) for n in tensors if not n.endswith(_SCALE)}, assign=True)
        return network.eval(), Tokenizer.from_file(str(folder / _TOKENIZER)), scale
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{folder} holds no readable segmenter: {error}") from error


def _restored(name: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    scale = tensors.get(name + _SCALE)
    return tensors[name] if scale is None else tensors[name].float() * scale[:, None]
