"""KV tier in memory: block KVs on the device or in host memory, for the life of the process."""

import torch

from blockrag.kv.block_kv import BlockKV
from blockrag.kv.policy import EvictionPolicy
from blockrag.kv.tier import KVTier


class MemoryTier(KVTier):
    """Keeps tensors on one device.

    Parameters
    ----------
    budget_nbytes : int or None
        Most bytes of block KV to keep; None is no limit.
    device : torch.device or str
        Where they are kept; block KVs on other devices are copied.
    name : str
        As reports show it: "memory" on a CPU; on a GPU "device", and "host" for the memory beside it.
    pin_memory : bool
        Keep host memory page-locked, which a GPU copies at the full rate of the link.
    policy : EvictionPolicy, optional
        See `KVTier`.
    """

    def __init__(
        self,
        budget_nbytes: int | None,
        device: torch.device | str = "cpu",
        name: str = "memory",
        *,
        pin_memory: bool = False,
        policy: EvictionPolicy | None = None,
    ):
        super().__init__(budget_nbytes, policy)
        self.name = name
        self.device = torch.device(device)
        self._pin_memory = pin_memory
        self._kept: dict[str, BlockKV] = {}

    def get(self, key: str) -> BlockKV | None:
        """The block KV itself, not a copy; see `KVTier`."""
        with self._lock:
            if key not in self:
                return None
            self._policy.touch(key)
            return self._kept[key]

    def put(self, key: str, kv: BlockKV) -> bool:
        """Keep `kv`, evicting others until it fits; a known key has this content already."""
        with self._lock:
            if key not in self._sizes:
                if not self._make_room(kv.nbytes):
                    return False
                self._kept[key] = BlockKV(self._here(kv.keys), self._here(kv.values), kv.first_position)
            self._keep(key, self._kept[key].nbytes)
        return True

    def _here(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.to(self.device)
        return tensor.pin_memory() if self._pin_memory and not tensor.is_pinned() else tensor

    def _remove(self, key: str) -> None:
        self._kept.pop(key, None)
