"""The library in three calls: load models, index documents, ask.

rag = BlockRAG.from_pretrained("smollm2", directory="my-documents")
rag.index("report.pdf", "notes.md")
print(rag.ask("Who wrote the report?").text)
"""

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import blockrag  # its names are imported on first use: the model libraries take seconds
from blockrag import arguments
from blockrag.documents import Document, load_many
from blockrag.documents.folder import find_files
from blockrag.errors import ArgumentError, DocumentError, IndexStoreError
from blockrag.events import Answer, Event, Mode, Source
from blockrag.models import DEFAULT_EMBEDDER, DEFAULT_MODEL
from blockrag.models.choose import choose_for_store, note_model
from blockrag.progress import OnProgress, progress_bars
from blockrag.segment import DEFAULT_GRANULARITY, DEFAULT_SEGMENTER, SEGMENTERS, SizeBounds
from blockrag.sync import SyncStep, step, sync

if TYPE_CHECKING:
    from blockrag.admission import Stream
    from blockrag.engine import Engine
    from blockrag.generate import Sampling
    from blockrag.index import DocumentRecord
    from blockrag.pipeline import Pipeline
    from blockrag.retrieval import Retrieval

Readable = str | os.PathLike[str] | Document | Iterable["Readable"]
"""What can be indexed; also LlamaIndex's ``Document``, whose class is not imported here."""


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

    Raises
    ------
    ArgumentError
        If the directory is none.
    IndexStoreError
        If the directory holds an index that other models made; by every call after `close`.
    """

    def __init__(self, engine: "Engine", directory: str | os.PathLike[str]):
        self.engine, self._directory = engine, arguments.folder("directory", directory)
        self._pipeline: Pipeline | None = blockrag.Pipeline.open(engine, self._directory)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @property
    def pipeline(self) -> "Pipeline":
        """The layer below: it streams answers, and takes an index of another kind."""
        if self._pipeline is None:
            raise IndexStoreError(f"the index in {self._directory} is closed; make another BlockRAG to open it again")
        return self._pipeline

    def __repr__(self) -> str:
        state = "closed" if self._pipeline is None else f"{len(self.documents())} documents"
        return f"BlockRAG({str(self._directory)!r}, {state}, {self.engine!r})"

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
            The other parameters of `Engine.from_pretrained`: the type to compute in, budgets, a store that a team
            shares, 8 bits at rest.

        Raises
        ------
        ArgumentError, WeightsError, UnsupportedModelError, KVTierError, IndexStoreError
        """
        arguments.known("BlockRAG.from_pretrained", settings, signature(blockrag.Engine.from_pretrained).parameters)
        temporary = tempfile.TemporaryDirectory(prefix="blockrag-") if directory is None else None
        folder = Path(temporary.name) if temporary else arguments.folder("directory", directory)
        settings.setdefault("kv_dir", folder / "kv")
        name = choose_for_store(folder, device).name if model == DEFAULT_MODEL else model
        rag = cls(blockrag.Engine.from_pretrained(name, embedder=embedder, device=device, **settings), folder)
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
        ocr: bool = False,
    ) -> "tuple[DocumentRecord, ...]":
        """Cut documents into blocks, embed each and encode its KV. A document replaces the one that was indexed from
        the same source, and only blocks that changed are computed.

        Parameters
        ----------
        *sources : path or Document
            Files (see `load`), folders, patterns such as ``papers/**/*.pdf``, documents of this library or of
            LlamaIndex, or lists of these; to continue after one that cannot be read, use `load_many` and give its
            documents.
        granularity : float
            From 0 (coarsest) to 1 (finest).
        segmenter : str
            A key of `blockrag.segment.SEGMENTERS`.
        bounds : SizeBounds, optional
            Fewest and most tokens of a block.
        on_progress : callable, optional
            Called after each step; raise `Stopped` from it to stop. By default a terminal or a notebook gets bars.
        encoding : str, optional
            Of text files; by default it is found.
        ocr : bool
            Read scanned pages by OCR; see `load`.

        Returns
        -------
        tuple of DocumentRecord
            One for each source.

        Raises
        ------
        DocumentError
            If a source cannot be read; those before it are indexed.
        ArgumentError
            Before anything is read, if an argument has a value that is not allowed; if a source is neither a path nor a
            Document.
        """
        add = self._adder(granularity, segmenter, bounds, on_progress, encoding, ocr)
        return tuple(map(add, _documents(sources, encoding, ocr)))

    def update(
        self,
        *sources: Readable,
        granularity: float = DEFAULT_GRANULARITY,
        segmenter: str = DEFAULT_SEGMENTER,
        bounds: SizeBounds | None = None,
        on_progress: OnProgress | None = None,
        encoding: str | None = None,
        ocr: bool = False,
    ) -> tuple[SyncStep, ...]:
        """Index what changed: a source whose text and metadata the index has already is left alone.

        Parameters
        ----------
        *sources : path or Document
            See `index`; without any, all files that the index holds are read again.
        granularity, segmenter, bounds, on_progress, encoding, ocr
            See `index`.

        Returns
        -------
        tuple of SyncStep
            One for each document. A file that is gone has failed, and what the index holds of it stays; see `sync`
            and `delete`.

        Raises
        ------
        DocumentError
            If a given source cannot be read; those before it are indexed.
        ArgumentError
        """
        add = self._adder(granularity, segmenter, bounds, on_progress, encoding, ocr)
        held = {record.source: record for record in self.documents()}
        found: Iterable[tuple[str, Document | DocumentError]]
        if sources:
            found = ((document.source, document) for document in _documents(sources, encoding, ocr))
        else:
            files = [source for source in held if os.path.isabs(source)]
            found = zip(files, load_many(map(Path, files), encoding=encoding, ocr=ocr), strict=True)
        return tuple(step(source, document, held, add) for source, document in found)

    def sync(
        self,
        folder: str | os.PathLike[str],
        *,
        granularity: float = DEFAULT_GRANULARITY,
        segmenter: str = DEFAULT_SEGMENTER,
        bounds: SizeBounds | None = None,
        on_progress: OnProgress | None = None,
        encoding: str | None = None,
        ocr: bool = False,
    ) -> tuple[SyncStep, ...]:
        """Bring the index in step with a folder: add new files, replace changed ones, delete documents of files that
        are gone. Files that cannot be read are reported, and what the index holds of them stays.

        Parameters
        ----------
        folder : path
            All files in it and below it whose suffix is read, but no hidden ones and no links.
        granularity, segmenter, bounds, on_progress, encoding, ocr
            See `index`.

        Returns
        -------
        tuple of SyncStep
            One for each file.

        Raises
        ------
        DocumentError
            If `folder` is no folder.
        ArgumentError
        """
        add = self._adder(granularity, segmenter, bounds, on_progress, encoding, ocr)
        return tuple(sync(self.pipeline, folder, add, encoding=encoding, ocr=ocr))

    async def aindex(self, *sources: Readable, **options: Any) -> "tuple[DocumentRecord, ...]":
        """`index` in a thread."""
        return await asyncio.to_thread(self.index, *sources, **options)

    def _adder(
        self,
        granularity: float,
        segmenter: str,
        bounds: SizeBounds | None,
        on_progress: OnProgress | None,
        encoding: str | None,
        ocr: bool,
    ) -> "Callable[[Document], DocumentRecord]":
        """What indexes one document with these options, which are checked before anything is read."""
        arguments.fraction("granularity", granularity)
        arguments.one_of("segmenter", segmenter, SEGMENTERS)
        if bounds is not None:
            arguments.instance("bounds", bounds, SizeBounds)
        arguments.function("on_progress", on_progress)
        arguments.encoding("encoding", encoding)
        arguments.flag("ocr", ocr)

        def add(document: Document) -> "DocumentRecord":
            with progress_bars(document.name) as bars:
                segmentation = self.pipeline.segment(document, segmenter, bounds, on_progress or bars)
                return self.pipeline.add(segmentation, granularity, on_progress or bars)

        return add

    def ask(
        self,
        question: str,
        *,
        mode: Mode = "block",
        k: int = 8,
        max_new_tokens: int = 128,
        sampling: "Sampling | None" = None,
        retrieval: "Retrieval | None" = None,
    ) -> Answer:
        """Answer from the `k` best blocks for the question; see `Pipeline.ask`, whose last event this is.

        Returns
        -------
        Answer
            Its text, sources, citations, and the report of its cost.

        Raises
        ------
        IndexStoreError
            If nothing is indexed.
        ArgumentError, PromptTooLongError, BusyError, DeviceMemoryError
        """
        answer = None
        options: dict[str, Any] = {"mode": mode, "k": k, "max_new_tokens": max_new_tokens}
        for event in self.stream(question, **options, sampling=sampling, retrieval=retrieval):
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
        sampling: "Sampling | None" = None,
        retrieval: "Retrieval | None" = None,
    ) -> "Stream[Event]":
        """The same, event by event, with ``for`` or ``async for``: `Pipeline.ask`."""
        sampling = blockrag.Sampling() if sampling is None else sampling
        retrieval = blockrag.Retrieval() if retrieval is None else retrieval
        return self.pipeline.ask(question, mode, k, max_new_tokens, sampling=sampling, retrieval=retrieval)

    def search(self, question: str, *, k: int = 8, retrieval: "Retrieval | None" = None) -> tuple[Source, ...]:
        """The `k` best blocks for a question, without an answer; see `Pipeline.search`."""
        return self.pipeline.search(question, k, blockrag.Retrieval() if retrieval is None else retrieval)

    async def aask(self, question: str, **options: Any) -> Answer:
        """`ask` in a thread; cancelling stops it."""
        async with aclosing(aiter(self.stream(question, **options))) as events:
            return cast(Answer, [event async for event in events][-1])

    def documents(self) -> "list[DocumentRecord]":
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
        """Close the index, if it is not closed. Without a directory, index and KV are deleted."""
        if self._pipeline is not None:
            self._pipeline.index.close()
            self._pipeline = None
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> "BlockRAG":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _documents(sources: Iterable[Readable], encoding: str | None, ocr: bool) -> Iterator[Document]:
    for source in sources:
        if isinstance(source, Document):
            yield source
        elif isinstance(source, str | os.PathLike):
            for found in load_many(find_files(source), encoding=encoding, ocr=ocr):
                if isinstance(found, DocumentError):
                    raise found
                yield found
        elif any(base.__module__.startswith("llama_index.") for base in type(source).__mro__):
            yield _from_llamaindex(source)
        elif isinstance(source, Iterable) and not isinstance(source, bytes | Mapping):
            yield from _documents(source, encoding, ocr)
        else:
            raise ArgumentError(f"a source is {source!r}; give a path, a Document, or a list of them")


def _from_llamaindex(node: Any) -> Document:
    """A document of LlamaIndex. Its source is the file that it was read from, or its id; each page of a file that was
    read page by page is a document."""
    about = json.loads(json.dumps(node.metadata, default=str))
    path, page = about.get("file_path"), about.get("page_label")
    source = f"{path}#page={page}" if path and page else path or node.node_id
    name = str(about.get("file_name") or source)
    text = node.get_content()  # without metadata, which LlamaIndex adds for embeddings and prompts
    return Document(f"{name}, page {page}" if path and page else name, "text/plain", text, str(source), metadata=about)
