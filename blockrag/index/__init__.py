"""An index: the documents of one collection, their blocks, and a vector for each block."""

from blockrag.index.base import BlockRef, By, Change, DocumentRecord, Hit, Index, IndexedBlock, labels
from blockrag.index.files import FileIndex

__all__ = ["BlockRef", "By", "Change", "DocumentRecord", "FileIndex", "Hit", "Index", "IndexedBlock", "labels"]
