"""BlockRAG for LlamaIndex; needs `pip install blockrag[llamaindex]`. Only this package imports llama_index.

Names are imported on first use: only the retriever needs FAISS.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blockrag.llamaindex.chat_engine import BlockCondensePlusContextChatEngine, BlockContextChatEngine
    from blockrag.llamaindex.embedding import BlockRAGEmbedding
    from blockrag.llamaindex.llm import BlockAttentionLLM
    from blockrag.llamaindex.node_parser import SemanticBlockNodeParser
    from blockrag.llamaindex.retriever import BlockRAGRetriever
    from blockrag.llamaindex.synthesizer import BlockSynthesizer
    from blockrag.llamaindex.vector_store import BlockKVVectorStore

_HOME = {
    "BlockAttentionLLM": "llm",
    "BlockCondensePlusContextChatEngine": "chat_engine",
    "BlockContextChatEngine": "chat_engine",
    "BlockKVVectorStore": "vector_store",
    "BlockRAGEmbedding": "embedding",
    "BlockRAGRetriever": "retriever",
    "BlockSynthesizer": "synthesizer",
    "SemanticBlockNodeParser": "node_parser",
}

__all__ = [
    "BlockAttentionLLM",
    "BlockCondensePlusContextChatEngine",
    "BlockContextChatEngine",
    "BlockKVVectorStore",
    "BlockRAGEmbedding",
    "BlockRAGRetriever",
    "BlockSynthesizer",
    "SemanticBlockNodeParser",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'blockrag.llamaindex' has no attribute {name!r}")
    return getattr(import_module(f"blockrag.llamaindex.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
