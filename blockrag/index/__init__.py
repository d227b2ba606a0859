"""An index on disk: documents, their blocks, and a vector for each block."""

from blockrag.index.index import Index
from blockrag.index.records import DocumentRecord, Found

__all__ = ["DocumentRecord", "Found", "Index"]
