"""Reads block KV files: first the header, then layer by layer, each checked before use.

Layers are read into memory and never mapped: a mapped block would change with its file (rule 5), and truncating a
mapped file ends the process.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, get_args

import torch

from blockrag.errors import KVCorruptError, KVMismatchError
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.key import FORMAT_VERSION
from blockrag.kv.quantize import FourBitKV, QuantizedKV, dequantize, dequantize4
from blockrag.kv.writer import DTYPES, PARTS, AtRest, header_checksum, layer_checksum, raw

Fill = Callable[[torch.Tensor, int], int]
"""(uint8 tensor, offset in the file) -> number of bytes read into the tensor."""


class StoredKV:
    """A file whose header is checked, and memory for its block KV.

    Parameters
    ----------
    fill : callable
        See `Fill`.
    nbytes : int
        Size of the file.
    identity : str
        `KVIdentity.digest` that it must have.
    key : str
        Of the block that it must hold.
    at_rest : "exact", "int8" or "int4"
        A file in a coarser form is refused.
    pin_memory : bool
        Use page-locked memory, which a GPU copies at the full rate of the link.

    Attributes
    ----------
    kv : BlockKV
        Layers that are not read yet are uninitialised.

    Raises
    ------
    KVCorruptError
        If it is truncated, altered, another block's or of another format version.
    KVMismatchError
        If another model, adapter, format or dtype made it, or it is in a coarser form than `at_rest`.
    """

    def __init__(self, fill: Fill, nbytes: int, identity: str, key: str, at_rest: AtRest, *, pin_memory: bool = False):
        self._fill, self._name = fill, key
        with self._damage():
            self._header, self._start = self._read_header(nbytes)
            metadata = self._header["__metadata__"]
            if metadata["version"] != str(FORMAT_VERSION):
                raise ValueError(f"format version {metadata['version']}, expected {FORMAT_VERSION}")
            _check_identity(metadata, identity, at_rest)
            self._form, self._dtype = metadata["form"], getattr(torch, metadata["dtype"])
            self._checksums = _checksums(self._header, nbytes - self._start)
            if metadata.get("key", key) != key:
                raise ValueError(f"it holds the block {metadata['key'][:16]}")
            keys, values = (
                torch.empty(self._shape(name), dtype=self._dtype, pin_memory=pin_memory) for name in ("keys", "values")
            )
            self.kv = BlockKV(keys, values, int(metadata["first_position"]))

    def read(self, layers: slice) -> None:
        """Read layers into `kv`, and check them.

        Raises
        ------
        KVCorruptError
            If they are not what was written.
        OSError
            If the disk fails.
        """
        with self._damage():
            tensors = {name: self._into(name, layers) for name in PARTS[self._form]}
            for i, layer in enumerate(range(len(self._checksums))[layers]):
                found = layer_checksum([tensor[i] for tensor in tensors.values()])
                if found != self._checksums[layer]:
                    raise ValueError(f"checksum {found} of layer {layer}, expected {self._checksums[layer]}")
        if self._form != "exact":
            kv = _restored(self._form, tensors, self._dtype)
            self.kv.keys[layers], self.kv.values[layers] = kv.keys, kv.values

    def _shape(self, name: str) -> list[int]:
        """Shape of keys or values in memory; in 4 bits, a byte of the file holds two components."""
        *rest, size = self._header[name]["shape"]
        return [*rest, 2 * size if self._form == "int4" else size]

    def _into(self, name: str, layers: slice) -> torch.Tensor:
        """Read some layers of one of the file's tensors: exact ones into `kv`, others into other memory."""
        entry = self._header[name]
        n_layers, *rest = entry["shape"]
        first, last, _ = layers.indices(n_layers)
        if self._form == "exact":
            tensor = getattr(self.kv, name)[layers]
        else:
            tensor = torch.empty(last - first, *rest, dtype=DTYPES[entry["dtype"]])
        if last > first:
            self._read_into(raw(tensor), self._start + entry["data_offsets"][0] + first * tensor[0].nbytes)
        return tensor

    def _read_header(self, nbytes: int) -> tuple[dict[str, Any], int]:
        """The JSON header of a safetensors file (length, JSON header, data), and the offset of the data."""
        n_header = int.from_bytes(self._bytes(8, 0), "little")
        if not 0 < n_header <= nbytes - 8:
            raise ValueError(f"a header of {n_header} bytes in a file of {nbytes}")
        return json.loads(self._bytes(n_header, 8)), 8 + n_header

    def _bytes(self, n: int, offset: int) -> bytes:
        room = torch.empty(n, dtype=torch.uint8)
        self._read_into(room, offset)
        return room.numpy().tobytes()

    def _read_into(self, room: torch.Tensor, offset: int) -> None:
        done = 0
        while done < len(room):
            n = self._fill(room[done:], offset + done)
            if n == 0:
                raise ValueError(f"it ends at byte {offset + done}, {offset + len(room)} expected")
            done += n

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
            raise KVCorruptError(f"block KV file {self._name} is not whole: {error}") from error


