"""The stages in order: load -> segment -> index -> retrieve -> assemble -> generate -> cite. One collection's library.

pipeline = Pipeline.open(Engine.from_pretrained(kv_dir=folder / "kv"), folder)
pipeline.add(pipeline.segment(load("report.pdf")), granularity=0.5, on_progress=print)
for event in pipeline.ask("Who wrote it?"): ...
"""

import operator
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from blockrag import arguments
from blockrag.admission import ClientId, Stream
from blockrag.answering import Request, queue_and_answer
from blockrag.documents import Document
from blockrag.engine import Engine
from blockrag.errors import IndexStoreError
from blockrag.events import Event, Mode, Source
from blockrag.generate import GREEDY, Sampling
from blockrag.index import BlockRef, DocumentRecord, FileIndex, Index, IndexedBlock
from blockrag.language import language_note
from blockrag.progress import OnProgress, Progress, ignore
from blockrag.retrieval import Retrieval, find_sources
from blockrag.segment import DEFAULT_GRANULARITY, DEFAULT_SEGMENTER, Block, Segmentation, SizeBounds, make_segmenter
from blockrag.stopwatch import Stopwatch

EMBED_BATCH = 32

DEFAULT_RETRIEVAL = Retrieval()


@dataclass(frozen=True)
class Prepared:
    """Blocks ready to be added to an index, and their vectors, float32 ``(len(blocks), dimension)``."""

    blocks: list[IndexedBlock]
    vectors: np.ndarray


