"""One collection, opened for one handler: its documents, their segmentations, its index. No gradio."""

from collections.abc import Callable
from dataclasses import dataclass

from blockrag.admission import ClientId
from blockrag.documents import Document
from blockrag.errors import BlockRAGError, SegmentationError
from blockrag.pipeline import Pipeline
from blockrag.progress import OnProgress
from blockrag.segment import Edit, Segmentation, SizeBounds
from storage.collections import CollectionRecord
from storage.errors import ConflictError, NotFoundError
from storage.library import Library
from storage.store import Store
from ui import strings
from ui.collection_document import CollectionDocument, SegmentationCache
from ui.jobs import Shutdown
from ui.limits import RateLimiter
from ui.preferences import DEFAULTS
from ui.worker import Worker

EDIT_PAUSE_S = 2.0
"""Between an edit of the blocks and the indexing of what it changed: more edits may follow."""


class GoneError(BlockRAGError):
    """There is no such collection, or it has expired."""


@dataclass
class OpenCollection:
    """A collection and what its handlers share with all others.

    Attributes
    ----------
    record : CollectionRecord
        As it was when the collection was opened. A new visitor's has no row yet: its id is 0, see `keep`.
    default_segmenter : str
        For owners who chose none.
    create : callable
        Creates the row.
    address : str
        That of the caller, as limits count it; "" if it tells nothing.
    """

    record: CollectionRecord
    library: Library
    limiter: RateLimiter
    shutdown: Shutdown
    segmentations: SegmentationCache
    worker: Worker
    default_segmenter: str
    create: Callable[[], CollectionRecord]
    address: str = ""

    def keep(self) -> None:
        """Give a new visitor's collection its row. Call it before anything is stored. Raises LimitError."""
        if not self.record.id:
            self.record = self.create()

    @property
    def token(self) -> str:
        """The collection's unguessable name."""
        return self.record.token

    @property
    def owner(self) -> str:
        """Who owns it."""
        return self.record.owner

    @property
    def client_id(self) -> ClientId:
        """Who is charged for answers; see `FairQueue`."""
        return (self.address, self.owner) if self.address else self.owner

    @property
    def store(self) -> Store:
        """The database."""
        return self.library.store

    @property
    def pipeline(self) -> Pipeline:
        """Search and answers over its index."""
        return self.library.pipeline(self.record)

    @property
    def settings(self) -> dict:
        """The owner's settings over the application's defaults."""
        return {**DEFAULTS, "segmenter": self.default_segmenter, **self.store.settings.of(self.owner)}

    @property
    def documents(self) -> dict[str, CollectionDocument]:
        """All documents by id, in the order they were added."""
        indexed = self.store.blocks.starts(self.record.id, self.library.made_by)
        saved = self.store.segmentations.of_collection(self.record.id)
        return {
            record.document_id: CollectionDocument(record, saved[record.id], indexed.get(record.id), self.segmentations)
            for record in self.store.documents.of(self.record.id)
            if record.id in saved
        }

    def find(self, document_id: str | None) -> CollectionDocument | None:
        """Return one document, or None if it is gone."""
        try:
            record = self.store.documents.get(self.record.id, document_id or "")
            saved = self.store.segmentations.get(record.id)
        except NotFoundError:
            return None
        indexed = tuple(block.start for block in self.store.blocks.of(record.id, self.library.made_by))
        return CollectionDocument(record, saved, indexed or None, self.segmentations)

    def add(self, document: Document, upload_id: int | None = None, on_progress: OnProgress | None = None) -> None:
        """Segment a document and add it, in place of the one from the same source. If `on_progress` raises, nothing
        changes.

        Raises
        ------
        LimitError
            If the collection, or all collections together, would hold too much.
        Stopped
            If the application is shutting down.
        """
        self.store.documents.check(self.record.id, document, self.library.quota)
        settings = self.settings
        bounds = SizeBounds(int(settings["min_tokens"]), int(settings["max_tokens"]))
        with self.shutdown.guarding(on_progress) as report:
            segmentation, new = self.library.segment(
                document, settings["segmenter"], bounds, float(settings["granularity"]), report
            )
        known = self.find(document.id)
        row_id = self.store.documents.add(self.record.id, segmentation.document, new, self.library.quota, upload_id)
        if known is None or known.record.sha256 != document.sha256:
            self.library.discard_file(known.record.file if known else None)
            self.segmentations.put(row_id, segmentation)
            self._build_tree(document.id)
        self.worker.changed(self.record.id)

    def _build_tree(self, document_id: str) -> None:
        """Build the boundary tree now: it takes seconds in a very long document, and the page shows it next."""
        if document := self.find(document_id):
            document.segmentation.boundaries(document.saved.granularity)

    def edit(self, document_id: str, make_edits: Callable[[CollectionDocument], list[Edit]]) -> None:
        """Save the edits that `make_edits` returns for the document as it is. Concurrent edits run one after another,
        each checked against the result of the one before.

        Raises
        ------
        SegmentationError
            If the document is gone, or from `make_edits`.
        """
        for _ in range(100):
            document = self.find(document_id)
            if document is None:
                raise SegmentationError(strings.REMOVED)
            edits = make_edits(document)
            try:
                self.store.segmentations.edit(document.record.id, edits, document.saved.version)
                return self._blocks_changed(document)
            except ConflictError:
                continue
        raise ConflictError("too many people are editing this document at once; try again")

    def undo(self, document_id: str) -> None:
        """Undo the last edit, if there is one."""
        if document := self.find(document_id):
            self.store.segmentations.undo(document.record.id)
            self._blocks_changed(document)

    def redo(self, document_id: str) -> None:
        """Redo the edit undone last, if there is one."""
        if document := self.find(document_id):
            self.store.segmentations.redo(document.record.id)
            self._blocks_changed(document)

    def set_granularity(self, document_id: str, granularity: float) -> None:
        """Make a document's blocks finer or coarser. Raises SegmentationError outside [0, 1]."""
        if not 0 <= granularity <= 1:
            raise SegmentationError(f"Granularity {granularity} is not in [0, 1]; 0 is coarsest, 1 finest.")
        if document := self.find(document_id):
            self.store.segmentations.set_granularity(document.record.id, float(granularity))
            self._blocks_changed(document)

    def segment(
        self, document_id: str, segmenter: str, bounds: SizeBounds, on_progress: OnProgress | None = None
    ) -> None:
        """Segment a document again, with another segmenter or other sizes, and keep its edits. If `on_progress` raises,
        nothing changes.

        Raises
        ------
        SegmentationError
            If the edits do not fit these sizes.
        Stopped
            If the application is shutting down.
        """
        document = self.find(document_id)
        if document is None:
            return
        with self.shutdown.guarding(on_progress) as report:
            made, new = self.library.segment(document.content, segmenter, bounds, document.saved.granularity, report)
        Segmentation(made.document, made.scored, made.sizes, made.bounds, document.saved.edits)
        self.store.segmentations.put(document.record.id, new)
        self._build_tree(document_id)
        self._blocks_changed(document)

    def _blocks_changed(self, document: CollectionDocument) -> None:
        """End the indexing of the blocks as they were, and index them soon, unless the owner indexes by hand."""
        if self.settings["auto_index"]:
            self.worker.request(self.record.id, document.record.id, EDIT_PAUSE_S)
        self.worker.cancel(self.record.id, document_id=document.record.id)

    def preview(
        self, document: CollectionDocument, segmenter: str, on_progress: OnProgress | None = None
    ) -> Segmentation:
        """Segment a document with another segmenter and save nothing. Raises Stopped at shutdown."""
        with self.shutdown.guarding(on_progress) as report:
            made, _ = self.library.segment(document.content, segmenter, document.saved.bounds, on_progress=report)
        return made

    def remove(self, document_id: str) -> None:
        """Delete a document, its blocks and their KV; ends its indexing. Raises NotFoundError."""
        record = self.store.documents.get(self.record.id, document_id)
        self.worker.cancel(self.record.id, document_id=record.id)
        self.library.delete_document(self.record, record)
        self.worker.changed(self.record.id)

    def index(self, document: CollectionDocument, on_progress: OnProgress | None = None) -> None:
        """Index a document's blocks as they are now. If `on_progress` raises, the index stays as it was. Ends early if
        the document is removed meanwhile."""
        blocks = document.segmentation.blocks(document.saved.granularity)
        try:
            with self.shutdown.guarding(on_progress) as report:
                self.library.index(self.record, document.record.id, document.content, blocks, report)
            self.store.segmentations.note_indexed(document.record.id, document.saved.cut)
        except NotFoundError:
            return
        self.worker.changed(self.record.id)
