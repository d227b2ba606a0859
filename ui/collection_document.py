"""A document of a collection as a handler sees it, and segmentations kept ready. Knows no page and no gradio."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from blockrag.documents import Document
from blockrag.segment import Segmentation
from storage.documents import DocumentRecord
from storage.library import Library
from storage.segmentations import SegmentationRecord

if TYPE_CHECKING:
    from ui.open_collection import OpenCollection

CACHED_DOCUMENTS = 64
"""Segmentations kept ready; one holds its document's text."""


@dataclass
class Entry:
    """A document of a collection as it was when the handler asked. What is heavy is read when it is used.

    `version` grows with every change of the segmentation, so that a page can tell an older view from a newer one.
    """

    workspace: "OpenCollection"
    record: DocumentRecord
    cut: SegmentationRecord
    indexed: tuple[int, ...] | None

    @property
    def version(self) -> int:
        """Of the segmentation."""
        return self.cut.version

    @property
    def segmenter(self) -> str:
        """Name of the segmenter."""
        return self.cut.segmenter

    @property
    def granularity(self) -> float:
        """From 0 to 1."""
        return self.cut.granularity

    @cached_property
    def segmentation(self) -> Segmentation:
        """The segmentation, with the edits in force."""
        return self.workspace.restored(self)

    @property
    def document(self) -> Document:
        """The document."""
        return self.segmentation.document

    @property
    def starts(self) -> tuple[int, ...]:
        """Where blocks begin now, in characters."""
        return (0, *self.segmentation.boundaries(self.granularity)[0].tolist())

    @property
    def is_indexed(self) -> bool:
        """Whether the index holds the present cut."""
        return self.indexed == self.starts


class SegmentationCache:
    """Segmentations that were used last, so that the next use tokenises nothing. Safe to use from several threads:
    those that ask for one document at once take turns, so that it is tokenised once."""

    def __init__(self, library: Library):
        self._library = library
        self._lock = threading.Lock()
        self._turns = [threading.Lock() for _ in range(CACHED_DOCUMENTS)]
        self._kept: OrderedDict[int, tuple[int | None, Segmentation]] = OrderedDict()

    def put(self, document_id: int, made: Segmentation) -> None:
        """A document that was just segmented: its tokens stay; scores and edits are read when they are asked for."""
        self._keep(document_id, None, made)

    def get(self, entry: Entry) -> Segmentation:
        """The segmentation of an entry."""
        key = entry.record.id
        with self._turns[key % len(self._turns)]:
            with self._lock:
                version, kept = self._kept.get(key, (None, None))
            if kept is None:
                document = self._library.store.documents.read(key)
                kept = self._library.restore(document, key, entry.cut)
            elif version != entry.version:
                kept = self._changed(kept, entry)
            self._keep(key, entry.version, kept)
        return kept

    def _keep(self, key: int, version: int | None, kept: Segmentation) -> None:
        with self._lock:
            self._kept[key] = (version, kept)
            self._kept.move_to_end(key)
            while len(self._kept) > CACHED_DOCUMENTS:
                self._kept.popitem(last=False)

    def _changed(self, kept: Segmentation, entry: Entry) -> Segmentation:
        """The same text, cut otherwise: its tokens stay."""
        scored = self._library.store.segmentations.scored(entry.record.id)
        return Segmentation(kept.document, scored, kept.sizes, entry.cut.bounds, entry.cut.edits)
