"""The stages in order: load -> segment -> index -> retrieve -> assemble -> generate -> cite. One collection's library.

pipeline = Pipeline(Engine.from_pretrained(kv_dir=folder / "kv"), folder)
for progress in pipeline.add(pipeline.segment(load("report.pdf")), granularity=0.5): ...
for event in pipeline.ask("Who wrote it?"): ...
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from blockrag.answer import Event, Mode, Source
from blockrag.answering import Request
from blockrag.asking import answer_in_turn
from blockrag.documents import Document
from blockrag.engine import Engine, Progress
from blockrag.errors import IndexStoreError
from blockrag.index import Found, Index
from blockrag.segment import DEFAULT_GRANULARITY, DEFAULT_SEGMENTER, Segmentation, SizeBounds, make_segmenter
from blockrag.stopwatch import Stopwatch

EMBED_BATCH = 32


class Pipeline:
    """Answers questions from the documents of one index, telling of each step while it is taken.

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
        self, document: Document, segmenter: str = DEFAULT_SEGMENTER, bounds: SizeBounds | None = None
    ) -> Segmentation:
        """Score the boundaries of a document; which of them become blocks is the granularity's choice.

        Raises
        ------
        SegmentationError
            If there is no such segmenter.
        """
        counter = self.engine.token_counter
        scorer = make_segmenter(segmenter, counter=counter, embed=self.engine.embedder.embed)
        return Segmentation.create(document, scorer, counter, bounds or SizeBounds())

    def add(self, segmentation: Segmentation, granularity: float = DEFAULT_GRANULARITY) -> Iterator[Progress]:
        """Index a document: embed its blocks, encode their KV, then enter both at once.

        Closing the generator before it ends leaves the index as it was; KV that is encoded by then is kept and used
        next time.

        Yields
        ------
        Progress
            Of stage ``"embed"``, then ``"encode"``.
        """
        document = segmentation.document
        blocks = segmentation.blocks(granularity)
        texts = [document.text[block.start : block.end] for block in blocks]
        vectors = []
        for start in range(0, len(texts), EMBED_BATCH):
            vectors.append(self.engine.embedder.embed(texts[start : start + EMBED_BATCH]))
            yield Progress("embed", min(start + EMBED_BATCH, len(texts)), len(texts))
        yield from self.engine.warm(texts)
        keys = [self.engine.kv_key(text) for text in texts]
        for orphan in self.index.add(document, blocks, np.concatenate(vectors), keys):
            self.engine.kv.delete(orphan)

    def delete(self, document_id: str) -> None:
        """Remove a document, its blocks, their vectors and their KV."""
        for orphan in self.index.delete(document_id):
            self.engine.kv.delete(orphan)

    def ask(
        self, question: str, mode: Mode = "block", k: int = 8, max_new_tokens: int = 128, asker: str = ""
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
        asker : str
            Who asks; where many do, they take turns.

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
        yield from answer_in_turn(self.engine, request, lambda: self.search(question, k), asker)

    def search(self, question: str, k: int) -> tuple[Source, ...]:
        """The `k` blocks nearest to the question, best first, numbered from 1."""
        found = self.index.search(self.engine.embedder.embed([question])[0], k)
        return tuple(_source(n, f) for n, f in enumerate(found, start=1))


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


BlockRAG = Pipeline
"""The name by which the application and the command line know it."""
