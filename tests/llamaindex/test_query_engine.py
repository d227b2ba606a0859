"""The stock query engine over any retriever, with postprocessors, metadata modes, streams and events."""

import asyncio

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.indices.keyword_table import SimpleKeywordTableIndex
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor import (
    LongContextReorder,
    MetadataReplacementPostProcessor,
    SimilarityPostprocessor,
)
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import MetadataMode

import blockrag.llamaindex
from blockrag.documents import Document
from blockrag.llamaindex import BlockAttentionLLM, BlockRAGRetriever, BlockSynthesizer
from blockrag.rag import BlockRAG
from blockrag.segment import SizeBounds
from tests.llamaindex.cities import CITIES, QUESTION, Given, report


class Words(BaseNodePostprocessor):
    """A reranker of the stock kind: by words in common; tells its score in the metadata."""

    def _postprocess_nodes(self, nodes, query_bundle=None):
        words = set(query_bundle.query_str.lower().strip("?").split())
        for found in nodes:
            found.score = float(len(words & set(found.node.get_content().lower().replace(";", "").split())))
            found.node.metadata["reranked"] = found.score
        return sorted(nodes, key=lambda found: -found.score)[:2]


def engine_of(llm, retriever, *postprocessors, **settings):
    return RetrieverQueryEngine(retriever, BlockSynthesizer(llm, **settings), list(postprocessors))


def warm(llm, nodes):
    llm.engine.warm([node.get_content(metadata_mode=MetadataMode.NONE) for node in nodes])


def test_one_block_a_node_and_the_nodes_are_the_sources(llm, nodes):
    warm(llm, nodes)
    response = engine_of(llm, Given(nodes[:3])).query(QUESTION)
    assert [s.node_id for s in response.source_nodes] == [n.node_id for n in nodes[:3]]
    assert sum(report(response)["kv_hits"].values()) == 3 and report(response)["kv_misses"] == 0
    assert report(response)["ttft_ms"] > 0 and response.metadata[nodes[0].node_id] == nodes[0].metadata


def test_metadata_is_told_and_never_misses_the_cache(llm, nodes):
    warm(llm, nodes)
    told = report(engine_of(llm, Given(nodes[:3])).query(QUESTION))
    for node in nodes[:3]:
        node.metadata["seen"] = "just now"
    changed = report(engine_of(llm, Given(nodes[:3])).query(QUESTION))
    for node in nodes[:3]:
        node.excluded_llm_metadata_keys = ["topic", "seen"]
    hidden = report(engine_of(llm, Given(nodes[:3])).query(QUESTION))
    assert told["kv_misses"] == changed["kv_misses"] == hidden["kv_misses"] == 0
    assert changed["n_prefill_tokens"] > told["n_prefill_tokens"] > hidden["n_prefill_tokens"]


def test_postprocessors_choose_and_order_the_blocks(llm, nodes):
    warm(llm, nodes)
    response = engine_of(llm, Given(nodes), Words(), SimilarityPostprocessor(similarity_cutoff=0.5)).query(QUESTION)
    assert len(response.source_nodes) == 2 == sum(report(response)["kv_hits"].values())
    assert "Rome" in response.source_nodes[0].node.text and report(response)["kv_misses"] == 0
    reordered = engine_of(llm, Given(nodes[:5]), LongContextReorder()).query(QUESTION)
    assert report(reordered)["kv_misses"] == 0
    assert [s.node_id for s in reordered.source_nodes] != [n.node_id for n in nodes[:5]]


def test_a_replaced_text_is_a_block_of_its_own(llm, nodes):
    warm(llm, nodes)
    nodes[0].metadata["window"] = "A window of other text."
    replace = MetadataReplacementPostProcessor(target_metadata_key="window")
    query_engine = engine_of(llm, Given(nodes[:2]), replace)
    assert report(query_engine.query(QUESTION))["kv_misses"] == 1
    assert report(query_engine.query(QUESTION))["kv_misses"] == 0


def test_streams_and_async_give_the_same_answer(llm, nodes):
    whole, streaming = engine_of(llm, Given(nodes[:3])), engine_of(llm, Given(nodes[:3]), streaming=True)
    expected = whole.query(QUESTION).response
    stream = streaming.query(QUESTION)
    assert report(stream) == {} and "".join(stream.response_gen) == expected
    assert report(stream)["kv_misses"] == 0 and len(stream.source_nodes) == 3

    async def both():
        response = await whole.aquery(QUESTION)
        later = await streaming.aquery(QUESTION)
        return response, "".join([piece async for piece in later.async_response_gen()]), later

    response, pieces, later = asyncio.run(both())
    assert response.response == pieces == expected
    assert report(response)["kv_misses"] == report(later)["kv_misses"] == 0


@pytest.mark.parametrize("streaming", [False, True])
def test_without_nodes_the_response_is_empty(llm, streaming):
    response = engine_of(llm, Given([]), streaming=streaming, empty_response="Nothing.").query(QUESTION)
    assert str(response) == "Nothing." and response.source_nodes == []


def test_the_stock_synthesizers_work_with_the_llm(llm, nodes):
    for mode in ("compact", "refine", "tree_summarize", "simple_summarize"):
        stock = get_response_synthesizer(llm=llm, response_mode=mode)
        response = RetrieverQueryEngine(Given(nodes[:2]), stock).query(QUESTION)
        assert isinstance(response.response, str) and len(response.source_nodes) == 2


