"""One collection, as a handler sees it: its documents, how they are cut, and its index. Knows no page and no gradio."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blockrag.documents import Document
from blockrag.errors import BlockRAGError, SegmentationError
from blockrag.pipeline import Pipeline
from blockrag.progress import OnProgress
from blockrag.segment import Edit, Segmentation, SizeBounds
from storage.collections import CollectionRecord
from storage.errors import ConflictError, NotFoundError
from ui.collection_document import Entry
from ui.limits import RateLimiter

if TYPE_CHECKING:
    from ui.collection_service import CollectionService


class GoneError(BlockRAGError):
    """There is no such collection, or it has expired."""


@dataclass
class JobFlags:
    """What the process holds of an open collection beside the database: requests to stop."""

    stop_indexing: bool = False
    stop_loading: bool = False


class OpenCollection:
    """One collection, for one handler's while."""

    def __init__(self, service: "CollectionService", record: CollectionRecord, live: JobFlags):
        self._service = service
        self.library = service.library
        self.store = service.library.store
        self.record = record
        self.live = live

    @property
    def id(self) -> str:
        """The collection's token."""
        return self.record.token

    @property
    def owner(self) -> str:
        """Whose it is."""
        return self.record.owner

    @property
    def meter(self) -> RateLimiter:
        """What counts visitors' demands."""
        return self._service.meter

    @property
    def rag(self) -> Pipeline:
        """Its index, in step with the database."""
        return self.library.rag(self.fresh())

    def fresh(self) -> CollectionRecord:
        """The collection as it is now."""
        return self.store.collections.get(self.owner, self.id)

    @property
    def entries(self) -> Mapping[str, Entry]:
        """All documents, by sha256, in the order they came."""
        indexed = self.store.blocks.starts(self.record.id, self.library.made_by)
        cuts = self.store.segmentations.cuts(self.record.id)
        return {
            record.sha256: Entry(self, record, cuts[record.id], indexed.get(record.id))
            for record in self.store.documents.of(self.record.id)
            if record.id in cuts
        }

    def entry(self, document_id: str | None) -> Entry | None:
        """One document, or None where it is gone."""
        try:
            record = self.store.documents.get(self.record.id, document_id or "")
            cut = self.store.segmentations.cut(record.id)
        except NotFoundError:
            return None
        blocks = self.store.blocks.of(record.id)
        mine = tuple(block.block.start for block in blocks if block.made_by == self.library.made_by)
        return Entry(self, record, cut, mine or None)

    def restored(self, entry: Entry) -> Segmentation:
        """The entry's segmentation, kept ready for the next time."""
        return self._service.ready.get(entry)

    def add(self, document: Document, upload_id: int | None = None, on_progress: OnProgress | None = None) -> None:
        """Segment a document and add it to the collection. The same text twice is one document. If `on_progress`
        raises, nothing is added.

        Raises
        ------
        LimitError
            If the collection, or all together, would hold too much.
        Stopped
            If the application is ending.
        """
        self._service.check_room(len(document.text))
        settings = self.settings
        bounds = SizeBounds(int(settings["min_tokens"]), int(settings["max_tokens"]))
        granularity = float(settings["granularity"])
        with self._service.ending.guarding(on_progress) as tell:
            made, cut = self.library.segment(document, settings["segmenter"], bounds, granularity, tell)
        is_new = self.entry(document.sha256) is None
        document_id = self.store.documents.add(self.record.id, document, cut, self.library.quota, upload_id)
        if is_new:
            self._service.ready.put(document_id, made)
            self._make_ready(document.sha256)

    def _make_ready(self, document_id: str) -> None:
        """Build the tree of boundaries now, which takes seconds in a very long document: the page shows it at once."""
        if entry := self.entry(document_id):
            self.restored(entry).boundaries(entry.granularity)

    @property
    def settings(self) -> dict:
        """The owner's settings; what they did not set is as the application has it."""
        return self._service.settings_of(self.owner)

    def edit(self, document_id: str, make: Callable[[Entry], list[Edit]]) -> None:
        """Keep the edits that `make` finds possible with the document as it is cut. Edits that come together take
        turns, each checked against what the one before left."""
        for _ in range(100):
            entry = self.entry(document_id)
            if entry is None:
                raise SegmentationError("this document was removed meanwhile")
            edits = make(entry)
            try:
                self.store.segmentations.edit(entry.record.id, edits, entry.version)
                return
            except ConflictError:
                continue
        raise ConflictError("this document is being edited by too many at once; try again")

    def undo(self, document_id: str) -> None:
        """Take the last edit back, if there is one."""
        if entry := self.entry(document_id):
            self.store.segmentations.undo(entry.record.id)

    def redo(self, document_id: str) -> None:
        """Make the edit again that was taken back last, if there is one."""
        if entry := self.entry(document_id):
            self.store.segmentations.redo(entry.record.id)

    def set_granularity(self, document_id: str, granularity: float) -> None:
        """SegmentationRecord a document finer or coarser."""
        if not 0 <= granularity <= 1:
            raise SegmentationError(f"Granularity {granularity} is not in [0, 1]; 0 is coarsest, 1 finest.")
        if entry := self.entry(document_id):
            self.store.segmentations.set_granularity(entry.record.id, float(granularity))

    def segment(
        self, document_id: str, segmenter: str, bounds: SizeBounds, on_progress: OnProgress | None = None
    ) -> None:
        """Score a document's boundaries again, by another segmenter or for other sizes; edits are kept. If
        `on_progress` raises, all stays as it was.

        Raises
        ------
        SegmentationError
            If the edits cannot be kept within these sizes.
        Stopped
            If the application is ending.
        """
        entry = self.entry(document_id)
        if entry is None:
            return
        with self._service.ending.guarding(on_progress) as tell:
            made, cut = self.library.segment(entry.document, segmenter, bounds, entry.granularity, tell)
        Segmentation(made.document, made.scored, made.sizes, made.bounds, entry.cut.edits)
        self.store.segmentations.put(entry.record.id, cut)
        self._make_ready(document_id)

    def cut_otherwise(self, entry: Entry, segmenter: str, on_progress: OnProgress | None = None) -> Segmentation:
        """The document by another segmenter, to look at; keeps nothing. Raises Stopped if the application is ending."""
        with self._service.ending.guarding(on_progress) as tell:
            made, _ = self.library.segment(entry.document, segmenter, entry.cut.bounds, on_progress=tell)
        return made

    def remove(self, document_id: str) -> None:
        """Forget a document, its blocks and their KV."""
        if entry := self.entry(document_id):
            self.library.delete_document(self.fresh(), entry.record)

    def index(self, entry: Entry, on_progress: OnProgress | None = None) -> None:
        """Index a document as it is cut now. If `on_progress` raises, the index stays as it was. A document that is
        removed meanwhile ends it."""
        blocks = entry.segmentation.blocks(entry.granularity)
        try:
            with self._service.ending.guarding(on_progress) as tell:
                self.library.index(self.fresh(), entry.record.id, entry.document, blocks, tell)
        except NotFoundError:
            return
