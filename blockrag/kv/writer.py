"""Writes one block KV as one safetensors file, with its identity and checksums.

The header's metadata holds what a reader (`blockrag.kv.reader`) must check first: format version, identity (rule 6),
key, form (exact, or in 8 or 4 bits) and CRC-32s, one of the header, shapes included, and one of each layer. A CRC
detects damage by disks and crashes; it is no defence against someone who can write to the folder. For a shared store
there is a keyed hash, see `blockrag.kv.remote`.
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
from blockrag.kv.quantize import FourBitKV, QuantizedKV, quantize, quantize4

AtRest = Literal["exact", "int8", "int4"]
"""Form of block KV in files, the exact one first and the coarsest last; see `blockrag.kv.quantize`."""

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I8": torch.int8, "U8": torch.uint8}
"""Types of a file's tensors, by their names in safetensors."""

PARTS = {
    "exact": ("keys", "values"),
    "int8": ("keys", "values", "key_scales", "value_scales"),
    "int4": ("keys", "values", "key_scales", "key_mins", "value_scales", "value_mins"),
}
"""A file's tensors, in the order of the checksum; the first dimension of each is layers."""


def write_kv(path: Path, kv: BlockKV, identity: str, key: str, at_rest: AtRest = "exact") -> int:
    """Write `kv` to a temporary file and rename it to `path`, so that `path` is always complete (rule 8).

    Parameters
    ----------
    path : Path
        In an existing folder.
    kv : BlockKV
        On any device.
    identity : str
        `KVIdentity.digest` of its maker.
    key : str
        Of the block.
    at_rest : "exact", "int8" or "int4"

    Returns
    -------
    int
        Size of the file in bytes. Another process may have removed it already.

    Raises
    ------
    OSError
        If writing fails; no partial file is left.
    KVTierError
        See `quantize4`.
    """
    tensors, metadata = _parts(kv, identity, key, at_rest)
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


def kv_to_bytes(kv: BlockKV, identity: str, key: str, at_rest: AtRest = "exact") -> bytes:
    """The same file, as bytes."""
    tensors, metadata = _parts(kv, identity, key, at_rest)
    return save(tensors, metadata)


def _parts(kv: BlockKV, identity: str, key: str, at_rest: AtRest) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    stored: BlockKV | QuantizedKV | FourBitKV = kv
    if at_rest != "exact":
        stored = quantize(kv) if at_rest == "int8" else quantize4(kv)
    tensors = {name: getattr(stored, name).cpu().contiguous() for name in PARTS[at_rest]}
    metadata = {
        "version": str(FORMAT_VERSION),
        "identity": identity,
        "key": key,
        "form": at_rest,
        "dtype": str(kv.keys.dtype).removeprefix("torch."),
        "first_position": str(kv.first_position),
    }
    kinds = {tensor: name for name, tensor in DTYPES.items()}
    layout = {name: (kinds[tensor.dtype], list(tensor.shape)) for name, tensor in tensors.items()}
    layers = [layer_checksum([tensor[layer] for tensor in tensors.values()]) for layer in range(len(kv.keys))]
    return tensors, metadata | {"crc32": json.dumps([header_checksum(metadata, layout), *layers])}


def header_checksum(metadata: Mapping[str, str], layout: Mapping[str, tuple[str, Sequence[int]]]) -> int:
    """Checksum of the metadata, and of each tensor's name, type and shape."""
    meaning = [metadata[name] for name in ("version", "identity", "form", "dtype", "first_position")]
    meaning += [metadata["key"]] if "key" in metadata else []  # earlier files of this version have none
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
    """Raise `OSError` for a full disk; safetensors raises its own error."""
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