def test_the_synthesizer_works_with_another_llm(nodes):
    response = RetrieverQueryEngine(Given(nodes[:2]), BlockSynthesizer(MockLLM())).query(QUESTION)
    assert response.response and len(response.source_nodes) == 2 and report(response) == {}


def test_texts_alone_are_blocks_too(llm):
    synthesizer, told = BlockSynthesizer(llm), {}
    text = synthesizer.get_response(QUESTION, ["One block.", "Another block."], report=told, max_tokens=3)
    assert isinstance(text, str) and told["kv_misses"] == 2 and told["n_new_tokens"] <= 3


class Events(BaseEventHandler):
    """Names of all events."""

    names: list = []

    def handle(self, event, **kwargs):
        self.names.append(event.class_name())


def test_instrumentation_sees_the_stages(llm, nodes):
    handler = Events()
    get_dispatcher().add_event_handler(handler)
    try:
        engine_of(llm, Given(nodes[:1])).query(QUESTION)
    finally:
        get_dispatcher().event_handlers.remove(handler)
    order = ["QueryStartEvent", "SynthesizeStartEvent", "GetResponseStartEvent", "LLMChatStartEvent"]
    assert [handler.names.index(name) for name in order] == sorted(handler.names.index(name) for name in order)
    assert {"LLMChatEndEvent", "SynthesizeEndEvent"} <= set(handler.names)


@pytest.fixture
def rag(llm, tmp_path):
    rag = BlockRAG(llm.engine, tmp_path)
    rag.index(Document("c.md", "text/markdown", CITIES), granularity=1.0, bounds=SizeBounds(16, 64))
    return rag


def test_our_own_index_retrieves(llm, rag):
    retriever = BlockRAGRetriever(rag, similarity_top_k=2)
    found = retriever.retrieve(QUESTION)
    assert len(found) == 2 and "Rome" in found[0].node.text
    assert all(CITIES[f.node.start_char_idx : f.node.end_char_idx] == f.node.text for f in found)
    assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)
    assert [f.node_id for f in asyncio.run(retriever.aretrieve(QUESTION))] == [f.node_id for f in found]
    response = engine_of(llm, retriever).query(QUESTION)
    assert report(response)["kv_misses"] == 0 and report(response)["n_tokens_saved"] > 0
    assert response.source_nodes[0].node.ref_doc_id == rag.documents()[0].id


def test_stock_retrievers_fuse_with_ours(llm, rag, nodes, embed_model):
    warm(llm, nodes)
    vectors = VectorStoreIndex(nodes, embed_model=embed_model).as_retriever(similarity_top_k=3)
    words = SimpleKeywordTableIndex(nodes, llm=MockLLM()).as_retriever()
    ours = BlockRAGRetriever(rag.pipeline, similarity_top_k=3)
    fused = QueryFusionRetriever(
        [vectors, words, ours], llm=llm, similarity_top_k=4, num_queries=1, mode="reciprocal_rerank", use_async=False
    )
    for retriever in (vectors, words, fused):
        response = engine_of(llm, retriever).query(QUESTION)
        assert response.source_nodes and report(response)["kv_misses"] == 0
        assert sum(report(response)["kv_hits"].values()) == len(response.source_nodes)


def test_bm25_retrieves_too(llm, nodes):
    bm25 = pytest.importorskip("llama_index.retrievers.bm25", reason="llama-index-retrievers-bm25 is not installed")
    warm(llm, nodes)
    retriever = bm25.BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=2)
    response = engine_of(llm, retriever).query("Colosseum")
    assert "Colosseum" in response.source_nodes[0].node.text and report(response)["kv_misses"] == 0


@pytest.mark.parametrize(
    "part, base",
    [
        ("SemanticBlockNodeParser", "NodeParser"),
        ("BlockRAGRetriever", "BaseRetriever"),
        ("BlockAttentionLLM", "LLM"),
        ("BlockRAGEmbedding", "BaseEmbedding"),
        ("BlockKVVectorStore", "BasePydanticVectorStore"),
        ("BlockSynthesizer", "BaseSynthesizer"),
        ("BlockContextChatEngine", "BaseChatEngine"),
    ],
)
def test_parts_are_of_the_published_kinds(part, base):
    """The test that LlamaIndex's own integration packages begin with."""
    assert base in [cls.__name__ for cls in getattr(blockrag.llamaindex, part).__mro__]


def test_an_index_as_query_engine(llm, nodes, embed_model):
    index = VectorStoreIndex(nodes, embed_model=embed_model)
    query_engine = index.as_query_engine(llm=llm, response_synthesizer=BlockSynthesizer(llm), similarity_top_k=2)
    assert report(query_engine.query(QUESTION))["kv_misses"] == 2
    full = BlockAttentionLLM(llm.engine, mode="full", max_tokens=6)
    other = index.as_query_engine(llm=full, response_synthesizer=BlockSynthesizer(full), similarity_top_k=2)
    same = [s.node_id for s in query_engine.query(QUESTION).source_nodes]
    assert [s.node_id for s in other.query(QUESTION).source_nodes] == same
