"""What a KV tier promises, and the order in which one forgets. Knows no medium."""

from abc import ABC, abstractmethod
from collections import OrderedDict

from blockrag.kv.block_kv import BlockKV


class LRU:
    """Eviction policy: the least recently used key goes first. Holds keys, no bytes."""

    def __init__(self) -> None:
        self._order: OrderedDict[str, None] = OrderedDict()

    def touch(self, key: str) -> None:
        """`key` has just been used, or added."""
        self._order[key] = None
        self._order.move_to_end(key)

    def forget(self, key: str) -> None:
        """`key` is gone."""
        self._order.pop(key, None)

    def victim(self) -> str:
        """The key to evict next; there must be one."""
        return next(iter(self._order))

    def keys(self) -> list[str]:
        """All keys, the next victim first."""
        return list(self._order)


class KVTier(ABC):
    """One place where block KVs are kept, within a budget of bytes.

    Safe to use from several threads. `put` may evict others, never what it was just given, and never holds more than
    `budget_nbytes`; a block KV larger than the budget is not kept, which `put` says by returning False. What `get`
    returns is not written to by anyone (rule 5).
    """

    name: str
    budget_nbytes: int

    @abstractmethod
    def get(self, key: str) -> BlockKV | None:
        """The block KV, or None where it is not kept.

        Raises
        ------
        KVCorruptError, KVMismatchError
            If what is kept is not what was put. It is removed first, so that the next `get` returns None.
        """

    @abstractmethod
    def put(self, key: str, kv: BlockKV) -> bool:
        """Keep `kv`; afterwards it survives whatever the medium survives. Returns whether it is kept."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Forget `key`; nothing happens where it is not kept."""

    @abstractmethod
    def __contains__(self, key: str) -> bool:
        """Whether `key` is kept, without reading it."""

    @abstractmethod
    def keys(self) -> list[str]:
        """All keys kept, least recently used first."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes kept now, at most `budget_nbytes`."""
