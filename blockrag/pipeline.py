"""The stages in order: load -> segment -> index -> retrieve -> assemble -> generate -> cite. One collection's library.

pipeline = Pipeline(Engine.from_pretrained(kv_dir=folder / "kv"), folder)
pipeline.add(pipeline.segment(load("report.pdf")), granularity=0.5, on_progress=print)
for event in pipeline.ask("Who wrote it?"): ...
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from blockrag.answering import Request, queue_and_answer
from blockrag.documents import Document
from blockrag.engine import Engine
from blockrag.errors import IndexStoreError
from blockrag.events import Event, Mode, Source
from blockrag.index import Found, Index
from blockrag.progress import OnProgress, Progress, ignore
from blockrag.segment import DEFAULT_GRANULARITY, DEFAULT_SEGMENTER, Block, Segmentation, SizeBounds, make_segmenter
from blockrag.stopwatch import Stopwatch

EMBED_BATCH = 32

Place = tuple[str, int]
"""A block: its document's sha256 and where it begins, in characters."""


@dataclass(frozen=True)
class Prepared:
    """Blocks ready to be entered: their vectors, float32 ``(blocks, dimension)``, and the keys of their KV."""

    vectors: np.ndarray
    kv_keys: list[str]


def segment(
    engine: Engine,
    document: Document,
    segmenter: str = DEFAULT_SEGMENTER,
    bounds: SizeBounds | None = None,
    on_progress: OnProgress | None = None,
) -> Segmentation:
    """Score a document's boundaries with the models of `engine`; see `Pipeline.segment`."""
    counter = engine.token_counter
    scorer = make_segmenter(segmenter, counter=counter, embed=engine.embedder.embed)
    return Segmentation.create(document, scorer, counter, bounds or SizeBounds(), on_progress)


