"""BlockRAG: answers from documents whose blocks are encoded once and joined at question time.

Public names are imported on first use, so that ``import blockrag`` loads no model library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blockrag.documents import Document, load, load_many
    from blockrag.engine import Engine
    from blockrag.errors import (
        ArgumentError,
        BlockRAGError,
        BusyError,
        DocumentError,
        IndexStoreError,
        PromptTooLongError,
        Stopped,
        UnknownDocumentError,
        WeightsError,
    )
    from blockrag.events import Answer, Citation, Piece, Report, Retrieved, Source
    from blockrag.generate import Sampling
    from blockrag.index import DocumentRecord
    from blockrag.pipeline import Pipeline
    from blockrag.progress import Progress
    from blockrag.rag import BlockRAG
    from blockrag.retrieval import Retrieval
    from blockrag.segment import Segmentation, SizeBounds

__version__ = "0.2.0"

_HOME = {
    "Answer": "events",
    "ArgumentError": "errors",
    "BlockRAG": "rag",
    "BlockRAGError": "errors",
    "BusyError": "errors",
    "Citation": "events",
    "Document": "documents",
    "DocumentError": "errors",
    "DocumentRecord": "index",
    "Engine": "engine",
    "IndexStoreError": "errors",
    "Piece": "events",
    "Pipeline": "pipeline",
    "Progress": "progress",
    "PromptTooLongError": "errors",
    "Report": "events",
    "Retrieval": "retrieval",
    "Retrieved": "events",
    "Sampling": "generate",
    "Segmentation": "segment",
    "SizeBounds": "segment",
    "Source": "events",
    "Stopped": "errors",
    "UnknownDocumentError": "errors",
    "WeightsError": "errors",
    "load": "documents",
    "load_many": "documents",
}

__all__ = [
    "Answer",
    "ArgumentError",
    "BlockRAG",
    "BlockRAGError",
    "BusyError",
    "Citation",
    "Document",
    "DocumentError",
    "DocumentRecord",
    "Engine",
    "IndexStoreError",
    "Piece",
    "Pipeline",
    "Progress",
    "PromptTooLongError",
    "Report",
    "Retrieval",
    "Retrieved",
    "Sampling",
    "Segmentation",
    "SizeBounds",
    "Source",
    "Stopped",
    "UnknownDocumentError",
    "WeightsError",
    "load",
    "load_many",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'blockrag' has no attribute {name!r}")
    return getattr(import_module(f"blockrag.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
