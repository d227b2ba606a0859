"""Cache: the tiers of block KV, how they filled and emptied, and what a collection can have done with it."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from blockrag.engine import Engine
from blockrag.errors import BlockRAGError
from blockrag.kv.memory import MemoryTier
from blockrag.kv.tier import KVTier
from ui import strings
from ui.handlers.blocks import size
from ui.open_collection import OpenCollection
from ui.streaming import stream_progress

_LOG = logging.getLogger(__name__)

SAMPLE_S = 5.0
SAMPLES = 720
"""An hour."""


@dataclass(frozen=True)
class Sample:
    """The tiers at one moment: bytes of each local one, and what was found, missed and evicted by then."""

    at_s: float
    nbytes: dict[str, int]
    hits: int
    misses: int
    evicted: int


class Watch:
    """Looks at the tiers again and again, and remembers the last hour. Safe to use from several threads."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic):
        self._engine = engine
        self._clock = clock
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._began = clock()

    def look(self) -> None:
        """Take one sample."""
        kv = self._engine.kv
        nbytes = {tier.name: tier.nbytes for tier in kv.local_tiers}
        evicted = sum(tier.n_evicted for tier in kv.tiers)
        self._samples.append(Sample(self._clock() - self._began, nbytes, sum(kv.hits.values()), kv.n_misses, evicted))

    def keep_looking(self, stop: threading.Event) -> None:
        """For a thread of its own."""
        while True:
            try:
                self.look()
            except BlockRAGError as error:  # the next look may succeed
                _LOG.warning("the cache could not be looked at: %s", error)
            if stop.wait(SAMPLE_S):
                return

    @property
    def samples(self) -> list[Sample]:
        """The last hour's, the oldest first."""
        return list(self._samples)


def view(workspace: OpenCollection, watch: Watch) -> dict[str, Any]:
    """The tiers now, the last hour as lines, and what of the open collection is where."""
    watch.look()
    kv = workspace.library.engine.kv
    keys = _keys(workspace)
    mine = Counter(tier.name for key in keys for tier in kv.local_tiers_with(key))
    return {
        "tiers": [_tier(tier, kv.hits[tier.name], mine[tier.name]) for tier in kv.tiers],
        "n_mine": len(keys),
        "misses": kv.n_misses,
        "lines": _lines(watch.samples),
        "empty": strings.NO_CACHE,
    }


def _tier(tier: KVTier, hits: int, mine: int) -> dict[str, Any]:
    """What the page shows of a tier; of one that is not local, only what this program counted itself."""
    row = {"name": tier.name, "budget": tier.budget_nbytes, "hits": hits, "evicted": tier.n_evicted}
    if not tier.is_local:
        return row | {"used": None, "blocks": None, "mine": None, "text": strings.SHARED_STORE}
    most = f", {strings.NO_LIMIT}" if tier.budget_nbytes is None else f" of {size(tier.budget_nbytes)}"
    text = size(tier.nbytes) + most
    return row | {"used": tier.nbytes, "blocks": len(tier.keys()), "mine": mine, "text": text}


def _lines(samples: list[Sample]) -> dict[str, list[dict[str, Any]]]:
    """Two plots: megabytes by tier, and counts; each line a name with its points [seconds ago, value]."""
    if not samples:
        return {"nbytes": [], "counts": []}
    now = samples[-1].at_s
    ago = [round(sample.at_s - now, 1) for sample in samples]
    nbytes = [
        {"name": name, "points": [[t, s.nbytes.get(name, 0) / 1e6] for t, s in zip(ago, samples, strict=True)]}
        for name in samples[-1].nbytes
    ]
    counts = [
        {"name": name, "points": [[t, getattr(s, name)] for t, s in zip(ago, samples, strict=True)]}
        for name in ("hits", "misses", "evicted")
    ]
    return {"nbytes": nbytes, "counts": counts}


def clear(workspace: OpenCollection, tier_name: str) -> int:
    """Delete the open collection's KV from a tier; returns of how many blocks. It is made again when it is needed."""
    n_deleted = 0
    for tier in workspace.library.engine.kv.tiers:
        if tier.name == tier_name:
            for key in _keys(workspace):
                n_deleted += key in tier
                tier.delete(key)
    workspace.library.note_places(_keys(workspace))
    return n_deleted


def move_to_memory(workspace: OpenCollection) -> int:
    """Copy the open collection's KV from slower tiers into memory; returns of how many blocks."""
    kv, n_moved = workspace.library.engine.kv, 0
    fast = [tier for tier in kv.tiers if isinstance(tier, MemoryTier)]
    for key in _keys(workspace):
        if not any(key in tier for tier in fast):
            hit = kv.get(key)
            if hit is not None:
                kv.promote(key, hit.kv, hit.tier)
                n_moved += any(key in tier for tier in fast)
    return n_moved


def warm(workspace: OpenCollection) -> Iterator[str]:
    """Encode the KV of the open collection's indexed blocks that no tier has (any more), telling how far it is."""
    engine = workspace.library.engine
    with workspace.meter.job(workspace.owner):
        for entry in workspace.entries.values():
            text = entry.document.text
            records = workspace.store.blocks.of(entry.record.id)
            texts = [text[r.block.start : r.block.end] for r in records]
            with closing(stream_progress(partial(engine.warm, texts))) as steps:
                for step in steps:
                    yield f"{entry.record.name}: {step.done} of {step.total} blocks, {step.reused} were there"
            workspace.library.note_places([record.kv_key for record in records])


def _keys(workspace: OpenCollection) -> list[str]:
    """KV keys of the open collection's blocks."""
    return workspace.store.blocks.keys_of(workspace.record.id)
