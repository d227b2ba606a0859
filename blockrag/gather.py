"""Brings together the KV of an answer's blocks: reads what is kept, encodes what is not, or what is read too slowly."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from blockrag.kv.block_kv import BlockKV
from blockrag.kv.costs import Choice, Kept
from blockrag.kv.streaming import begin
from blockrag.kv.tier import KVTier
from blockrag.kv.tiered import Hit, Lease
from blockrag.stopwatch import Stopwatch


@dataclass(frozen=True)
class Wanted:
    """A block of an answer.

    Attributes
    ----------
    key : str
        Of its KV.
    n_tokens : int
        Sinks included; an estimate will do.
    token_ids : callable
        Gives its tokens, sinks not included; called only if it must be encoded.
    """

    key: str
    n_tokens: int
    token_ids: Callable[[], Sequence[int]]


@dataclass
class Gathered:
    """The KV of the blocks by key, perhaps still being read, and what it took.

    `hits` counts blocks by the tier that they were read from; `n_encoded` the blocks and `n_tokens` the tokens that
    were encoded, of which `n_again` blocks are kept in a slow tier; `why` is the reason.
    """

    found: dict[str, BlockKV] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)
    n_encoded: int = 0
    n_tokens: int = 0
    n_again: int = 0
    why: str = ""


@dataclass(frozen=True)
class Gatherer:
    """How blocks are brought together.

    Attributes
    ----------
    lease : Lease
        Of the answer.
    choose : callable
        Given blocks that slow tiers keep, and the lengths of those that none has, decides which to encode again.
    encode : callable
        Given tokens by key, yields each key with its KV; see `Engine.encode`.
    nbytes_per_token : int
        Of KV in memory.
    readers : Executor
        See `make_readers`.
    watch : Stopwatch
        Times the stages ``kv_load`` and ``encode``.
    notes : list of str
        Of the report.
    """

    lease: Lease
    choose: Callable[[Sequence[Kept], Sequence[int]], Choice]
    encode: Callable[[Mapping[str, Sequence[int]]], Iterator[tuple[str, BlockKV]]]
    nbytes_per_token: int
    readers: Executor
    watch: Stopwatch
    notes: list[str]

    def gather(self, wanted: Sequence[Wanted], *, streaming: bool, at_once: int) -> Gathered:
        """KV of every block. With `streaming`, layers may still be read; `at_once` blocks are looked up at a time.

        Reading begins first, so that a GPU encodes while a disk reads. Blocks that must be encoded because no tier has
        them are encoded together with those that are encoded again, unless a store has yet to answer.
        """
        blocks, times = {block.key: block for block in wanted}, Counter(block.key for block in wanted)
        find = self.lease.open if streaming else self.lease.get
        with ThreadPoolExecutor(at_once) as pool:
            with self.watch.stage("kv_load"):
                places = {key: self.lease.place(key) for key in blocks}
                choice = self._choice(blocks, places)
                looked_up = {key: pool.submit(find, key, self.notes) for key in blocks if key not in choice.again}
                here = [key for key in looked_up if (tier := places[key]) is None or tier.is_local]
                hits = self._begin({key: looked_up[key] for key in here})
            gathered = Gathered(n_again=len(choice.again), why=choice.why)
            again = {key: blocks[key] for key in blocks if key in choice.again}
            if len(here) < len(looked_up):
                self._encode(again, places, gathered)
            with self.watch.stage("kv_load"):
                hits |= self._begin({key: looked_up[key] for key in looked_up if key not in hits})
        for key, hit in hits.items():
            if hit is not None:
                gathered.found[key] = hit.kv
                gathered.hits[hit.tier] += times[key]
        again = {key: block for key, block in again.items() if key not in gathered.found}
        lost = {key: blocks[key] for key, hit in hits.items() if hit is None}
        self._encode(lost | again, dict.fromkeys(lost) | {key: places[key] for key in again}, gathered)
        return gathered

    def _choice(self, blocks: Mapping[str, Wanted], places: Mapping[str, KVTier | None]) -> Choice:
        kept = [
            Kept(key, tier.name, blocks[key].n_tokens, blocks[key].n_tokens * self.nbytes_per_token)
            for key, tier in places.items()
            if tier is not None and tier.meter is not None
        ]
        return self.choose(kept, [blocks[key].n_tokens for key, tier in places.items() if tier is None])

    def _begin(self, looked_up: Mapping[str, Future[Hit | None]]) -> dict[str, Hit | None]:
        """What was found, whose reading has begun."""
        hits = {key: future.result() for key, future in looked_up.items()}
        begin([hit.kv for hit in hits.values() if hit is not None], self.readers)
        return hits

    def _encode(self, blocks: Mapping[str, Wanted], places: Mapping[str, KVTier | None], gathered: Gathered) -> None:
        """Encode blocks and keep their KV: in every tier, or, if a slow one has it, in the faster ones."""
        with self.watch.stage("encode"):
            token_ids = {key: block.token_ids() for key, block in blocks.items()}
            for key, kv in self.encode(token_ids):
                gathered.found[key] = kv
                if tier := places[key]:
                    self.lease.renew(key, kv, tier.name)
                else:
                    self.lease.put(key, kv, self.notes)
                gathered.n_encoded += 1
                gathered.n_tokens += len(token_ids[key])
