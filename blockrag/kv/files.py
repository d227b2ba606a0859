"""One block KV as one safetensors file: whole, checksummed, and of a known identity. Knows no folder and no budget.

The header's metadata carries what a reader must check before it believes the rest: format version, identity (rule 6)
and a CRC-32 of the tensors. A CRC finds what disks and crashes do; it is no defence against someone who can write here.

A file is read into memory of its own and never mapped: a mapped block would change with its file (rule 5), and a file
cut short under a mapping ends the process.
"""

import json
import os
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from blockrag.errors import KVCorruptError, KVMismatchError
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.key import FORMAT_VERSION

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def write_kv(path: Path, kv: BlockKV, identity: str) -> None:
    """Write `kv` to `path`, aside and renamed, so that a file under its name is always whole (rule 8).

    Parameters
    ----------
    path : Path
        In an existing folder.
    kv : BlockKV
        From any device.
    identity : str
        `KVIdentity.digest` of what made it.

    Raises
    ------
    OSError
        If the disk does not take it; nothing half is left.
    """
    tensors = {"keys": kv.keys.cpu().contiguous(), "values": kv.values.cpu().contiguous()}
    crc = zlib.crc32(_as_bytes(tensors["values"]), zlib.crc32(_as_bytes(tensors["keys"])))
    metadata = {
        "version": str(FORMAT_VERSION),
        "identity": identity,
        "first_position": str(kv.first_position),
        "crc32": str(crc),
    }
    aside = path.with_suffix(f".{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        _save(tensors, aside, metadata)
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
        _sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


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


def read_kv(path: Path, identity: str) -> BlockKV:
    """Read and verify a block KV.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    KVCorruptError
        If it is truncated, altered or of another format version.
    KVMismatchError
        If another model, adapter, format or dtype made it.
    """
    raw = torch.empty(path.stat().st_size, dtype=torch.uint8)
    with open(path, "rb", buffering=0) as file:
        n_read = file.readinto(raw.numpy().data)
    try:
        return _parse(raw[:n_read], identity)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise KVCorruptError(f"block KV file {path.name} is not whole: {error}") from error


def _parse(raw: torch.Tensor, identity: str) -> BlockKV:
    """Tensors over `raw` (no copy); the layout is that of safetensors: length, JSON header, data."""
    n_header = int.from_bytes(raw[:8].numpy().tobytes(), "little")
    header = json.loads(raw[8 : 8 + n_header].numpy().tobytes())
    data, metadata = raw[8 + n_header :], header["__metadata__"]
    if metadata["version"] != str(FORMAT_VERSION):
        raise ValueError(f"format version {metadata['version']}, expected {FORMAT_VERSION}")
    if metadata["identity"] != identity:
        raise KVMismatchError(
            f"block KV was made as {metadata['identity'][:12]}, but {identity[:12]} was asked for: another model, "
            "adapter, prefix or dtype. It is not used; index the document again with the present model."
        )
    keys, values = (_tensor(data, header[name]) for name in ("keys", "values"))
    crc = zlib.crc32(_as_bytes(values), zlib.crc32(_as_bytes(keys)))
    if str(crc) != metadata["crc32"]:
        raise ValueError(f"checksum {crc}, expected {metadata['crc32']}")
    return BlockKV(keys, values, int(metadata["first_position"]))


def _tensor(data: torch.Tensor, entry: dict) -> torch.Tensor:
    start, end = entry["data_offsets"]
    if not 0 <= start <= end <= len(data):
        raise ValueError(f"{len(data)} bytes of data, {end} expected")
    return data[start:end].view(_DTYPES[entry["dtype"]]).view(entry["shape"])


def _as_bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.view(torch.uint8).view(-1).numpy().data
