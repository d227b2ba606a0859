"""Finds the blocks for a question: by vectors and words, with filters, a reranker and neighbours."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from blockrag import arguments
from blockrag.events import Source
from blockrag.index import BlockRef, By, Hit, Index, labels

if TYPE_CHECKING:
    from blockrag.engine import Engine

DEFAULT_BY: By = "hybrid"
"""Chosen by measurement: see ``benchmarks/results/search-cpu.json``."""

RERANKED = 24
"""Blocks that a reranker reads, at least: each costs a forward pass."""


@dataclass(frozen=True)
class Retrieval:
    """How blocks are found.

    Attributes
    ----------
    by : "hybrid", "dense" or "lexical"
        By vectors and words with fused ranks, by vectors alone, or by words alone (BM25).
    rerank : bool
        Whether the engine's reranker, if it has one, orders the best blocks.
    neighbours : int
        Blocks before and behind each found one that the model is given too. They count beside `k`.
    documents : collection of str
        Names, sources or ids of the documents to search in; all, if it is empty.
    metadata : mapping
        What the documents' metadata must be; a list is a choice of values.

    Raises
    ------
    ArgumentError
        If an attribute has a value that is not allowed.
    """

    by: By = DEFAULT_BY
    rerank: bool = True
    neighbours: int = 0
    documents: Collection[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arguments.one_of("by", self.by, get_args(By))
        arguments.flag("rerank", self.rerank)
        object.__setattr__(self, "neighbours", arguments.whole("neighbours", self.neighbours, 0))
        object.__setattr__(self, "documents", arguments.texts("documents", self.documents))
        if not isinstance(self.metadata, Mapping):
            raise arguments.ArgumentError(f"metadata is {self.metadata!r}; give a dictionary")


def find_sources(
    engine: "Engine",
    index: Index,
    question: str,
    k: int,
    retrieval: Retrieval,
    pinned: Sequence[BlockRef] = (),
    excluded: Collection[BlockRef] = (),
) -> tuple[Source, ...]:
    """The `k` best blocks for a question, best first behind those that are pinned, numbered from 1.

    Raises
    ------
    ArgumentError
        If the index holds none of the documents that `retrieval` names.
    """
    vector = engine.embedder.embed_query(question)
    first = [hit for block in pinned if (hit := index.find(BlockRef(*block), vector)) is not None]
    given, passed = {hit.block.kv_key for hit in first}, {*pinned, *excluded}
    reranker = engine.reranker if retrieval.rerank else None
    documents = None
    if retrieval.documents or retrieval.metadata:
        documents = index.matching(retrieval.documents, retrieval.metadata)
    n = k + len(passed) if reranker is None else max(k, RERANKED) + len(passed)
    found = index.search(vector, n, words=question, by=retrieval.by, documents=documents)
    rest = [h for h in found if h.block.kv_key not in given and (h.document_id, h.block.start) not in passed]
    if reranker is not None:
        rest = [rest[i] for i in reranker.order(question, [hit.text for hit in rest])]
    hits = (first + rest)[: max(k, len(first))]
    if retrieval.neighbours:
        hits = _with_neighbours(index, hits, retrieval.neighbours, vector, set(excluded))
    names = labels([(hit.name, hit.source) for hit in hits])
    return tuple(_source(engine, n, hit, name) for n, (hit, name) in enumerate(zip(hits, names, strict=True), start=1))


def _with_neighbours(index: Index, hits: list[Hit], n: int, vector: Any, excluded: set[BlockRef]) -> list[Hit]:
    """Each hit between its neighbours, in the document's order; no block twice."""
    n, kept = min(n, len(index)), dict[BlockRef, Hit]()
    known = {BlockRef(hit.document_id, hit.block.start): hit for hit in hits}
    for ref in known:
        for near in index.around(ref, n):
            if near not in kept and near not in excluded:
                hit = known.get(near) or index.find(near, vector)
                if hit is not None:
                    kept[near] = hit
    return list(kept.values())


def _source(engine: "Engine", number: int, hit: Hit, name: str) -> Source:
    block = hit.block
    n_tokens = len(engine.prompt.block_ids(hit.text)) if block.is_estimate else block.n_tokens
    return Source(
        number=number,
        document=name,
        document_id=hit.document_id,
        start=block.start,
        end=block.end,
        text=hit.text,
        score=hit.similarity,
        n_tokens=n_tokens,
        page=block.page,
        source=hit.source,
        kv_key=block.kv_key,
    )
