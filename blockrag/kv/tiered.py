"""Several tiers as one: fast ones before slow ones. Knows neither media nor models."""

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
    """A block KV that was found, and the name of the tier that had it."""

    kv: BlockKV
    tier: str


class TieredKV:
    """Reads from the first tier that has a key; writes to all (write-through).

    A failure of one tier is no failure of the whole: the reason is added to `notes`, for the report of the answer, or
    logged where there are no `notes`, and the other tiers serve.

    Parameters
    ----------
    tiers : list of KVTier
        Fastest first.

    Attributes
    ----------
    hits : Counter
        Block KVs found, by tier, since the start; `n_misses` were found in none. Counted without a lock, for people.
    """

    def __init__(self, tiers: list[KVTier]):
        self.tiers = tiers
        self.hits: Counter[str] = Counter()
        self.n_misses = 0
        self._logged: dict[str, float] = {}

    @property
    def local_tiers(self) -> list[KVTier]:
        """Those that can be looked into without a network."""
        return [tier for tier in self.tiers if tier.is_local]

    @contextmanager
    def lease(self) -> Iterator["Lease"]:
        """A context in which what an answer got or put is not evicted. At its end, what came from a slow tier is
        copied into the faster ones."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            lease.close()

    def get(self, key: str, notes: list[str] | None = None) -> Hit | None:
        """The block KV and where it was, or None.

        A damaged or foreign block is not used (its tier has removed it): it counts as missing.
        """
        return self._find(lambda tier, key: tier.get(key), key, notes)

    def open(self, key: str, notes: list[str] | None = None) -> Hit | None:
        """As `get`, but layers may still be to be read; see `KVTier.open`."""
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
        """Keep `kv` in every tier that has room for it at all."""
        for tier in self.tiers:
            self._put(tier, key, kv, notes)

    def promote(self, key: str, kv: BlockKV, found_in: str) -> None:
        """Keep `kv` in the tiers before the one where it was found; copies on another device are left to whoever has
        one."""
        for tier in self.tiers:
            if tier.name == found_in:
                return
            if isinstance(tier, MemoryTier) and tier.device == kv.keys.device:
                self._put(tier, key, kv, None)

    def delete(self, key: str) -> None:
        """Remove `key` from every tier; what a tier that fails still has is unused, and goes when it is full."""
        for tier in self.tiers:
            try:
                tier.delete(key)
            except KVTierError as error:
                self._note(None, error)

    def __contains__(self, key: str) -> bool:
        return any(self._has(tier, key) for tier in self.tiers)

    def local_tiers_with(self, key: str) -> list[KVTier]:
        """The local tiers that have `key` now, fastest first."""
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
    """What one answer uses. Safe to use from several threads."""

    def __init__(self, kv: TieredKV):
        self._kv = kv
        self._pinned: list[str] = []
        self._found: dict[str, list[Hit]] = {}

    def get(self, key: str, notes: list[str] | None = None) -> Hit | None:
        """See `TieredKV.get`; what is found is pinned."""
        return self._found_by(self._kv.get, key, notes)

    def open(self, key: str, notes: list[str] | None = None) -> Hit | None:
        """See `TieredKV.open`; what is found is pinned. What has not been read at the lease's end is not read."""
        return self._found_by(self._kv.open, key, notes)

    def _found_by(
        self, find: Callable[[str, list[str] | None], Hit | None], key: str, notes: list[str] | None
    ) -> Hit | None:
        self._pin(key)
        hit = find(key, notes)
        if hit is not None:
            self._found.setdefault(key, []).append(hit)
        return hit

    def put(self, key: str, kv: BlockKV, notes: list[str] | None = None) -> None:
        """See `TieredKV.put`; what is kept is pinned."""
        self._pin(key)
        self._kv.put(key, kv, notes)

    def moved(self, key: str, kv: BlockKV) -> None:
        """A block that was found lies whole on another device too, where `kv` is; tiers there may keep this copy."""
        hits = self._found.get(key, [])
        if hits and hits[0].kv is not kv:
            hits.append(Hit(kv, hits[0].tier))

    def close(self) -> None:
        """Unpin everything, and copy what came from slow tiers into the faster ones."""
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
    """Note a reason for the report, each once: a disk that is full fails for every block."""
    if str(error) not in notes:
        notes.append(str(error))
