"""Several tiers as one, fast ones before slow ones."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blockrag.errors import KVCorruptError, KVMismatchError, KVTierError
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.memory import MemoryTier
from blockrag.kv.tier import KVTier

_LOG = logging.getLogger(__name__)

LOG_AGAIN_S = 60.0
"""A tier that fails for every block is logged once in so long."""


@dataclass(frozen=True)
class Hit:
    """A block KV, and the name of the tier that had it."""

    kv: BlockKV
    tier: str


class TieredKV:
    """Reads from the first tier that has a key; writes to all (write-through).

    If one tier fails, the others serve; the reason is added to `notes`, for the report of the answer, or logged if
    there are no `notes`.

    Parameters
    ----------
    tiers : list of KVTier
        Fastest first.

    Attributes
    ----------
    hits : Counter
        Block KVs found since the start, by tier; `n_misses` were found in none. Counted without a lock, for display.
    """

    def __init__(self, tiers: list[KVTier]):
        self.tiers = tiers
        self.hits: Counter[str] = Counter()
        self.n_misses = 0
        self._logged: dict[str, float] = {}

    @property
    def local_tiers(self) -> list[KVTier]:
        """Tiers whose contents can be listed without a network."""
        return [tier for tier in self.tiers if tier.is_local]

    @contextmanager
    def lease(self) -> Iterator["Lease"]:
        """A context in which the block KVs that an answer got or put are not evicted. At its end, those from slow tiers
        are copied to the faster ones."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            lease.close()

    def get(self, key: str, notes: list[str] | None = None) -> Hit | None:
        """The block KV and its tier, or None. A damaged or foreign block counts as missing; its tier has removed it."""
        return self._find(lambda tier, key: tier.get(key), key, notes)

    def open(self, key: str, notes: list[str] | None = None) -> Hit | None:
        """Like `get`, but layers may still have to be read; see `KVTier.open`."""
        return self._find(lambda tier, key: tier.open(key), key, notes)

    def _find(self, ask: Callable[[KVTier, str], BlockKV | None], key: str, notes: list[str] | None) -> Hit | None:
        for tier in self.tiers:
            try:
                kv = ask(tier, key)
            except (KVCorruptError, KVMismatchError, KVTierError) as error:
                self._note(notes, error)
                continue
            if kv is not None:
                self.hits[tier.name] += 1
                return Hit(kv, tier.name)
        self.n_misses += 1
        return None

    def put(self, key: str, kv: BlockKV, notes: list[str] | None = None) -> None:
        """Keep `kv` in every tier that has room for it."""
        for tier in self.tiers:
            self._put(tier, key, kv, notes)

    def promote(self, key: str, kv: BlockKV, found_in: str) -> None:
        """Keep `kv` in the memory tiers of its device that are faster than the one where it was found."""
        for tier in self.tiers:
            if tier.name == found_in:
                return
            if isinstance(tier, MemoryTier) and tier.device == kv.keys.device:
                self._put(tier, key, kv, None)

    def delete(self, key: str) -> None:
        """Delete `key` from every tier. A tier that fails may keep it, unused, until it is evicted."""
        for tier in self.tiers:
            try:
                tier.delete(key)
            except KVTierError as error:
                self._note(None, error)

    def __contains__(self, key: str) -> bool:
        return any(self._has(tier, key) for tier in self.tiers)

    def place(self, key: str) -> KVTier | None:
        """The tier that will be read for `key`: the first local one that has it, else the first that is not local and
        may have it; None if there is none."""
        return next((tier for tier in self.tiers if not tier.is_local or self._has(tier, key)), None)

    def local_tiers_with(self, key: str) -> list[KVTier]:
        """The local tiers that have `key`, fastest first."""
        return [tier for tier in self.local_tiers if self._has(tier, key)]

    def _has(self, tier: KVTier, key: str) -> bool:
        try:
            return key in tier
        except KVTierError as error:
            self._note(None, error)
            return False

    def _put(self, tier: KVTier, key: str, kv: BlockKV, notes: list[str] | None) -> None:
        try:
            tier.put(key, kv)
        except KVTierError as error:
            self._note(notes, error)

    def _note(self, notes: list[str] | None, error: Exception) -> None:
        if notes is not None:
            add_note(notes, error)
            return
        now, said = time.monotonic(), str(error)
        if now - self._logged.get(said, -LOG_AGAIN_S) >= LOG_AGAIN_S:
            self._logged = {text: at for text, at in self._logged.items() if now - at < LOG_AGAIN_S} | {said: now}
            _LOG.warning("%s", said)


class Lease:
    """The block KVs that one answer uses. Safe to use from several threads."""

    def __init__(self, kv: TieredKV):
        self._kv = kv
        self._pinned: list[str] = []
        self._found: dict[str, list[Hit]] = {}

    def get(self, key: str, notes: list[str] | None = None) -> Hit | None:
        """See `TieredKV.get`; pins the key."""
        return self._found_by(self._kv.get, key, notes)

    def open(self, key: str, notes: list[str] | None = None) -> Hit | None:
        """See `TieredKV.open`; pins the key. Reads that are pending when the lease ends are cancelled."""
        return self._found_by(self._kv.open, key, notes)

    def _found_by(
        self, find: Callable[[str, list[str] | None], Hit | None], key: str, notes: list[str] | None
    ) -> Hit | None:
        self._pin(key)
        hit = find(key, notes)
        if hit is not None:
            self._found.setdefault(key, []).append(hit)
        return hit

    def place(self, key: str) -> KVTier | None:
        """See `TieredKV.place`."""
        return self._kv.place(key)

    def put(self, key: str, kv: BlockKV, notes: list[str] | None = None) -> None:
        """See `TieredKV.put`; pins the key."""
        self._pin(key)
        self._kv.put(key, kv, notes)

    def renew(self, key: str, kv: BlockKV, tier: str) -> None:
        """Keep `kv`, which is kept in `tier` already, in the faster tiers of its device; pins the key."""
        self._pin(key)
        self._kv.promote(key, kv, tier)

    def moved(self, key: str, kv: BlockKV) -> None:
        """Tell that `kv` is a complete copy of a found block on another device, which that device's tiers may keep."""
        hits = self._found.get(key, [])
        if hits and hits[0].kv is not kv:
            hits.append(Hit(kv, hits[0].tier))

    def close(self) -> None:
        """Unpin everything; copy block KVs from slow tiers to the faster ones."""
        for key, hits in self._found.items():
            whole = [hit.kv.settle() for hit in hits]
            for hit in hits if all(whole) else ():
                self._kv.promote(key, hit.kv, hit.tier)
        for key in self._pinned:
            for tier in self._kv.tiers:
                tier.unpin(key)
        self._pinned.clear()
        self._found.clear()

    def _pin(self, key: str) -> None:
        for tier in self._kv.tiers:
            tier.pin(key)
        self._pinned.append(key)


def add_note(notes: list[str], error: Exception) -> None:
    """Add a reason to the report, each once: a full disk fails for every block."""
    if str(error) not in notes:
        notes.append(str(error))
