"""One block KV as one safetensors file: whole, checksummed, and of a known identity. Knows no folder and no budget.

The header's metadata carries what a reader (`blockrag.kv.reader`) must check before it believes the rest: format
version, identity (rule 6), form (exact, or in 8 bits) and CRC-32s, the first of the header's meaning and one of each
layer. A CRC finds what disks and crashes do; it is no defence against someone who can write here.
"""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save, save_file

from blockrag.kv.block_kv import BlockKV
from blockrag.kv.key import FORMAT_VERSION
from blockrag.kv.quantize import QuantizedKV, quantize

AtRest = Literal["exact", "int8"]
"""In what form block KV is kept in files; see `blockrag.kv.quantize`."""

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I8": torch.int8}
"""Types of a file's tensors, by the names that safetensors gives them."""

PARTS = {"exact": ("keys", "values"), "int8": ("keys", "values", "key_scales", "value_scales")}
"""A file's tensors, in the order in which they are summed up; the layers are the first dimension of each."""


def write_kv(path: Path, kv: BlockKV, identity: str, at_rest: AtRest = "exact") -> int:
    """Write `kv` to `path`, aside and renamed, so that a file under its name is always whole (rule 8).

    Parameters
    ----------
    path : Path
        In an existing folder.
    kv : BlockKV
        From any device.
    identity : str
        `KVIdentity.digest` of what made it.
    at_rest : "exact" or "int8"

    Returns
    -------
    int
        Its size in bytes. Another process may have removed it already.

    Raises
    ------
    OSError
        If the disk does not take it; nothing half is left.
    """
    tensors, metadata = _parts(kv, identity, at_rest)
    aside = path.with_suffix(f".{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        _save(tensors, aside, metadata)
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
            nbytes = os.fstat(file.fileno()).st_size
        os.replace(aside, path)
        _sync_folder(path.parent)
        return nbytes
    finally:
        aside.unlink(missing_ok=True)


def kv_to_bytes(kv: BlockKV, identity: str, at_rest: AtRest = "exact") -> bytes:
    """The bytes of such a file."""
    tensors, metadata = _parts(kv, identity, at_rest)
    return save(tensors, metadata)


def _parts(kv: BlockKV, identity: str, at_rest: AtRest) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    stored: BlockKV | QuantizedKV = quantize(kv) if at_rest == "int8" else kv
    tensors = {name: getattr(stored, name).cpu().contiguous() for name in PARTS[at_rest]}
    metadata = {
        "version": str(FORMAT_VERSION),
        "identity": identity,
        "form": at_rest,
        "dtype": str(kv.keys.dtype).removeprefix("torch."),
        "first_position": str(kv.first_position),
    }
    kinds = {tensor: name for name, tensor in DTYPES.items()}
    layout = {name: (kinds[tensor.dtype], list(tensor.shape)) for name, tensor in tensors.items()}
    layers = [layer_checksum([tensor[layer] for tensor in tensors.values()]) for layer in range(len(kv.keys))]
    return tensors, metadata | {"crc32": json.dumps([header_checksum(metadata, layout), *layers])}


def header_checksum(metadata: Mapping[str, str], layout: Mapping[str, tuple[str, Sequence[int]]]) -> int:
    """Checksum of all that says what the tensors mean, and of the type and shape of each by its name."""
    meaning = [metadata[name] for name in ("version", "identity", "form", "dtype", "first_position")]
    return zlib.crc32(json.dumps([meaning, [[name, *entry] for name, entry in layout.items()]]).encode())


def layer_checksum(tensors: Sequence[torch.Tensor]) -> int:
    """Checksum of one layer of each tensor of a file, in the order of `PARTS`."""
    crc = 0
    for tensor in tensors:
        crc = zlib.crc32(raw(tensor).numpy().data, crc)
    return crc


def raw(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a contiguous tensor, uint8 ``(nbytes,)``; no copy."""
    return tensor.view(-1).view(torch.uint8)


def _save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """A full disk is an `OSError`, as everywhere; safetensors has an error of its own for it."""
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _sync_folder(folder: Path) -> None:
    """Have the new name survive a crash of the machine, not of the process alone."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
