"""An LLM that reads each node as a block whose keys and values are cached."""

from blockrag.llamaindex import (
    BlockAttentionLLM,
    BlockCondensePlusContextChatEngine,
    BlockContextChatEngine,
    BlockKVVectorStore,
    BlockRAGEmbedding,
    BlockRAGRetriever,
    BlockSynthesizer,
)

__all__ = [
    "BlockAttentionLLM",
    "BlockCondensePlusContextChatEngine",
    "BlockContextChatEngine",
    "BlockKVVectorStore",
    "BlockRAGEmbedding",
    "BlockRAGRetriever",
    "BlockSynthesizer",
]
