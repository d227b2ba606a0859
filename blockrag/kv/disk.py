"""KV tier on disk: one file a block under its key. Survives restarts; several processes may share the folder."""

import threading
import time
from pathlib import Path

from blockrag.errors import KVCorruptError, KVMismatchError
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.files import read_kv, write_kv
from blockrag.kv.tier import LRU, KVTier

HEADER_NBYTES = 1024
"""More than the header of any file; counted against the budget before the size is known."""

STALE_AFTER_S = 600
"""A file still aside after this long was left by a killed process; a younger one may be another process's work."""


class DiskTier(KVTier):
    """Keeps files ``<first two digits of key>/<key>.safetensors`` in a folder.

    What is in the folder is taken up again at the start, oldest use first (by modification time); files that a killed
    process left half-written are removed.

    Parameters
    ----------
    folder : Path
        Made where it does not exist.
    budget_nbytes : int
        Most bytes of files to keep.
    identity : str
        `KVIdentity.digest` that files must have; see `read_kv`.
    """

    name = "disk"

    def __init__(self, folder: Path, budget_nbytes: int, identity: str):
        self.budget_nbytes = budget_nbytes
        self._folder = folder
        self._identity = identity
        self._sizes: dict[str, int] = {}
        self._policy = LRU()
        self._lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        self._take_up()

    def _take_up(self) -> None:
        for aside in self._folder.glob("*/*.tmp"):
            if time.time() - aside.stat().st_mtime > STALE_AFTER_S:
                aside.unlink(missing_ok=True)
        stats = [(path, path.stat()) for path in self._folder.glob("*/*.safetensors")]
        for path, stat in sorted(stats, key=lambda item: item[1].st_mtime_ns):
            self._sizes[path.stem] = stat.st_size
            self._policy.touch(path.stem)
        self._evict(0)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> BlockKV | None:
        """Read from disk; see `KVTier`."""
        try:
            kv = read_kv(self._path(key), self._identity)
        except FileNotFoundError:
            self._forget(key)
            return None
        except (KVCorruptError, KVMismatchError):
            self.delete(key)
            raise
        with self._lock:
            self._sizes.setdefault(key, self._path(key).stat().st_size)
            self._policy.touch(key)
        return kv

    def put(self, key: str, kv: BlockKV) -> bool:
        """Write a file, evicting others first until it fits; a key that is kept already has this content."""
        path = self._path(key)
        with self._lock:
            if not path.exists():
                if not self._evict(kv.nbytes + HEADER_NBYTES):
                    return False
                path.parent.mkdir(parents=True, exist_ok=True)
                write_kv(path, kv, self._identity)
            self._sizes[key] = path.stat().st_size
            self._policy.touch(key)
        return True

    def _evict(self, n_wanted: int) -> bool:
        """Make room for `n_wanted` bytes; False where the budget is too small for them alone."""
        if n_wanted > self.budget_nbytes:
            return False
        while self.nbytes + n_wanted > self.budget_nbytes:
            self.delete(self._policy.victim())
        return True

    def delete(self, key: str) -> None:
        """Remove the file of `key`."""
        with self._lock:
            self._path(key).unlink(missing_ok=True)
            self._forget(key)

    def _forget(self, key: str) -> None:
        with self._lock:
            self._sizes.pop(key, None)
            self._policy.forget(key)

    def __contains__(self, key: str) -> bool:
        return self._path(key).exists()

    def keys(self) -> list[str]:
        """Least recently used first."""
        with self._lock:
            return self._policy.keys()

    @property
    def nbytes(self) -> int:
        """Bytes of files kept."""
        return sum(self._sizes.values())
