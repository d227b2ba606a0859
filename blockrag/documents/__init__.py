"""Read documents: a path or bytes become a `Document`."""

from blockrag.documents.document import MAX_NOTE, MAX_NOTES, PAGE_BREAK, Content, Document, Limits, source_id
from blockrag.documents.load import load, load_many
from blockrag.documents.media import SUFFIXES

__all__ = [
    "MAX_NOTE",
    "MAX_NOTES",
    "PAGE_BREAK",
    "SUFFIXES",
    "Content",
    "Document",
    "Limits",
    "load",
    "load_many",
    "source_id",
]
