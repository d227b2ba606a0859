"""A document of a collection, and the cache of its segmentation. No gradio."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

from blockrag.documents import Document
from blockrag.segment import Segmentation
from storage.documents import DocumentRecord
from storage.library import Library
from storage.segmentations import SegmentationRecord

MAX_CACHED = 64
"""Segmentations in the cache; each holds its document's text."""


class SegmentationCache:
    """The most recently used segmentations, so that the next use tokenises nothing. Thread-safe. Concurrent requests
    for one document wait for the first, so it is tokenised once."""

    def __init__(self, library: Library):
        self._library = library
        self._lock = threading.Lock()
        self._document_locks = [threading.Lock() for _ in range(MAX_CACHED)]
        self._cached: OrderedDict[int, tuple[int | None, Segmentation]] = OrderedDict()

    def put(self, document_id: int, segmentation: Segmentation) -> None:
        """Keep the tokens of a document that was just segmented; scores and edits are read at the next `get`."""
        self._put(document_id, None, segmentation)

    def get(self, record: DocumentRecord, saved: SegmentationRecord) -> Segmentation:
        """Return a document's segmentation with the edits in force."""
        with self._document_locks[record.id % MAX_CACHED]:
            with self._lock:
                version, segmentation = self._cached.get(record.id, (None, None))
            if segmentation is None or segmentation.document.sha256 != record.sha256:
                document = self._library.store.documents.read(record.id)
                segmentation = self._library.restore(document, record.id, saved)
            elif version != saved.version:
                scored = self._library.store.segmentations.scored(record.id)
                segmentation = Segmentation(
                    segmentation.document, scored, segmentation.sizes, saved.bounds, saved.edits
                )  # the same text, so its tokens stay
            self._put(record.id, saved.version, segmentation)
        return segmentation

    def note_indexed(self, document_id: int, cut: str) -> None:
        """Note that the index holds the blocks of this cut."""
        self._library.store.segmentations.note_indexed(document_id, cut)

    def _put(self, document_id: int, version: int | None, segmentation: Segmentation) -> None:
        with self._lock:
            self._cached[document_id] = (version, segmentation)
            self._cached.move_to_end(document_id)
            while len(self._cached) > MAX_CACHED:
                self._cached.popitem(last=False)


@dataclass
class CollectionDocument:
    """A document of a collection as it was when the handler asked. Text and segmentation are read when they are used.

    Attributes
    ----------
    record : DocumentRecord
    saved : SegmentationRecord
        Segmenter, granularity, sizes and edits. Its version grows with every change.
    indexed_starts : tuple of int or None
        Where the indexed blocks start, in characters; None if the document is not indexed.
    cache : SegmentationCache
    """

    record: DocumentRecord
    saved: SegmentationRecord
    indexed_starts: tuple[int, ...] | None
    cache: SegmentationCache

    @cached_property
    def segmentation(self) -> Segmentation:
        """The segmentation with the edits in force."""
        return self.cache.get(self.record, self.saved)

    @property
    def content(self) -> Document:
        """The document with its text."""
        return self.segmentation.document

    @property
    def starts(self) -> tuple[int, ...]:
        """Where blocks start now, in characters."""
        return (0, *self.segmentation.boundaries(self.saved.granularity)[0].tolist())

    @property
    def is_indexed(self) -> bool:
        """Whether the index holds the blocks as they are now. What an earlier program indexed is compared once."""
        if self.indexed_starts is None or self.saved.indexed_cut == self.saved.cut:
            return self.indexed_starts is not None
        is_same = self.indexed_starts == self.starts
        if is_same:
            self.cache.note_indexed(self.record.id, self.saved.cut)
        return is_same
