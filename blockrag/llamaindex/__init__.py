"""BlockRAG in LlamaIndex: needs `pip install blockrag[llamaindex]`. The only part that imports llama_index."""

from blockrag.llamaindex.chat_engine import BlockCondensePlusContextChatEngine, BlockContextChatEngine
from blockrag.llamaindex.embedding import BlockRAGEmbedding
from blockrag.llamaindex.llm import BlockAttentionLLM
from blockrag.llamaindex.node_parser import SemanticBlockNodeParser
from blockrag.llamaindex.retriever import BlockRAGRetriever
from blockrag.llamaindex.synthesizer import BlockSynthesizer
from blockrag.llamaindex.vector_store import BlockKVVectorStore

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
