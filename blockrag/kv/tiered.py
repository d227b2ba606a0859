"""Several tiers as one: fast ones before slow ones. Knows neither media nor models."""

from dataclasses import dataclass

from blockrag.errors import KVCorruptError, KVMismatchError
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.tier import KVTier


@dataclass(frozen=True)
class Hit:
    """A block KV that was found, and the name of the tier that had it."""

    kv: BlockKV
    tier: str


class TieredKV:
    """Reads from the first tier that has a key and copies it into the faster ones; writes to all (write-through).

    Parameters
    ----------
    tiers : list of KVTier
        Fastest first.
    """

    def __init__(self, tiers: list[KVTier]):
        self.tiers = tiers

    def get(self, key: str, notes: list[str] | None = None) -> Hit | None:
        """The block KV and where it was, or None.

        A damaged or foreign block is not used (its tier has removed it): it counts as missing, and the reason is added
        to `notes`, for the report of the answer that has to encode it anew.
        """
        for level, tier in enumerate(self.tiers):
            try:
                kv = tier.get(key)
            except (KVCorruptError, KVMismatchError) as error:
                if notes is not None:
                    notes.append(str(error))
                continue
            if kv is not None:
                for faster in self.tiers[:level]:
                    faster.put(key, kv)
                return Hit(kv, tier.name)
        return None

    def put(self, key: str, kv: BlockKV) -> None:
        """Keep `kv` in every tier that has room for it at all."""
        for tier in self.tiers:
            tier.put(key, kv)

    def delete(self, key: str) -> None:
        """Remove `key` from every tier."""
        for tier in self.tiers:
            tier.delete(key)

    def __contains__(self, key: str) -> bool:
        return any(key in tier for tier in self.tiers)
