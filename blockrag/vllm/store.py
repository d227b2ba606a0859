"""The tiers of a server: host memory, a folder, and a store that all replicas share."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blockrag import arguments
from blockrag.errors import ArgumentError, KVMismatchError, KVTierError
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.disk import DiskTier
from blockrag.kv.memory import MemoryTier
from blockrag.kv.policy import SegmentedLRU
from blockrag.kv.remote import RemoteTier
from blockrag.kv.tier import KVTier
from blockrag.kv.tiered import TieredKV
from blockrag.vllm.plan import Name, Part


@dataclass(frozen=True)
class Settings:
    """The connector's settings, as ``kv_connector_extra_config`` gives them.

    Attributes
    ----------
    kv_dir : Path or None
        Folder of the disk tier.
    kv_remote : str or None
        URL of a store that all replicas share; see `RemoteTier`. One of the two must be given.
    kv_remote_secret : bytes
        Read from the file that the setting names; see `RemoteTier`.
    memory_bytes, disk_bytes : int or None
        Budgets of host memory and of the folder; None is no limit.
    allow_unverified : bool
        Allow model families that are not verified.
    allow_untested : bool
        Start on a version of vLLM or a device that was not tested.
    """

    kv_dir: Path | None
    kv_remote: str | None
    kv_remote_secret: bytes = field(default=b"", repr=False)
    memory_bytes: int | None = 2 << 30
    disk_bytes: int | None = 20 << 30
    allow_unverified: bool = False
    allow_untested: bool = False

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Settings":
        """Check the settings.

        Raises
        ------
        ArgumentError, TypeError
            If a value is not allowed, or a name is unknown.
        """
        arguments.known("kv_connector_extra_config", given, cls.__dataclass_fields__)
        folder, url = given.get("kv_dir"), given.get("kv_remote")
        if folder is None and url is None:
            raise ArgumentError("kv_connector_extra_config has neither kv_dir nor kv_remote; give one or both")
        values: dict[str, Any] = {name: value is True for name, value in given.items() if name.startswith("allow_")}
        values |= {name: arguments.nbytes(name, value) for name, value in given.items() if name.endswith("_bytes")}
        values["kv_dir"] = None if folder is None else arguments.folder("kv_dir", os.fspath(folder))
        if "kv_remote_secret" in given:
            values["kv_remote_secret"] = arguments.secret("kv_remote_secret", given["kv_remote_secret"])
        values["kv_remote"] = None if url is None else arguments.filled("kv_remote", url)
        return cls(**values)


class BlockStore:
    """Finds block KV by name in the fastest tier. Safe to use from several threads."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._memory = MemoryTier(settings.memory_bytes, name="host", policy=SegmentedLRU())
        self._by_identity: dict[str, TieredKV] = {}

    def get(self, part: Part) -> BlockKV:
        """The block KV of a part.

        Raises
        ------
        KVTierError
            If no tier has it.
        KVMismatchError
            If it is not of the part's length and position.
        """
        notes: list[str] = []
        for name in part.names:
            with self._tiers(name).lease() as lease:
                hit = lease.get(name.key, notes)
            if hit is not None:
                return _checked(hit.kv, part)
        reasons = "".join(f" {note}." for note in notes)
        raise KVTierError(
            f"tokens {part.start} to {part.start + part.n_tokens} have no block KV in the store; encode them first."
            + reasons
        )

    def put(self, part: Part, kv: BlockKV) -> None:
        """Keep a part's KV under its last name, which is that of vLLM's own.

        Raises
        ------
        KVTierError
            If no lasting tier keeps it.
        """
        name, notes = part.names[-1], list[str]()
        tiers = self._tiers(name)
        tiers.put(name.key, kv, notes)
        if not any(name.key in tier for tier in tiers.tiers[1:]):
            raise KVTierError(" ".join(notes) or "the store has no room for a block KV; raise disk_bytes")

    def is_in_folder(self, part: Part) -> bool:
        """Whether the folder has a part, which costs no network."""
        tiers = [tier for name in part.names for tier in self._tiers(name).tiers if isinstance(tier, DiskTier)]
        return any(name.key in tier for name, tier in zip(part.names, tiers, strict=False))

    def _tiers(self, name: Name) -> TieredKV:
        """The tiers of one identity; all share the memory."""
        if name.identity not in self._by_identity:
            tiers: list[KVTier] = [self._memory]
            if self._settings.kv_dir is not None:
                tiers.append(DiskTier(self._settings.kv_dir, self._settings.disk_bytes, name.identity))
            if self._settings.kv_remote is not None:
                tiers.append(
                    RemoteTier(self._settings.kv_remote, name.identity, secret=self._settings.kv_remote_secret)
                )
            self._by_identity[name.identity] = TieredKV(tiers)
        return self._by_identity[name.identity]


def _checked(kv: BlockKV, part: Part) -> BlockKV:
    if (kv.n_tokens, kv.first_position) != (part.n_tokens, part.first_position):
        raise KVMismatchError(
            f"block KV has {kv.n_tokens} tokens from position {kv.first_position}; expected {part.n_tokens} from "
            f"{part.first_position}"
        )
    return kv