class StoredFile:
    """An open file on disk; see `StoredKV`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If the disk fails.
    """

    def __init__(self, path: Path, identity: str, key: str, at_rest: AtRest = "exact", *, pin_memory: bool = False):
        self._file = open(path, "rb", buffering=0)
        fill = partial(_read_at, self._file)  # not a method: a reference cycle would keep the memory
        try:
            self.nbytes = os.fstat(self._file.fileno()).st_size
            self.stored = StoredKV(fill, self.nbytes, identity, key, at_rest, pin_memory=pin_memory)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _read_at(file: FileIO, room: torch.Tensor, offset: int) -> int:
    return os.preadv(file.fileno(), [room.numpy().data], offset)


def kv_from_bytes(data: bytes, identity: str, key: str, at_rest: AtRest) -> BlockKV:
    """The block KV of such a file, given as bytes; see `StoredKV`."""
    whole = memoryview(data)

    def fill(room: torch.Tensor, offset: int) -> int:
        piece = whole[offset : offset + len(room)]
        room.numpy().data[: len(piece)] = piece
        return len(piece)

    stored = StoredKV(fill, len(data), identity, key, at_rest)
    stored.read(slice(None))
    return stored.kv


def _restored(form: str, tensors: dict[str, Any], dtype: torch.dtype) -> BlockKV:
    return dequantize(QuantizedKV(**tensors), dtype) if form == "int8" else dequantize4(FourBitKV(**tensors), dtype)


def _check_identity(metadata: dict[str, str], identity: str, at_rest: AtRest) -> None:
    if metadata["identity"] != identity:
        raise KVMismatchError(
            f"block KV was made as {metadata['identity'][:12]}, but {identity[:12]} was asked for: another model, "
            "adapter, prefix or dtype. It is not used; index the document again with the present model."
        )
    forms = get_args(AtRest)
    if forms.index(metadata["form"]) > forms.index(at_rest):
        raise KVMismatchError(
            f"block KV is kept as {metadata['form']}, but {at_rest} KV was asked for. It is not used; allow its form "
            f"(--kv-at-rest {metadata['form']}), or let it be encoded anew."
        )


def _checksums(header: dict[str, Any], n_data: int) -> list[int]:
    """Checksums of the layers. Raises ValueError if the header or the size of the file is not what was written."""
    metadata = header["__metadata__"]
    entries = {name: header[name] for name in PARTS[metadata["form"]]}
    expected, *layers = json.loads(metadata["crc32"])
    found = header_checksum(metadata, {name: (entry["dtype"], entry["shape"]) for name, entry in entries.items()})
    if found != expected:
        raise ValueError(f"checksum {found} of the header, expected {expected}")
    for name, entry in entries.items():
        start, end = entry["data_offsets"]
        size = torch.Size(entry["shape"]).numel() * DTYPES[entry["dtype"]].itemsize
        if not (0 <= start and end == start + size and end <= n_data):
            raise ValueError(f"{n_data} bytes of data; {name} is to end at {end} and to have {size}")
    if {entry["shape"][0] for entry in entries.values()} != {len(layers)}:
        raise ValueError(f"checksums of {len(layers)} layers, and as many layers expected")
    return layers
