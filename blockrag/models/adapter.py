"""Adapters: low-rank changes of a base model for full and for block mode, and block sinks.

An adapter is a folder with ``adapter.safetensors`` and ``adapter.json``. Full mode runs the base with the teacher's
changes; block mode adds the student's changes and the sinks. Changes are those of LoRA (arXiv 2106.09685), the scale
multiplied into `up`.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from blockrag.attention.format import BlockFormat
from blockrag.errors import WeightsError
from blockrag.kv.quantize import to_int8

FORMAT = 1
"""Format of the folder. Raise it when the meaning of its content changes."""

TENSORS, ABOUT = "adapter.safetensors", "adapter.json"


class Change(NamedTuple):
    """A low-rank change of a weight ``(n_out, n_in)``: `up` ``(n_out, rank)`` times `down` ``(rank, n_in)``."""

    up: torch.Tensor
    down: torch.Tensor

    def added_to(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the changed weight, in the weight's type; computed in float32."""
        up, down = (t.to(weight.device, torch.float32) for t in self)
        return torch.addmm(weight.float(), up, down).to(weight.dtype)


Changes = Mapping[str, Change]
"""Changes by the name of the linear layer in the network."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """The changes that let a base model answer from blocks.

    Attributes
    ----------
    base, base_id : str
        Name of the model that it changes, and the hash of its weights; see `blockrag.models.store.base_id`.
    teacher, student : Changes
        The teacher's hold in both modes; the student's are added in block mode.
    sink_ids : tuple of int
        Literal sinks; empty if there are none or they are learned.
    sink_embeddings : torch.Tensor or None
        Learned sinks, ``(n_sinks, hidden_size)``.
    prefix_visible : bool
        Whether blocks attend to the prefix.
    about : dict
        Recipe, data and metrics.
    """

    base: str
    base_id: str
    teacher: Changes
    student: Changes = field(default_factory=dict)
    sink_ids: tuple[int, ...] = ()
    sink_embeddings: torch.Tensor | None = None
    prefix_visible: bool = False
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def full_format(self) -> BlockFormat:
        """Format of full mode: the teacher's changes alone."""
        return BlockFormat(adapter=_digest(self.teacher))

    @cached_property
    def block_format(self) -> BlockFormat:
        """Format of block mode; part of every KV key (rule 6)."""
        digest = _digest(self.teacher, self.student)
        return BlockFormat(self.sink_ids, self.sink_embeddings, self.prefix_visible, digest)


def save_adapter(adapter: Adapter, folder: Path, *, int8: bool = False) -> None:
    """Write the folder. Matrices are in bfloat16, or with `int8` in 8 bits with a scale for each of the rank."""
    tensors = {name: tensor.contiguous().cpu() for name, tensor in _named(adapter, int8)}
    if adapter.sink_embeddings is not None:
        tensors["sinks"] = adapter.sink_embeddings.float().contiguous().cpu()
    about = {
        "format": FORMAT,
        "base": adapter.base,
        "base_id": adapter.base_id,
        "sink_ids": adapter.sink_ids,
        "prefix_visible": adapter.prefix_visible,
        "about": adapter.about,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / f"{TENSORS}.new")
    os.replace(folder / f"{TENSORS}.new", folder / TENSORS)
    (folder / f"{ABOUT}.new").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    os.replace(folder / f"{ABOUT}.new", folder / ABOUT)


def load_adapter(folder: Path) -> Adapter:
    """Read a folder.

    Raises
    ------
    WeightsError
        If it is not an adapter, or was made for another release.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{folder} holds no adapter ({error}); give a folder with {ABOUT} and {TENSORS}.") from error
    if about.get("format") != FORMAT:
        raise WeightsError(f"{folder} holds an adapter of format {about.get('format')}; this release reads {FORMAT}.")
    return Adapter(
        base=about["base"],
        base_id=about["base_id"],
        teacher=_changes(tensors, "teacher."),
        student=_changes(tensors, "student."),
        sink_ids=tuple(about["sink_ids"]),
        sink_embeddings=tensors.get("sinks"),
        prefix_visible=about["prefix_visible"],
        about=about["about"],
    )


def apply_changes(network: torch.nn.Module, changes: Changes) -> None:
    """Give the network changed weights. The old tensors are not modified, since another network may share them.

    Raises
    ------
    WeightsError
        If a layer is missing or has another shape.
    """
    for name, change in changes.items():
        try:
            layer: Any = network.get_submodule(name)
        except AttributeError as error:
            raise WeightsError(
                f"the adapter changes {name}, which this network does not have; use it with the model it was made for."
            ) from error
        n_out, n_in = change.up.shape[0], change.down.shape[1]
        if layer.weight.shape != (n_out, n_in):
            raise WeightsError(f"the adapter expects {name} to be {(n_out, n_in)}; it is {tuple(layer.weight.shape)}.")
        layer.weight = torch.nn.Parameter(change.added_to(layer.weight.detach()), requires_grad=False)


def _named(adapter: Adapter, int8: bool) -> Iterator[tuple[str, torch.Tensor]]:
    for role, changes in (("teacher", adapter.teacher), ("student", adapter.student)):
        for name, change in changes.items():
            tensors = _in_8_bits(change) if int8 else {"up": change.up.bfloat16(), "down": change.down.bfloat16()}
            yield from ((f"{role}.{name}.{kind}", tensor) for kind, tensor in tensors.items())


def _in_8_bits(change: Change) -> dict[str, torch.Tensor]:
    """Both matrices in 8 bits, and for each of the rank the product of their scales."""
    (up, up_scales), (down, down_scales) = to_int8(change.up.float(), 0), to_int8(change.down.float(), 1)
    return {"up": up, "down": down, "scale": (up_scales * down_scales.T).flatten()}


def _changes(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, Change]:
    names = sorted(n.removesuffix(".up") for n in tensors if n.startswith(prefix) and n.endswith(".up"))
    return {name.removeprefix(prefix): _change(tensors, name) for name in names}


def _change(tensors: Mapping[str, torch.Tensor], name: str) -> Change:
    up, down, scale = tensors[f"{name}.up"], tensors[f"{name}.down"], tensors.get(f"{name}.scale")
    return Change(up, down) if scale is None else Change(up.float() * scale, down.float())


def _digest(*roles: Changes) -> str:
    """Hash of changes, 64 hexadecimal digits."""
    total = hashlib.sha256()
    for number, changes in enumerate(roles):
        for name, change in sorted(changes.items()):
            total.update(f"{number} {name}".encode())
            for tensor in change:
                total.update(tensor.float().contiguous().cpu().numpy().tobytes())
    return total.hexdigest()
