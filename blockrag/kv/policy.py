"""Eviction policies: which key a KV tier evicts next. A policy holds keys, the tier holds the bytes."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Container, Iterator
from itertools import chain


class EvictionPolicy(ABC):
    """Decides which key is evicted next. Not thread-safe; its tier's lock guards it."""

    @abstractmethod
    def touch(self, key: str) -> None:
        """Record that `key` was used or added."""

    @abstractmethod
    def forget(self, key: str) -> None:
        """Remove `key`, if it is known."""

    @abstractmethod
    def __iter__(self) -> Iterator[str]:
        """All keys, the next victim first."""

    def victim(self, spared: Container[str] = ()) -> str | None:
        """The key to evict next that is not `spared`; None if there is none."""
        return next((key for key in self if key not in spared), None)


class LRU(EvictionPolicy):
    """Evicts the least recently used key first."""

    def __init__(self) -> None:
        self._order: OrderedDict[str, None] = OrderedDict()

    def touch(self, key: str) -> None:
        """See `EvictionPolicy`."""
        self._order[key] = None
        self._order.move_to_end(key)

    def forget(self, key: str) -> None:
        """See `EvictionPolicy`."""
        self._order.pop(key, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._order)


class SegmentedLRU(EvictionPolicy):
    """Evicts keys that were used once before keys that were used again, so that indexing a large document does not
    evict the blocks that questions use (segmented LRU; Karedla, Love, Wherry 1994).

    Parameters
    ----------
    protected : float
        Largest share of keys, in [0, 1], that count as used again; beyond it the least recently used of them are
        demoted.
    """

    def __init__(self, protected: float = 0.8):
        self._share = protected
        self._once: OrderedDict[str, None] = OrderedDict()
        self._again: OrderedDict[str, None] = OrderedDict()

    def touch(self, key: str) -> None:
        """See `EvictionPolicy`."""
        if key not in self._once and key not in self._again:
            self._once[key] = None
            return
        self.forget(key)
        self._again[key] = None
        while len(self._again) > self._share * (len(self._once) + len(self._again)):
            self._once[self._again.popitem(last=False)[0]] = None

    def forget(self, key: str) -> None:
        """See `EvictionPolicy`."""
        self._once.pop(key, None)
        self._again.pop(key, None)

    def __iter__(self) -> Iterator[str]:
        return chain(self._once, self._again)