class Pipeline:
    """Answers questions from the documents of one index, step by step.

    `blockrag.BlockRAG` is the same in three calls.

    Parameters
    ----------
    engine : Engine
        May be shared by many.
    directory : Path
        Of the index; made where it does not exist.

    Raises
    ------
    IndexStoreError
        If the directory holds an index that other models made.
    """

    def __init__(self, engine: Engine, directory: Path):
        self.engine = engine
        made_by = {"model": engine.identity.digest, "embedder": engine.embedder.weights_id}
        self.index = Index(directory, made_by, engine.embedder.dimension)

    def segment(
        self,
        document: Document,
        segmenter: str = DEFAULT_SEGMENTER,
        bounds: SizeBounds | None = None,
        on_progress: OnProgress | None = None,
    ) -> Segmentation:
        """Score the boundaries of a document; which of them become blocks is the granularity's choice.

        `on_progress` is called with the stage ``"segment"`` by segmenters that take more than one step.

        Raises
        ------
        SegmentationError
            If there is no such segmenter.
        """
        return segment(self.engine, document, segmenter, bounds, on_progress)

    def add(
        self,
        segmentation: Segmentation,
        granularity: float = DEFAULT_GRANULARITY,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Index a document: embed its blocks, encode their KV, then enter both at once.

        `on_progress` is called with the stage ``"embed"``, then ``"encode"``. If it raises, the index stays as it was;
        KV that is encoded by then is kept and used next time.
        """
        document = segmentation.document
        blocks = segmentation.blocks(granularity)
        prepared = self.prepare(document, blocks, self.index.vectors(document.sha256), on_progress)
        for orphan in self.index.add(document, blocks, prepared.vectors, prepared.kv_keys):
            self.engine.kv.delete(orphan)

    def prepare(
        self,
        document: Document,
        blocks: Sequence[Block],
        known: Mapping[str, np.ndarray],
        on_progress: OnProgress | None = None,
    ) -> Prepared:
        """Embed the blocks whose KV keys are not `known` with their vectors, and encode the KV that is not kept yet.
        Enters nothing into the index."""
        texts = [document.text[block.start : block.end] for block in blocks]
        keys = [self.engine.kv_key(text) for text in texts]
        vectors = {key: known[key] for key in keys if key in known}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in vectors}
        n_reused = sum(key in vectors for key in keys)
        todo, counts, n_done, tell = list(missing), Counter(keys), n_reused, on_progress or ignore
        for start in range(0, len(todo), EMBED_BATCH):
            batch = todo[start : start + EMBED_BATCH]
            vectors.update(zip(batch, self.engine.embedder.embed([missing[key] for key in batch]), strict=True))
            n_done += sum(counts[key] for key in batch)
            tell(Progress("embed", n_done, len(texts), n_reused))
        if not todo:
            tell(Progress("embed", len(texts), len(texts), n_reused))
        self.engine.warm(texts, on_progress)
        return Prepared(np.stack([vectors[key] for key in keys]), keys)

    def delete(self, document_id: str) -> None:
        """Remove a document, its blocks, their vectors and their KV."""
        for orphan in self.index.delete(document_id):
            self.engine.kv.delete(orphan)

    def ask(
        self,
        question: str,
        mode: Mode = "block",
        k: int = 8,
        max_new_tokens: int = 128,
        client_id: str = "",
        *,
        search: str | None = None,
        pinned: Sequence[Place] = (),
        excluded: Collection[Place] = (),
    ) -> Iterator[Event]:
        """Answer from the `k` blocks nearest to the question.

        Parameters
        ----------
        question : str
        mode : "block" or "full"
            With cached block KV, or with ordinary attention over the same blocks.
        k : int
            Blocks to retrieve; those that do not fit the model's context are left out, which `Retrieved` says.
        max_new_tokens : int
            Longest answer.
        client_id : str
            Who asks; where many do, they take turns.
        search : str, optional
            What to look for, where it is not the question itself.
        pinned, excluded : collections of Place
            Blocks to give in any case, first, and blocks never to give.

        Yields
        ------
        Queued while others go first, Retrieved, then Piece for each piece of text, then Answer
            Closing the generator stops the answer.

        Raises
        ------
        IndexStoreError
            If the index is empty.
        PromptTooLongError
            If the question does not fit the model's context.
        BusyError
            If too many questions wait, or this one has waited too long.
        DeviceMemoryError
            If the device's memory does not suffice.
        """
        if not len(self.index):
            raise IndexStoreError("the index is empty: add a document before asking")
        request = Request(question, mode, max_new_tokens, Stopwatch(self.engine.model.device))
        retrieve = partial(self.search, search or question, k, pinned, excluded)
        yield from queue_and_answer(self.engine, request, retrieve, client_id)

    def search(
        self, question: str, k: int, pinned: Sequence[Place] = (), excluded: Collection[Place] = ()
    ) -> tuple[Source, ...]:
        """The `k` blocks nearest to the question, best first behind those that are pinned, numbered from 1."""
        found = self._retrieve(question, k, pinned, excluded)
        return tuple(_source(n, f) for n, f in enumerate(found, start=1))

    def _retrieve(self, question: str, k: int, pinned: Sequence[Place], excluded: Collection[Place]) -> list[Found]:
        vector = self.engine.embedder.embed([question])[0]
        first = [found for place in pinned if (found := self.index.find(*place, vector)) is not None]
        passed = {*pinned, *excluded}
        others = self.index.search(vector, k + len(passed))
        rest = [found for found in others if (found.document.sha256, found.block.start) not in passed]
        return (first + rest)[: max(k, len(first))]


def _source(number: int, found: Found) -> Source:
    block, document = found.block, found.document
    return Source(
        number=number,
        document=document.name,
        document_id=document.sha256,
        start=block.start,
        end=block.end,
        text=found.text,
        score=found.similarity,
        n_tokens=block.n_tokens,
        page=document.page_of(block.start),
    )
