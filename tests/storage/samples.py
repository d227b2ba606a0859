"""Documents, segmentations and answers to store."""

import numpy as np

from blockrag.documents import Document
from blockrag.events import Answer, Citation, Report, Source
from blockrag.index import IndexedBlock
from blockrag.segment import HFTokenCounter, Scored, Segmentation, SizeBounds, Structural
from storage.segmentations import NewSegmentation
from tests.samples import RIVER_SECTIONS
from tests.tiny import tiny_tokenizer

TEXT = RIVER_SECTIONS


def document(name: str = "rivers.md", text: str = TEXT) -> Document:
    return Document(name, "text/markdown", text)


def segmentation_of(text: str = TEXT, granularity: float = 0.5) -> NewSegmentation:
    return NewSegmentation("structural", Structural().boundaries(text), SizeBounds(16, 128), granularity)


def other_segmentation() -> NewSegmentation:
    return NewSegmentation("fixed", Scored(np.array([5, 9]), np.array([0.25, 1.0])), SizeBounds(1, 16), 0.3)


def blocks_of(text: str = TEXT, granularity: float = 0.5, edits=()):
    counter = HFTokenCounter(tiny_tokenizer())
    saved = segmentation_of(text)
    return Segmentation.restore(document(text=text), saved.scored, counter, saved.bounds, edits).blocks(granularity)


def indexed(blocks, keys) -> list[IndexedBlock]:
    """Blocks as an index keeps them, under these KV keys."""
    return [
        IndexedBlock(block.start, block.end, block.n_tokens, block.score, key)
        for block, key in zip(blocks, keys, strict=True)
    ]


def vectors(n: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def answer_of(doc: Document, mode: str = "block", question: str = "How long?") -> Answer:
    def source(number: int, start: int, end: int) -> Source:
        text = doc.text[start:end]
        return Source(number, doc.name, doc.id, start, end, text, 0.5, 7, source=doc.source)

    report = Report(mode, 1, 2, 3, 4, 5, 15, 9.0, 100, 10, 90, 5, {"memory": 2}, 1, "plain", 0.0, ("a note",))
    return Answer(
        question, "Twelve miles.", (source(1, 0, 20), source(2, 20, 40)), report, (Citation(0, 13, 2, 0.5),), "end",
        (source(3, 40, 60),),
    )  # fmt: skip
