"""Show the tiers that keep block KV and their last hour; clear, fill and move a collection's KV."""

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from blockrag.engine import Engine
from blockrag.errors import BlockRAGError
from blockrag.kv.memory import MemoryTier
from blockrag.kv.tier import KVTier
from ui import strings
from ui.components.payloads import KVCachePayload, Lines, TierCard
from ui.handlers.blocks import format_bytes
from ui.jobs import stream_progress
from ui.open_collection import OpenCollection

_LOG = logging.getLogger(__name__)

SAMPLE_S = 5.0
MAX_SAMPLES = 720
"""One hour."""


@dataclass(frozen=True)
class _Sample:
    """The tiers at one moment: bytes of each local one; hits, misses and evictions since startup."""

    at_s: float
    nbytes: dict[str, int]
    hits: int
    misses: int
    evicted: int


class TierMonitor:
    """Samples the tiers and keeps the last hour. Thread-safe."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic):
        self._engine = engine
        self._clock = clock
        self._samples: deque[_Sample] = deque(maxlen=MAX_SAMPLES)
        self._began_s = clock()

    def follow(self, engine: Engine) -> None:
        """Sample this engine's tiers from now on."""
        self._engine = engine
        self._samples.clear()

    def sample(self) -> None:
        """Take one sample."""
        kv = self._engine.kv
        nbytes = {tier.name: tier.nbytes for tier in kv.local_tiers}
        n_hits, n_evicted = sum(kv.hits.values()), sum(tier.n_evicted for tier in kv.tiers)
        self._samples.append(_Sample(self._clock() - self._began_s, nbytes, n_hits, kv.n_misses, n_evicted))

    def run(self, stop: threading.Event) -> None:
        """Sample every `SAMPLE_S`, in a thread of its own, until `stop` is set."""
        while True:
            try:
                self.sample()
            except BlockRAGError as error:  # the next sample may succeed
                _LOG.warning("the KV tiers were not sampled: %s", type(error).__name__)
            if stop.wait(SAMPLE_S):
                return

    @property
    def samples(self) -> list[_Sample]:
        """The last hour's, oldest first."""
        return list(self._samples)


def view(collection: OpenCollection, monitor: TierMonitor) -> KVCachePayload:
    """Draw the tiers now, their last hour, and how much of the open collection each holds."""
    monitor.sample()
    samples = monitor.samples
    kv, keys = collection.library.engine.kv, _keys(collection)
    mine = Counter(tier.name for key in keys for tier in kv.local_tiers_with(key))
    return {
        "tiers": [_card(tier, kv.hits[tier.name], mine[tier.name]) for tier in kv.tiers],
        "n_mine": len(keys),
        "misses": kv.n_misses,
        "nbytes": _lines(samples, lambda s: {name: nbytes / 1e6 for name, nbytes in s.nbytes.items()}),
        "counts": _lines(samples, lambda s: {"hits": s.hits, "misses": s.misses, "evicted": s.evicted}),
        "empty": strings.NO_CACHE,
    }


def _card(tier: KVTier, hits: int, mine: int) -> TierCard:
    """Draw a tier; of one that is not local, only what this program counted itself."""
    card: TierCard = {
        "name": tier.name,
        "used": None,
        "budget": tier.budget_nbytes,
        "text": strings.SHARED_STORE,
        "blocks": None,
        "hits": hits,
        "evicted": tier.n_evicted,
        "mine": None,
    }
    if tier.is_local:
        used = format_bytes(tier.nbytes)
        card |= {"used": tier.nbytes, "blocks": len(tier.keys()), "mine": mine}
        card["text"] = strings.USED_NO_LIMIT.format(used=used)
        if tier.budget_nbytes is not None:
            card["text"] = strings.USED_OF_BUDGET.format(used=used, budget=format_bytes(tier.budget_nbytes))
    return card


def _lines(samples: list[_Sample], values: Callable[[_Sample], dict[str, float]]) -> Lines:
    """Return the values of each sample as lines."""
    now_s, lines = samples[-1].at_s, defaultdict(list)
    for sample in samples:
        for name, value in values(sample).items():
            lines[name].append((round(sample.at_s - now_s, 1), value))
    return dict(lines)


def clear(collection: OpenCollection, tier_name: str) -> int:
    """Delete the collection's KV from a tier and return of how many blocks. It is built again on first use."""
    n_deleted = 0
    for tier in collection.library.engine.kv.tiers:
        if tier.name == tier_name:
            for key in _keys(collection):
                n_deleted += key in tier
                tier.delete(key)
    return n_deleted


def move_to_memory(collection: OpenCollection) -> int:
    """Copy the collection's KV from slower tiers to memory and return of how many blocks."""
    kv, n_moved = collection.library.engine.kv, 0
    fast = [tier for tier in kv.tiers if isinstance(tier, MemoryTier)]
    for key in _keys(collection):
        if not any(key in tier for tier in fast):
            hit = kv.get(key)
            if hit is not None:
                kv.promote(key, hit.kv, hit.tier)
                n_moved += any(key in tier for tier in fast)
    return n_moved


def warm(collection: OpenCollection) -> Iterator[None]:
    """Encode the indexed blocks that no tier holds, yielding after each step."""
    engine = collection.library.engine
    with collection.limiter.job(collection.owner):
        for document in collection.documents.values():
            content = document.content
            records = collection.store.blocks.of(document.record.id)
            texts = [content.block_text(r.start, r.end) for r in records]
            with closing(stream_progress(partial(engine.warm, texts))) as steps:
                for _ in steps:
                    yield


def _keys(collection: OpenCollection) -> set[str]:
    """Return the KV keys of the collection's blocks."""
    return collection.store.blocks.keys(collection.record.id)
