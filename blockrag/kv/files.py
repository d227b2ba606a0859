"""One block KV as one safetensors file: whole, checksummed, and of a known identity. Knows no folder and no budget.

The header's metadata carries what a reader must check before it believes the rest: format version, identity (rule 6),
form (exact, or in 8 bits) and a CRC-32 of everything. A CRC finds what disks and crashes do; it is no defence against
someone who can write here.

A file is read into memory of its own and never mapped: a mapped block would change with its file (rule 5), and a file
cut short under a mapping ends the process.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import save, save_file

from blockrag.errors import KVCorruptError, KVMismatchError
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.key import FORMAT_VERSION
from blockrag.kv.quantize import QuantizedKV, dequantize, quantize

AtRest = Literal["exact", "int8"]
"""In what form block KV is kept in files; see `blockrag.kv.quantize`."""

FORMS = get_args(AtRest)

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I8": torch.int8}
_PARTS = {"exact": ("keys", "values"), "int8": ("keys", "values", "key_scales", "value_scales")}


def write_kv(path: Path, kv: BlockKV, identity: str, at_rest: AtRest = "exact") -> None:
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
        os.replace(aside, path)
        _sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def kv_to_bytes(kv: BlockKV, identity: str, at_rest: AtRest = "exact") -> bytes:
    """The bytes of such a file."""
    tensors, metadata = _parts(kv, identity, at_rest)
    return save(tensors, metadata)


def _parts(kv: BlockKV, identity: str, at_rest: AtRest) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    stored: BlockKV | QuantizedKV = quantize(kv) if at_rest == "int8" else kv
    tensors = {name: getattr(stored, name).cpu().contiguous() for name in _PARTS[at_rest]}
    metadata = {
        "version": str(FORMAT_VERSION),
        "identity": identity,
        "form": at_rest,
        "dtype": str(kv.keys.dtype).removeprefix("torch."),
        "first_position": str(kv.first_position),
    }
    return tensors, metadata | {"crc32": str(_crc(tensors, metadata))}


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


def read_kv(path: Path, identity: str, at_rest: AtRest = "exact") -> BlockKV:
    """Read and verify a block KV.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    KVCorruptError
        If it is truncated, altered or of another format version.
    KVMismatchError
        If another model, adapter, format or dtype made it, or it is in 8 bits and `at_rest` does not allow that.
    """
    raw = torch.empty(path.stat().st_size, dtype=torch.uint8)
    with open(path, "rb", buffering=0) as file:
        n_read = file.readinto(raw.numpy().data)
    return kv_from_bytes(raw[:n_read], identity, at_rest, path.name)


def kv_from_bytes(raw: torch.Tensor, identity: str, at_rest: AtRest, name: str) -> BlockKV:
    """Verify the bytes of a file, uint8 ``(nbytes,)``, and give the block KV over them; see `read_kv`."""
    try:
        return _parse(raw, identity, at_rest)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise KVCorruptError(f"block KV file {name} is not whole: {error}") from error


def _parse(raw: torch.Tensor, identity: str, at_rest: AtRest) -> BlockKV:
    """Tensors over `raw` (no copy); the layout is that of safetensors: length, JSON header, data."""
    n_header = int.from_bytes(raw[:8].numpy().tobytes(), "little")
    header = json.loads(raw[8 : 8 + n_header].numpy().tobytes())
    data, metadata = raw[8 + n_header :], header["__metadata__"]
    if metadata["version"] != str(FORMAT_VERSION):
        raise ValueError(f"format version {metadata['version']}, expected {FORMAT_VERSION}")
    _check_identity(metadata, identity, at_rest)
    tensors = {name: _tensor(data, header[name]) for name in _PARTS[metadata["form"]]}
    crc = _crc(tensors, metadata)
    if str(crc) != metadata["crc32"]:
        raise ValueError(f"checksum {crc}, expected {metadata['crc32']}")
    first_position = int(metadata["first_position"])
    if metadata["form"] == "int8":
        return dequantize(QuantizedKV(**tensors, first_position=first_position), getattr(torch, metadata["dtype"]))
    return BlockKV(**tensors, first_position=first_position)


def _check_identity(metadata: dict[str, str], identity: str, at_rest: AtRest) -> None:
    if metadata["identity"] != identity:
        raise KVMismatchError(
            f"block KV was made as {metadata['identity'][:12]}, but {identity[:12]} was asked for: another model, "
            "adapter, prefix or dtype. It is not used; index the document again with the present model."
        )
    if metadata["form"] != "exact" and at_rest == "exact":
        raise KVMismatchError(
            f"block KV is kept as {metadata['form']}, but exact KV was asked for. It is not used; allow 8 bits at rest "
            "(--kv-at-rest int8), or let it be encoded anew."
        )


def _tensor(data: torch.Tensor, entry: dict[str, Any]) -> torch.Tensor:
    start, end = entry["data_offsets"]
    if not 0 <= start <= end <= len(data):
        raise ValueError(f"{len(data)} bytes of data, {end} expected")
    return data[start:end].view(_DTYPES[entry["dtype"]]).view(entry["shape"])


def _crc(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> int:
    """Checksum of the tensors, and of all that says what they mean."""
    meaning = [metadata[name] for name in ("version", "identity", "form", "dtype", "first_position")]
    shapes = [(name, str(tensor.dtype), list(tensor.shape)) for name, tensor in tensors.items()]
    crc = zlib.crc32(json.dumps([meaning, shapes]).encode())
    for tensor in tensors.values():
        crc = zlib.crc32(tensor.view(torch.uint8).view(-1).numpy().data, crc)
    return crc
