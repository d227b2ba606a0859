"""Fixtures of the LlamaIndex tests: a tiny LLM, an embedding of words, documents with repeated text."""

import pytest
from llama_index.core import Document

from blockrag.llamaindex import BlockAttentionLLM, BlockRAGEmbedding, SemanticBlockNodeParser
from blockrag.rag import BlockRAG
from tests import samples
from tests.llamaindex.cities import CITIES
from tests.tiny import tiny_engine


@pytest.fixture
def llm(tmp_path):
    return BlockAttentionLLM(tiny_engine(tmp_path / "kv"), max_tokens=6, kv_dir=tmp_path / "kv")


@pytest.fixture
def embed_model(llm):
    return BlockRAGEmbedding.from_engine(llm.engine)


@pytest.fixture
def parser(llm):
    return SemanticBlockNodeParser.from_engine(
        llm.engine, segmenter="structural", granularity=1.0, min_tokens=16, max_tokens=64
    )


@pytest.fixture
def documents():
    lima = "The river Rimac flows through Lima, which lies by the sea. The Incas knew the valley. " * 3
    return [
        Document(text=CITIES, id_="cities", metadata={"topic": "cities of the world"}),
        Document(text=lima, id_="lima", metadata={"topic": "Peru"}),
    ]


@pytest.fixture
def nodes(parser, documents):
    return parser.get_nodes_from_documents(documents)


@pytest.fixture
def rag_of_cities(llm, tmp_path):
    rag = BlockRAG(llm.engine, tmp_path / "index")
    rag.index(samples.CITIES, granularity=1.0, bounds=samples.BOUNDS)
    return rag
