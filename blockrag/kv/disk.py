"""KV tier on disk: one file for each block. Survives restarts; several processes may share the folder."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from blockrag.errors import KVCorruptError, KVMismatchError, KVTierError
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.costs import Meter
from blockrag.kv.policy import EvictionPolicy
from blockrag.kv.reader import StoredFile
from blockrag.kv.streaming import StreamingKV
from blockrag.kv.tier import KVTier
from blockrag.kv.writer import AtRest, write_kv

HEADER_NBYTES = 1024
"""Upper bound of a file's header; counted against the budget before the size is known."""

STALE_AFTER_S = 600
"""A temporary file this old was left by a killed process; a younger one may belong to a running process."""


class DiskTier(KVTier):
    """Keeps files ``<first two digits of key>/<key>.safetensors`` in a folder.

    At the start, the files in the folder are entered, least recently used first (by modification time), and files that
    a killed process left half-written are removed. Writers of several processes exclude each other and see each other's
    files, so that the budget holds for all of them together.

    Parameters
    ----------
    folder : Path
        Made where it does not exist.
    budget_nbytes : int or None
        Most bytes of files to keep; None is no limit.
    identity : str
        `KVIdentity.digest` that files must have; see `StoredKV`.
    at_rest : "exact", "int8" or "int4"
        Form in which files are written. Files in a coarser form are not used.
    pin_memory : bool
        Read into page-locked memory, which a GPU copies at the full rate of the link.
    policy : EvictionPolicy, optional
        See `KVTier`.

    Raises
    ------
    KVTierError
        If the folder cannot be made or read.
    """

    name = "disk"
    meter: Meter

    def __init__(
        self,
        folder: Path,
        budget_nbytes: int | None,
        identity: str,
        *,
        at_rest: AtRest = "exact",
        pin_memory: bool = False,
        policy: EvictionPolicy | None = None,
    ):
        super().__init__(budget_nbytes, policy)
        self.meter = Meter()
        self.folder = folder
        self._identity, self._at_rest, self._pin_memory = identity, at_rest, pin_memory
        self._folder_times: dict[str, int] = {}
        with self._failures("open"):
            folder.mkdir(parents=True, exist_ok=True)
            self._rescan()
        with suppress(KVTierError), self._failures("clean up"), self._writing:  # a read-only disk can still be read
            self._clean_up()
            self._make_room(0)

    @property
    def _writing(self) -> FileLock:
        """One writer at a time; a new lock, since one that a fork inherits is refused."""
        return FileLock(self.folder / ".lock")

    def get(self, key: str) -> BlockKV | None:
        """Read from disk; see `KVTier`."""
        kv = self.open(key)
        return None if kv is None else kv.whole()

    def open(self, key: str) -> StreamingKV | None:
        """Open the file and check its header; see `KVTier`."""
        try:
            with self._reading(key):
                file = StoredFile(self._path(key), self._identity, key, self._at_rest, pin_memory=self._pin_memory)
        except FileNotFoundError:
            with self._lock:
                self._drop(key)
            return None
        with self._lock:
            self._keep(key, file.nbytes)

        kv, meter = file.stored.kv, self.meter

        def read(layers: slice) -> None:
            with self._reading(key), meter.running() as work:
                file.stored.read(layers)
                work.amount = kv.keys[layers].nbytes + kv.values[layers].nbytes

        return StreamingKV(kv.keys, kv.values, kv.first_position, read=read, close=file.close)

    def put(self, key: str, kv: BlockKV) -> bool:
        """Write a file, evicting others first until it fits; an existing file has this content already."""
        path = self._path(key)
        with self._lock, self._failures("write"):
            if (there := _stat(path)) is not None:
                self._keep(key, there.st_size)
                return True
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._writing:
                self._rescan()
                if not self._make_room(kv.nbytes + HEADER_NBYTES):
                    return False
                self._keep(key, write_kv(path, kv, self._identity, key, self._at_rest))
        return True

    def pin(self, key: str) -> None:
        """Nothing to do: a block that was read is a copy, and its file may be removed while it is used."""

    def unpin(self, key: str) -> None:
        """See `pin`."""

    def __contains__(self, key: str) -> bool:
        with self._failures("read"):
            return self._path(key).exists()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _remove(self, key: str) -> None:
        with self._failures("remove from"):
            self._path(key).unlink(missing_ok=True)

    def _clean_up(self) -> None:
        for aside in self.folder.glob("*/*.tmp"):
            if (there := _stat(aside)) is not None and time.time() - there.st_mtime > STALE_AFTER_S:
                aside.unlink(missing_ok=True)

    def _rescan(self) -> None:
        """Enter what other processes wrote and removed; unchanged folders are not read again."""
        found: dict[str, tuple[int, int]] = {}
        for folder in (path for path in self.folder.iterdir() if path.is_dir()):
            changed = folder.stat().st_mtime_ns
            if self._folder_times.get(folder.name) == changed:
                continue
            self._folder_times[folder.name] = changed
            stats = ((path.stem, _stat(path)) for path in folder.glob("*.safetensors"))
            here = {key: stat for key, stat in stats if stat is not None}
            for key in [key for key in self._sizes if key[:2] == folder.name and key not in here]:
                self._drop(key)
            found |= {key: (stat.st_mtime_ns, stat.st_size) for key, stat in here.items() if key not in self._sizes}
        for key, (_, size) in sorted(found.items(), key=lambda item: item[1]):
            self._keep(key, size)

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        """Remove a damaged or foreign file; turn other errors of the disk into `KVTierError`."""
        try:
            yield
        except (KVCorruptError, KVMismatchError):
            self.delete(key)
            raise
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _failed("read", error) from error

    @contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        """Turn errors of the disk (full, read-only, gone) into `KVTierError`."""
        try:
            yield
        except OSError as error:
            raise _failed(doing, error) from error


def _stat(path: Path) -> os.stat_result | None:
    """None if there is no such file: another process may remove it at any time."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _failed(doing: str, error: OSError) -> KVTierError:
    return KVTierError(f"disk tier: could not {doing} it ({error.strerror or error}); block KV is not kept there")
