"""Path or bytes -> Document."""

from blockrag.documents.document import PAGE_BREAK, Document
from blockrag.documents.limits import Limits
from blockrag.documents.load import load, load_many
from blockrag.documents.media import SUFFIXES

__all__ = ["PAGE_BREAK", "SUFFIXES", "Document", "Limits", "load", "load_many"]
