"""KV tier in memory: block KVs as they are, on the device or in host memory. Forgets all when the process ends."""

import threading

import torch

from blockrag.kv.block_kv import BlockKV
from blockrag.kv.tier import LRU, KVTier


class MemoryTier(KVTier):
    """Keeps tensors on one device.

    Parameters
    ----------
    budget_nbytes : int
        Most bytes of block KV to keep.
    device : torch.device or str
        Where they are kept; what comes from elsewhere is copied there.
    name : str
        As reports show it.
    """

    def __init__(self, budget_nbytes: int, device: torch.device | str = "cpu", name: str = "memory"):
        self.name = name
        self.budget_nbytes = budget_nbytes
        self._device = torch.device(device)
        self._kept: dict[str, BlockKV] = {}
        self._nbytes = 0
        self._policy = LRU()
        self._lock = threading.RLock()

    def get(self, key: str) -> BlockKV | None:
        """The block KV itself, not a copy; see `KVTier`."""
        with self._lock:
            if key in self._kept:
                self._policy.touch(key)
            return self._kept.get(key)

    def put(self, key: str, kv: BlockKV) -> bool:
        """Keep `kv`, evicting others until it fits."""
        if kv.nbytes > self.budget_nbytes:
            return False
        kv = BlockKV(kv.keys.to(self._device), kv.values.to(self._device), kv.first_position)
        with self._lock:
            self.delete(key)
            while self._nbytes + kv.nbytes > self.budget_nbytes:
                self.delete(self._policy.victim())
            self._kept[key] = kv
            self._nbytes += kv.nbytes
            self._policy.touch(key)
        return True

    def delete(self, key: str) -> None:
        """Forget `key`."""
        with self._lock:
            kv = self._kept.pop(key, None)
            self._nbytes -= kv.nbytes if kv else 0
            self._policy.forget(key)

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def keys(self) -> list[str]:
        """Least recently used first."""
        with self._lock:
            return self._policy.keys()

    @property
    def nbytes(self) -> int:
        """Bytes of block KV kept."""
        return self._nbytes
