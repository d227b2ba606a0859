"""KV tier in a store that a team shares: any that fsspec reaches (s3, gs, a path, ...).

Files are those of the disk tier, read and verified whole. Errors of the store or the network are errors of this tier
alone; the other tiers go on.
"""

import hmac
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec

from blockrag.errors import KVCorruptError, KVMismatchError, KVTierError
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.costs import Meter
from blockrag.kv.reader import kv_from_bytes
from blockrag.kv.tier import KVTier
from blockrag.kv.writer import AtRest, kv_to_bytes

SEAL_BYTES = 32
RETRY_S = 30.0
"""How long a store that could not be reached is left alone: one that hangs costs its time limit once, not once a
block."""


class RemoteTier(KVTier):
    """Keeps files ``<url>/<first two digits of key>/<key>.safetensors``, without a budget; evicts nothing.

    Parameters
    ----------
    url : str
        Such as ``s3://bucket/folder`` (package s3fs), ``gs://...`` (gcsfs), ``file:///mnt/team``.
    identity : str
        `KVIdentity.digest` that files must have.
    read_only : bool
        Only read from the store.
    at_rest : "exact", "int8" or "int4"
        See `DiskTier`.
    secret : bytes
        With one, files end with their HMAC-SHA256 under it, and others are not used: whoever can write to the store
        but does not know the secret cannot change what a model reads.

    Raises
    ------
    KVTierError
        If the url's protocol is not known here.
    """

    name = "remote"
    meter: Meter
    is_local = False

    def __init__(
        self, url: str, identity: str, *, read_only: bool = False, at_rest: AtRest = "exact", secret: bytes = b""
    ):
        super().__init__(None)
        self.meter = Meter()
        self._identity, self._read_only, self._at_rest, self._secret = identity, read_only, at_rest, secret
        self._failure, self._retry_at = "", 0.0
        with self._failures("reach"):
            self._store, self._root = fsspec.core.url_to_fs(url)

    def get(self, key: str) -> BlockKV | None:
        """Fetch and verify; see `KVTier`."""
        path = self._path(key)
        try:
            with self.meter.running() as work:
                with self._failures("read"):
                    try:
                        data = self._store.cat_file(path)
                    except FileNotFoundError:
                        return None
                kv = kv_from_bytes(self._opened(key, data), self._identity, key, self._at_rest)
                work.amount = kv.nbytes
                return kv
        except (KVCorruptError, KVMismatchError):
            self.delete(key)
            raise

    def put(self, key: str, kv: BlockKV) -> bool:
        """Write to a temporary name and move, unless the tier is read-only; an existing file has this content
        already."""
        path = self._path(key)
        with self._failures("write to"):
            if self._read_only:
                return self._store.exists(path)
            if not self._store.exists(path):
                aside = f"{path}.{uuid.uuid4().hex}.tmp"
                self._store.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                data = kv_to_bytes(kv, self._identity, key, self._at_rest)
                self._store.pipe_file(aside, data + self._seal(key, data))
                self._store.mv(aside, path)
        return True

    def delete(self, key: str) -> None:
        """Remove the file of `key`, unless the tier is read-only."""
        if not self._read_only:
            self._remove(key)

    def pin(self, key: str) -> None:
        """Nothing to do: a block that was fetched is a copy."""

    def unpin(self, key: str) -> None:
        """See `pin`."""

    def __contains__(self, key: str) -> bool:
        with self._failures("reach"):
            return self._store.exists(self._path(key))

    def keys(self) -> list[str]:
        """All keys in the store, in no order. Lists the store."""
        with self._failures("list"):
            found = self._store.glob(f"{self._root}/*/*.safetensors")
        return [path.rsplit("/", 1)[1].removesuffix(".safetensors") for path in found]

    @property
    def nbytes(self) -> int:
        """Bytes of all files in the store. Lists the store."""
        with self._failures("list"):
            return sum(info["size"] for info in self._store.glob(f"{self._root}/*/*", detail=True).values())

    def _seal(self, key: str, data: bytes) -> bytes:
        return hmac.digest(self._secret, key.encode() + data, "sha256") if self._secret else b""

    def _opened(self, key: str, file: bytes) -> bytes:
        """A file's data. Raises KVCorruptError if its seal is wrong."""
        if not self._secret:
            return file
        data, seal = file[:-SEAL_BYTES], file[-SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(key, data)):
            raise KVCorruptError(f"block KV file {key} is not sealed with this store's secret")
        return data

    def _path(self, key: str) -> str:
        return f"{self._root}/{key[:2]}/{key}.safetensors"

    def _remove(self, key: str) -> None:
        with self._failures("remove from"):
            if self._store.exists(self._path(key)):
                self._store.rm_file(self._path(key))

    @contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        """Each store raises the errors of a library of its own; here they all become `KVTierError`. Afterwards the
        store is left alone for `RETRY_S`, unless it answered that something is not allowed."""
        if time.monotonic() < self._retry_at:
            raise KVTierError(self._failure)
        try:
            yield
        except Exception as error:
            self._failure = f"remote tier: could not {doing} it ({type(error).__name__}: {error})"
            if not isinstance(error, PermissionError):
                self._retry_at = time.monotonic() + RETRY_S
            raise KVTierError(self._failure) from error
