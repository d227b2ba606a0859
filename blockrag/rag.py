"""The library in three calls: load models, index documents, ask.

rag = BlockRAG.from_pretrained("smollm2", directory="my-documents")
rag.index("report.pdf", "notes.md")
print(rag.ask("Who wrote the report?").text)
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

from blockrag import arguments
from blockrag.documents import Document, load
from blockrag.documents.folder import find_files
from blockrag.engine import Engine
from blockrag.events import Answer, Event, Mode
from blockrag.generate import GREEDY, Sampling
from blockrag.index import DocumentRecord
from blockrag.models import DEFAULT_EMBEDDER, DEFAULT_MODEL
from blockrag.models.choose import choose_for_store, note_model
from blockrag.pipeline import Pipeline
from blockrag.progress import OnProgress
from blockrag.segment import DEFAULT_GRANULARITY, DEFAULT_SEGMENTER, SizeBounds
from blockrag.sync import SyncStep, sync

Readable = str | os.PathLike[str] | Document | Iterable["Readable"]


class BlockRAG:
    """Answers questions from documents whose blocks are encoded once.

    Parameters
    ----------
    engine : Engine
        May be shared by many.
    directory : path
        Folder of the index; made if it does not exist.

    Attributes
    ----------
    engine : Engine
    pipeline : Pipeline
        The layer below: it streams answers, and takes an index of another kind.

    Raises
    ------
    IndexStoreError
        If the directory holds an index that other models made.
    """

    def __init__(self, engine: Engine, directory: str | os.PathLike[str]):
        self.engine = engine
        self.pipeline = Pipeline.open(engine, Path(directory))
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str = DEFAULT_MODEL,
        *,
        directory: str | os.PathLike[str] | None = None,
        embedder: str = DEFAULT_EMBEDDER,
        device: str | None = None,
        **settings: Any,
    ) -> "BlockRAG":
        """Load models, fetching them where they are absent.

        Parameters
        ----------
        model, embedder : str
            See `Engine.from_pretrained`; in a directory that holds an index, ``auto`` is the model that made it.
        directory : path, optional
            Folder of the index and of block KV; without it they last as long as this object.
        device : str, optional
            Such as ``"cpu"`` or ``"cuda"``; by default a GPU where there is one.
        **settings
            The other parameters of `Engine.from_pretrained`: budgets in bytes, a store that a team shares, 8 bits at
            rest.

        Raises
        ------
        WeightsError, UnsupportedModelError, KVTierError, IndexStoreError
        """
        arguments.known("BlockRAG.from_pretrained", settings, signature(Engine.from_pretrained).parameters)
        temporary = tempfile.TemporaryDirectory(prefix="blockrag-") if directory is None else None
        folder = Path(temporary.name if temporary else os.fspath(directory or ""))
        settings.setdefault("kv_dir", folder / "kv")
        name = choose_for_store(folder, device).name if model == DEFAULT_MODEL else model
        rag = cls(Engine.from_pretrained(name, embedder=embedder, device=device, **settings), folder)
        note_model(folder, name)
        rag._temporary = temporary
        return rag

    def index(
        self,
        *sources: Readable,
        granularity: float = DEFAULT_GRANULARITY,
        segmenter: str = DEFAULT_SEGMENTER,
        bounds: SizeBounds | None = None,
        on_progress: OnProgress | None = None,
        encoding: str | None = None,
    ) -> tuple[DocumentRecord, ...]:
        """Cut documents into blocks, embed each and encode its KV. A document replaces the one that was indexed from
        the same source, and only blocks that changed are computed.

        Parameters
        ----------
        *sources : path or Document
            Files (see `load`), folders, patterns such as ``papers/**/*.pdf``, or lists of these; to continue
            after one that cannot be read, use `load_many` and give its documents.
        granularity : float
            From 0 (coarsest) to 1 (finest).
        segmenter : str
            A key of `blockrag.segment.SEGMENTERS`.
        bounds : SizeBounds, optional
            Fewest and most tokens of a block.
        on_progress : callable, optional
            Called after each step; raise `Stopped` from it to stop.
        encoding : str, optional
            Of files of text; by default it is found.

        Returns
        -------
        tuple of DocumentRecord
            One for each source.

        Raises
        ------
        DocumentError
            If a source cannot be read; those before it are indexed.
        SegmentationError
            If there is no such segmenter, or the bounds are impossible.
        """
        return tuple(
            self._index(document, granularity, segmenter, bounds, on_progress)
            for document in _documents(sources, encoding)
        )

    def sync(
        self,
        folder: str | os.PathLike[str],
        *,
        granularity: float = DEFAULT_GRANULARITY,
        segmenter: str = DEFAULT_SEGMENTER,
        bounds: SizeBounds | None = None,
        on_progress: OnProgress | None = None,
    ) -> tuple[SyncStep, ...]:
        """Bring the index in step with a folder: add new files, replace changed ones, delete documents of files that
        are gone. Files that cannot be read are reported, and what the index holds of them stays.

        Parameters
        ----------
        folder : path
            All files in it and below it whose suffix is read, but no hidden ones and no links.
        granularity, segmenter, bounds, on_progress
            See `index`.

        Returns
        -------
        tuple of SyncStep
            One for each file.

        Raises
        ------
        DocumentError
            If `folder` is no folder.
        """

        def add(document: Document) -> DocumentRecord:
            return self._index(document, granularity, segmenter, bounds, on_progress)

        return tuple(sync(self.pipeline, folder, add))

    def _index(
        self,
        document: Document,
        granularity: float,
        segmenter: str,
        bounds: SizeBounds | None,
        on_progress: OnProgress | None,
    ) -> DocumentRecord:
        segmentation = self.pipeline.segment(document, segmenter, bounds, on_progress)
        return self.pipeline.add(segmentation, granularity, on_progress)

    def ask(
        self,
        question: str,
        *,
        mode: Mode = "block",
        k: int = 8,
        max_new_tokens: int = 128,
        sampling: Sampling = GREEDY,
    ) -> Answer:
        """Answer from the `k` blocks nearest to the question; see `Pipeline.ask`, whose last event this is.

        Returns
        -------
        Answer
            Its text, sources, citations, and the report of its cost.

        Raises
        ------
        IndexStoreError
            If nothing is indexed.
        PromptTooLongError, BusyError, DeviceMemoryError
        """
        answer = None
        for event in self.stream(question, mode=mode, k=k, max_new_tokens=max_new_tokens, sampling=sampling):
            answer = event
        assert isinstance(answer, Answer), "an answer ends its stream"
        return answer

    def stream(
        self,
        question: str,
        *,
        mode: Mode = "block",
        k: int = 8,
        max_new_tokens: int = 128,
        sampling: Sampling = GREEDY,
    ) -> Iterator[Event]:
        """The same, event by event: `Pipeline.ask`."""
        return self.pipeline.ask(question, mode, k, max_new_tokens, sampling=sampling)

    def documents(self) -> list[DocumentRecord]:
        """All documents, in the order they were added."""
        return self.pipeline.index.documents()

    def delete(self, document_id: str) -> None:
        """Remove a document (by the `id` of its record), its blocks, their vectors and their KV.

        Raises
        ------
        UnknownDocumentError
            If nothing is indexed under this id.
        """
        self.pipeline.delete(document_id)

    def close(self) -> None:
        """Close the index. Without a directory, index and KV are deleted."""
        self.pipeline.index.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> "BlockRAG":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _documents(sources: Iterable[Readable], encoding: str | None) -> Iterator[Document]:
    for source in sources:
        if isinstance(source, Document):
            yield source
        elif isinstance(source, str | os.PathLike):
            yield from (load(path, encoding=encoding) for path in find_files(source))
        else:
            yield from _documents(source, encoding)
