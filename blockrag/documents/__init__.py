"""Read documents: a path or bytes become a `Document`."""

from blockrag.documents.document import PAGE_BREAK, Document, Limits, source_id
from blockrag.documents.load import load, load_many
from blockrag.documents.media import SUFFIXES

__all__ = ["PAGE_BREAK", "SUFFIXES", "Document", "Limits", "load", "load_many", "source_id"]
