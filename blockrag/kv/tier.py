"""The KV tier: the interface, and the accounting of sizes, pins and eviction that all tiers share."""

import threading
from abc import ABC, abstractmethod
from collections import Counter

from blockrag.kv.block_kv import BlockKV
from blockrag.kv.costs import Meter
from blockrag.kv.policy import LRU, EvictionPolicy


class KVTier(ABC):
    """Keeps block KVs within a budget of bytes.

    Safe to use from several threads. `put` may evict other block KVs, but none that is pinned, and never exceeds
    `budget_nbytes`; it returns False if there is no room. Nobody writes to what `get` returns (rule 5).

    Parameters
    ----------
    budget_nbytes : int or None
        Most bytes to keep; None is no limit.
    policy : EvictionPolicy, optional
        Which key is evicted first; by default the least recently used.

    Attributes
    ----------
    name : str
        As reports show it.
    is_local : bool
        Whether ``key in tier``, `keys` and `nbytes` are answered by this machine, without a network.
    n_evicted : int
        Block KVs evicted since the start.
    meter : Meter or None
        Seconds for a byte of block KV, in tiers where reading takes long; None in memory.
    """

    name: str
    is_local = True
    meter: Meter | None = None

    def __init__(self, budget_nbytes: int | None, policy: EvictionPolicy | None = None):
        self.budget_nbytes = budget_nbytes
        self._policy = policy or LRU()
        self._lock = threading.RLock()
        self._sizes: dict[str, int] = {}
        self._nbytes = 0
        self._pins: Counter[str] = Counter()
        self._doomed: set[str] = set()
        self.n_evicted = 0

    @abstractmethod
    def get(self, key: str) -> BlockKV | None:
        """The block KV, or None if it is not kept.

        Raises
        ------
        KVCorruptError, KVMismatchError
            If the stored block KV is not what was put. It is removed first, so that the next `get` returns None.
        KVTierError
            If the disk, store or network fails.
        """

    def open(self, key: str) -> BlockKV | None:
        """Like `get`, but may return a `StreamingKV`, whose layers are read once the caller calls `begin`.

        A damaged layer is found only when it is read; the stored block KV is removed then.
        """
        return self.get(key)

    @abstractmethod
    def put(self, key: str, kv: BlockKV) -> bool:
        """Keep `kv`. Returns whether it is kept.

        Raises
        ------
        KVTierError
            If the disk, store or network fails.
        """

    @abstractmethod
    def _remove(self, key: str) -> None:
        """Free the bytes of `key`, which may be gone already."""

    def set_budget(self, nbytes: int | None) -> None:
        """Change the budget, evicting the excess; pinned block KVs are evicted later."""
        with self._lock:
            self.budget_nbytes = nbytes
            self._make_room(0)

    def pin(self, key: str) -> None:
        """Do not evict `key` until it is unpinned as often. The key need not be kept yet."""
        with self._lock:
            self._pins[key] += 1

    def unpin(self, key: str) -> None:
        """Remove one pin; a block KV that was deleted meanwhile is freed with the last."""
        with self._lock:
            self._pins[key] -= 1
            if self._pins[key] <= 0:
                del self._pins[key]
                if key in self._doomed:
                    self._drop(key)

    def delete(self, key: str) -> None:
        """Delete `key`, if it is kept. While it is pinned its bytes stay and count."""
        with self._lock:
            if key in self._pins and key in self._sizes:
                self._doomed.add(key)
                self._policy.forget(key)
            else:
                self._drop(key)

    def __contains__(self, key: str) -> bool:
        return key in self._sizes and key not in self._doomed

    def keys(self) -> list[str]:
        """All keys, the next to be evicted first."""
        with self._lock:
            return list(self._policy)

    @property
    def nbytes(self) -> int:
        """Bytes kept now."""
        return self._nbytes

    def _make_room(self, nbytes: int) -> bool:
        """Evict until there is room for `nbytes` more; return False, evicting nothing, if that is impossible."""
        if self.budget_nbytes is None:
            return True
        held = sum(self._sizes.get(key, 0) for key in self._pins)
        if held + nbytes > self.budget_nbytes:
            return False
        while self._nbytes + nbytes > self.budget_nbytes:
            victim = self._policy.victim(spared=self._pins)
            if victim is None:
                return False
            self._drop(victim)
            self.n_evicted += 1
        return True

    def _keep(self, key: str, nbytes: int) -> None:
        self._nbytes += nbytes - self._sizes.get(key, 0)
        self._sizes[key] = nbytes
        self._doomed.discard(key)
        self._policy.touch(key)

    def _drop(self, key: str) -> None:
        self._remove(key)
        self._nbytes -= self._sizes.pop(key, 0)
        self._doomed.discard(key)
        self._policy.forget(key)
