"""BlockRAG: answers from documents whose blocks are encoded once and joined at question time.

Public names are imported on first use, so that ``import blockrag`` loads no model library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blockrag.documents import Document, load, load_many
    from blockrag.engine import Engine
    from blockrag.errors import BlockRAGError, DocumentError, Stopped
    from blockrag.events import Answer, Piece, Report, Retrieved, Source
    from blockrag.generate import Sampling
    from blockrag.index import DocumentRecord
    from blockrag.pipeline import Pipeline
    from blockrag.progress import Progress
    from blockrag.rag import BlockRAG
    from blockrag.segment import Segmentation, SizeBounds

__version__ = "0.1.0"

_HOME = {
    "Answer": "events",
    "BlockRAG": "rag",
    "BlockRAGError": "errors",
    "Document": "documents",
    "DocumentError": "errors",
    "DocumentRecord": "index",
    "Engine": "engine",
    "Piece": "events",
    "Pipeline": "pipeline",
    "Progress": "progress",
    "Report": "events",
    "Retrieved": "events",
    "Sampling": "generate",
    "Segmentation": "segment",
    "SizeBounds": "segment",
    "Source": "events",
    "Stopped": "errors",
    "load": "documents",
    "load_many": "documents",
}

__all__ = [
    "Answer",
    "BlockRAG",
    "BlockRAGError",
    "Document",
    "DocumentError",
    "DocumentRecord",
    "Engine",
    "Piece",
    "Pipeline",
    "Progress",
    "Report",
    "Retrieved",
    "Sampling",
    "Segmentation",
    "SizeBounds",
    "Source",
    "Stopped",
    "load",
    "load_many",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'blockrag' has no attribute {name!r}")
    return getattr(import_module(f"blockrag.{_HOME[name]}"), name)