def segment(
    engine: Engine,
    document: Document,
    segmenter: str = DEFAULT_SEGMENTER,
    bounds: SizeBounds | None = None,
    on_progress: OnProgress | None = None,
) -> Segmentation:
    """Score a document's boundaries with the models of `engine`; see `Pipeline.segment`. The segmentation's document
    has one more note if its language is none that encoder or segmenter know."""
    arguments.instance("document", document, Document)
    if bounds is not None:
        arguments.instance("bounds", bounds, SizeBounds)
    note = language_note(document.text, engine.embedder, segmenter)
    if note and note not in document.notes:
        document = replace(document, notes=(*document.notes, note))
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
    index : Index
        Made by the models of `engine`.
    """

    def __init__(self, engine: Engine, index: Index):
        self.engine = arguments.instance("engine", engine, Engine)
        self.index = arguments.instance("index", index, Index)  # type: ignore[type-abstract]

    def __repr__(self) -> str:
        return f"Pipeline({len(self.index.documents())} documents, {self.engine!r})"

    @classmethod
    def open(cls, engine: Engine, directory: str | os.PathLike[str]) -> "Pipeline":
        """A pipeline over the index in a directory, created if there is none.

        Raises
        ------
        IndexStoreError
            If the directory holds an index that other models made.
        """
        arguments.instance("engine", engine, Engine)
        made_by = {"model": engine.identity.digest, "embedder": engine.embedder.weights_id}
        return cls(engine, FileIndex(arguments.folder("directory", directory), made_by, engine.embedder.dimension))

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
    ) -> DocumentRecord:
        """Index a document, in place of what the index holds from the same source: embed the blocks that changed,
        encode their KV, then add all at once.

        `on_progress` is called with the stage ``"embed"``, then ``"encode"``. If it raises, the index stays as it was;
        KV that is encoded by then stays, and is used next time.
        """
        arguments.fraction("granularity", granularity)
        document = arguments.instance("segmentation", segmentation, Segmentation).document
        prepared = self.prepare(document, segmentation.blocks(granularity), on_progress)
        self._delete_kv(self.index.add(document, prepared.blocks, prepared.vectors))
        n_tokens = sum(block.n_tokens for block in prepared.blocks)
        return DocumentRecord(
            document.id, document.source, document.name, document.sha256, len(prepared.blocks), n_tokens,
            document.encoding, document.n_pages, document.notes, document.metadata,
        )  # fmt: skip

    def prepare(
        self,
        document: Document,
        blocks: Sequence[Block],
        on_progress: OnProgress | None = None,
        before_encoding: Callable[[list[str]], object] | None = None,
    ) -> Prepared:
        """Embed the blocks that have no vector yet, and encode the KV that is not cached. Each block is tokenised
        once. Adds nothing to the index; `before_encoding` is called with the KV keys before any KV is made."""
        texts = [document.block_text(block.start, block.end) for block in blocks]
        tokens = [self.engine.prompt.block_ids(text) for text in texts]
        keys = [self.engine.identity.key(token_ids) for token_ids in tokens]
        if before_encoding is not None:
            before_encoding(keys)
        vectors = self._embed(dict(zip(keys, texts, strict=True)), Counter(keys), on_progress or ignore)
        self.engine.warm_blocks(dict(zip(keys, tokens, strict=True)), on_progress)
        indexed = [
            IndexedBlock(block.start, block.end, len(token_ids), block.score, key, document.page_of(block.start))
            for block, token_ids, key in zip(blocks, tokens, keys, strict=True)
        ]
        return Prepared(indexed, np.stack([vectors[key] for key in keys]))

    def _embed(self, texts: dict[str, str], counts: Counter[str], tell: OnProgress) -> dict[str, np.ndarray]:
        """Vectors of texts by KV key: those that the index knows, and those that it does not; `counts` says how many
        blocks have a key."""
        vectors = self.index.known_vectors(texts)
        todo = [key for key in texts if key not in vectors]
        n_done = n_reused = sum(counts[key] for key in vectors)
        if not todo:
            tell(Progress("embed", n_done, counts.total(), n_reused))
        for start in range(0, len(todo), EMBED_BATCH):
            batch = todo[start : start + EMBED_BATCH]
            vectors.update(zip(batch, self.engine.embedder.embed([texts[key] for key in batch]), strict=True))
            n_done += sum(counts[key] for key in batch)
            tell(Progress("embed", n_done, counts.total(), n_reused))
        return vectors

    def delete(self, document_id: str) -> None:
        """Remove a document, its blocks, their vectors and their KV. Raises ArgumentError, UnknownDocumentError."""
        self._delete_kv(self.index.delete(arguments.filled("document_id", document_id)))

    def _delete_kv(self, kv_keys: Sequence[str]) -> None:
        for key in kv_keys:
            self.engine.kv.delete(key)

    def ask(
        self,
        question: str,
        mode: Mode = "block",
        k: int = 8,
        max_new_tokens: int = 128,
        client_id: ClientId = "",
        *,
        search: str | None = None,
        pinned: Sequence[BlockRef] = (),
        excluded: Collection[BlockRef] = (),
        sampling: Sampling = GREEDY,
        retrieval: Retrieval = DEFAULT_RETRIEVAL,
    ) -> Stream[Event]:
        """Answer from the `k` best blocks for the question.

        Parameters
        ----------
        question : str
        mode : "block" or "full"
            With cached block KV, or with ordinary attention over the same blocks.
        k : int
            Blocks to retrieve; those that do not fit the model's context are left out, which `Retrieved` says.
        max_new_tokens : int
            Longest answer.
        client_id : str or pair of str
            Who asks, or their address and who; where many do, those who were served for the least time go first.
        search : str, optional
            What to search for, if not for the question itself.
        pinned, excluded : collections of BlockRef
            Blocks to give in any case, first, and blocks never to give.
        sampling : Sampling
            How tokens are chosen; greedily by default.
        retrieval : Retrieval
            How blocks are found.

        Yields
        ------
        Queued while others go first, Retrieved, then Piece for each piece of text, then Answer
            Closing the stream stops the answer; see `Stream`.

        Raises
        ------
        ArgumentError
            At once, if an argument has a value that is not allowed.
        IndexStoreError
            If the index is empty.
        PromptTooLongError
            If the question does not fit the model's context.
        BusyError
            If too many questions wait, or this one has waited too long.
        DeviceMemoryError
            If the device's memory does not suffice.
        """
        arguments.filled("question", question)
        arguments.whole("k", k)
        arguments.instance("retrieval", retrieval, Retrieval)
        if search is not None:
            arguments.filled("search", search)
        pinned, excluded = _refs("pinned", pinned), _refs("excluded", excluded)
        request = Request(question, mode, max_new_tokens, Stopwatch(self.engine.model.device), sampling=sampling)
        retrieve = partial(self._sources, request.notes, search or question, k, retrieval, pinned, excluded)
        return queue_and_answer(self.engine, request, retrieve, client_id)

    def _sources(self, notes: list[str], question: str, k: int, *how: Any) -> tuple[Source, ...]:
        """`search`, which must have something to search in."""
        found = self.search(question, k, *how)
        if not found:
            notes.append("No block was found: the answer is from no document.")
        if not found and not self.index.n_vectors:
            raise IndexStoreError("the index is empty: add a document before asking")
        return found

    def search(
        self,
        question: str,
        k: int,
        retrieval: Retrieval = DEFAULT_RETRIEVAL,
        pinned: Sequence[BlockRef] = (),
        excluded: Collection[BlockRef] = (),
    ) -> tuple[Source, ...]:
        """The `k` best blocks for a question, best first behind those that are pinned, numbered from 1.

        Raises
        ------
        ArgumentError
            If `question` is empty, `k` below 1, or the index holds none of the documents that `retrieval` names.
        """
        arguments.filled("question", question)
        arguments.instance("retrieval", retrieval, Retrieval)
        pinned, excluded = _refs("pinned", pinned), _refs("excluded", excluded)
        return find_sources(self.engine, self.index, question, arguments.whole("k", k), retrieval, pinned, excluded)


def _refs(name: str, given: Iterable[tuple[str, int]]) -> list[BlockRef]:
    """Blocks given as pairs. Raises ArgumentError for anything else."""
    try:
        return [BlockRef(str(document_id), operator.index(start)) for document_id, start in given]
    except (TypeError, ValueError) as error:
        raise arguments.ArgumentError(f"{name} is {given!r}; give (document id, start) of each block") from error
