"""What LlamaIndex's own tests expect of node parsers, retrievers, vector stores, synthesizers and chat engines."""

import asyncio

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import (
    IndexNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.tools import RetrieverTool
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    SimpleVectorStore,
)
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from blockrag.llamaindex import (
    BlockCondensePlusContextChatEngine,
    BlockContextChatEngine,
    BlockKVVectorStore,
    BlockRAGRetriever,
    BlockSynthesizer,
    SemanticBlockNodeParser,
)
from tests.llamaindex.cities import CITIES, QUESTION, TEXTS, Given

# --- node parsers ---


def test_a_parser_passes_its_fields_through_a_dictionary(parser):
    parser.granularity = 0.25
    fields = {name: value for name, value in parser.to_dict().items() if name != "id_func"}  # stock ones cannot either
    again = SemanticBlockNodeParser.from_dict(dict(fields))
    assert {name: again.to_dict()[name] for name in fields} == fields and again.granularity == 0.25
    assert parser.to_dict()["class_name"] == "SemanticBlockNodeParser"


def test_metadata_and_relations_are_left_out_on_demand(parser, documents):
    parser.include_metadata = parser.include_prev_next_rel = False
    for node in parser.get_nodes_from_documents(documents):
        assert node.metadata == {} and set(node.relationships) == {NodeRelationship.SOURCE}


def test_what_a_document_excludes_its_nodes_exclude(parser):
    about = {"topic": "cities", "secret": "x"}
    document = Document(
        text=CITIES, metadata=about, excluded_llm_metadata_keys=["secret"], excluded_embed_metadata_keys=["topic"]
    )
    for node in parser.get_nodes_from_documents([document]):
        assert node.metadata == about and node.ref_doc_id == document.doc_id
        assert "secret" not in node.get_content(metadata_mode=MetadataMode.LLM)
        assert "topic" not in node.get_content(metadata_mode=MetadataMode.EMBED)


def test_a_nodes_metadata_is_its_own(parser, documents):
    first, second, *_ = parser.get_nodes_from_documents(documents)
    first.metadata["marked"] = True
    assert "marked" not in second.metadata and "marked" not in documents[0].metadata


def test_neighbours_stay_within_a_document_and_parents_are_kept(parser):
    source = RelatedNodeInfo(node_id="book")
    chapters = [TextNode(text=CITIES, relationships={NodeRelationship.SOURCE: source}) for _ in range(2)]
    nodes = parser(chapters)
    half = len(nodes) // 2
    assert {node.ref_doc_id for node in nodes} == {chapter.node_id for chapter in chapters} or {
        node.ref_doc_id for node in nodes
    } == {"book"}
    assert nodes[0].prev_node is None and nodes[-1].next_node is None and len(nodes) == 2 * half
    texts = ["".join(node.text for node in part) for part in (nodes[:half], nodes[half:])]
    assert texts == [CITIES, CITIES]


@pytest.mark.parametrize("text", ["日本語の文章です。川が流れます。" * 40, "🦀" * 300, "a" * 3000, "один два. " * 99])
def test_any_script_is_tiled(parser, text):
    nodes = parser.get_nodes_from_documents([Document(text=text)])
    assert "".join(node.text for node in nodes) == text and len(nodes) > 1
    assert all(text[node.start_char_idx : node.end_char_idx] == node.text for node in nodes)


def test_parsing_is_an_event(parser, documents):
    handler = LlamaDebugHandler(print_trace_on_end=False)
    parser.callback_manager = CallbackManager([handler])
    parser.get_nodes_from_documents(documents)
    assert len(handler.get_event_pairs(CBEventType.NODE_PARSING)) == 1


# --- retrievers ---


def test_a_retriever_takes_texts_and_bundles_and_awaits(rag_of_cities):
    retriever = BlockRAGRetriever(rag_of_cities, similarity_top_k=2)
    found = retriever.retrieve(QUESTION)
    assert found == retriever.retrieve(QueryBundle(QUESTION)) == asyncio.run(retriever.aretrieve(QUESTION))
    assert len(found) == 2 and all(isinstance(hit, NodeWithScore) and hit.score is not None for hit in found)
    assert "Tiber" in found[0].text


def test_a_retriever_is_a_tool(rag_of_cities):
    tool = RetrieverTool.from_defaults(BlockRAGRetriever(rag_of_cities, similarity_top_k=1), description="cities")
    assert "Tiber" in str(tool(QUESTION)) and tool.metadata.description == "cities"


def test_retrieval_is_an_event(rag_of_cities):
    handler = LlamaDebugHandler(print_trace_on_end=False)
    BlockRAGRetriever(rag_of_cities, callback_manager=CallbackManager([handler])).retrieve(QUESTION)
    assert len(handler.get_event_pairs(CBEventType.RETRIEVE)) == 1


# --- vector stores ---


@pytest.fixture
def store(llm, embed_model):
    nodes = [
        TextNode(text=text, id_=str(n), metadata={"rank": n, "kind": "river" if n < 2 else "city"})
        for n, text in enumerate(TEXTS)
    ]
    for n, node in enumerate(nodes):
        node.embedding = embed_model.get_text_embedding(node.text)
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"document-{n}")
    store = BlockKVVectorStore(SimpleVectorStore(), llm)
    assert store.add(nodes) == ["0", "1", "2"]
    return store


def query(embed_model, **options):
    return VectorStoreQuery(query_embedding=embed_model.get_query_embedding(QUESTION), **options)


def test_a_store_finds_the_nearest_first(store, embed_model):
    found = store.query(query(embed_model, similarity_top_k=2))
    assert (
        found.ids[0] == "0" and found.similarities == sorted(found.similarities, reverse=True) and len(found.ids) == 2
    )
    assert asyncio.run(store.aquery(query(embed_model, similarity_top_k=2))).ids == found.ids
    assert store.query(query(embed_model, similarity_top_k=9)).ids != []


@pytest.mark.parametrize(
    "filters, condition, expected",
    [
        ([("kind", "river", FilterOperator.EQ)], FilterCondition.AND, {"0", "1"}),
        ([("rank", 1, FilterOperator.GTE)], FilterCondition.AND, {"1", "2"}),
        ([("rank", [0, 2], FilterOperator.IN)], FilterCondition.AND, {"0", "2"}),
        ([("kind", "city", FilterOperator.NE)], FilterCondition.AND, {"0", "1"}),
        ([("rank", 0, FilterOperator.EQ), ("kind", "city", FilterOperator.EQ)], FilterCondition.OR, {"0", "2"}),
        ([("rank", 0, FilterOperator.EQ), ("kind", "city", FilterOperator.EQ)], FilterCondition.AND, set()),
    ],
)
def test_a_store_filters(store, embed_model, filters, condition, expected):
    chosen = MetadataFilters(
        filters=[MetadataFilter(key=k, value=v, operator=o) for k, v, o in filters], condition=condition
    )
    assert set(store.query(query(embed_model, similarity_top_k=5, filters=chosen)).ids) == expected


def test_a_store_takes_modes_and_ids(store, embed_model):
    diverse = store.query(query(embed_model, similarity_top_k=3, mode=VectorStoreQueryMode.MMR))
    assert set(diverse.ids) == {"0", "1", "2"}
    assert store.query(query(embed_model, similarity_top_k=3, node_ids=["2"])).ids == ["2"]


def test_a_store_deletes_what_it_is_told_and_no_more(store, embed_model, llm):
    store.delete("nothing")  # as LlamaIndex's stores do: an upsert deletes before it adds
    store.delete("document-0")
    assert set(store.query(query(embed_model, similarity_top_k=5)).ids) == {"1", "2"}
    store.delete_nodes(["1"])
    assert store.query(query(embed_model, similarity_top_k=5)).ids == ["2"]
    store.clear()
    assert store.query(query(embed_model, similarity_top_k=5)).ids == []
    assert not [text for text in TEXTS if llm.engine.kv_key(text) in llm.engine.kv]


def test_a_store_refuses_nodes_without_vectors_and_keeps_nothing_of_them(llm):
    store = BlockKVVectorStore(SimpleVectorStore(), llm)
    with pytest.raises(ValueError, match="embedding not set"):
        store.add([TextNode(text="No vector.", id_="a")])
    assert store.add([]) == []


def test_a_persisted_store_loads(store, embed_model, tmp_path):
    store.persist(str(tmp_path / "vectors.json"))
    loaded = SimpleVectorStore.from_persist_path(str(tmp_path / "vectors.json"))
    asked = query(embed_model, similarity_top_k=3)
    assert loaded.query(asked).ids == store.query(asked).ids


# --- synthesizers ---


def test_a_synthesizer_takes_texts_and_bundles(llm, nodes):
    given = [NodeWithScore(node=node, score=1.0) for node in nodes[:2]]
    synthesizer = BlockSynthesizer(llm)
    response = synthesizer.synthesize(QUESTION, given)
    assert str(synthesizer.synthesize(QueryBundle(QUESTION), given)) == str(response) == response.response
    assert response.source_nodes == given and response.metadata[nodes[0].node_id] == nodes[0].metadata
    assert nodes[0].node_id in response.get_formatted_sources()


def test_more_sources_are_listed_and_not_read(llm, nodes):
    read, more = ([NodeWithScore(node=node, score=1.0)] for node in (nodes[0], nodes[1]))
    response = BlockSynthesizer(llm).synthesize(QUESTION, read, additional_source_nodes=more)
    assert [node.node_id for node in response.source_nodes] == [nodes[0].node_id, nodes[1].node_id]
    assert response.metadata["blockrag"]["kv_misses"] + sum(response.metadata["blockrag"]["kv_hits"].values()) == 1


def test_a_stream_becomes_a_response(llm, nodes):
    given = [NodeWithScore(node=node, score=1.0) for node in nodes[:2]]
    plain = BlockSynthesizer(llm).synthesize(QUESTION, given)
    assert BlockSynthesizer(llm, streaming=True).synthesize(QUESTION, given).get_response().response == str(plain)


def test_synthesis_is_an_event(llm, nodes):
    handler = LlamaDebugHandler(print_trace_on_end=False)
    synthesizer = BlockSynthesizer(llm, callback_manager=CallbackManager([handler]))
    synthesizer.synthesize(QUESTION, [NodeWithScore(node=nodes[0], score=1.0)])
    assert len(handler.get_event_pairs(CBEventType.SYNTHESIZE)) == 1


# --- chat engines ---

ENGINES = [BlockContextChatEngine, BlockCondensePlusContextChatEngine]


@pytest.mark.parametrize("kind", ENGINES)
def test_a_chat_has_sources_history_and_a_tool_output(kind, llm, nodes):
    chat = kind.from_defaults(retriever=Given(nodes[:2]), llm=llm)
    response = chat.chat(QUESTION)
    assert [node.node_id for node in response.source_nodes] == [node.node_id for node in nodes[:2]]
    assert response.sources and response.sources[0].tool_name == "retriever" and str(response) == response.response
    assert [said.role for said in chat.chat_history] == [MessageRole.USER, MessageRole.ASSISTANT]
    assert chat.chat_history[1].content == response.response


@pytest.mark.parametrize("kind", ENGINES)
def test_a_given_history_takes_the_place_of_the_memory(kind, llm, nodes):
    chat = kind.from_defaults(retriever=Given(nodes[:1]), llm=llm)
    before = [ChatMessage(role="user", content="Hello"), ChatMessage(role="assistant", content="Good day")]
    chat.chat(QUESTION, chat_history=before)
    assert [said.content for said in chat.chat_history][:3] == ["Hello", "Good day", QUESTION]


@pytest.mark.parametrize("kind", ENGINES)
def test_a_memory_is_the_callers(kind, llm, nodes):
    memory = ChatMemoryBuffer.from_defaults(token_limit=500)
    kind.from_defaults(retriever=Given(nodes[:1]), llm=llm, memory=memory).chat(QUESTION)
    assert len(memory.get_all()) == 2


@pytest.mark.parametrize("kind", ENGINES)
def test_a_streamed_chat_is_whole_in_the_end(kind, llm, nodes):
    async def stream(chat):
        response = await chat.astream_chat(QUESTION)
        return "".join([token async for token in response.async_response_gen()]), chat.chat_history[-1].content

    chat = kind.from_defaults(retriever=Given(nodes[:1]), llm=llm)
    expected = kind.from_defaults(retriever=Given(nodes[:1]), llm=llm).chat(QUESTION).response
    response = chat.stream_chat(QUESTION)
    assert "".join(response.response_gen) == expected == chat.chat_history[-1].content
    again = kind.from_defaults(retriever=Given(nodes[:1]), llm=llm)
    assert asyncio.run(stream(again)) == (expected, expected)


def test_a_system_prompt_and_messages_before_exclude_each_other(llm, nodes):
    with pytest.raises(ValueError, match="system_prompt and prefix_messages"):
        BlockContextChatEngine.from_defaults(
            retriever=Given(nodes), llm=llm, system_prompt="Be kind.", prefix_messages=[ChatMessage(content="Hello")]
        )


def test_an_index_finds_nodes_that_stand_for_others(llm, nodes, embed_model):
    """Recursive retrieval: a short node that is found stands for the whole one, which is read as a block."""
    whole = nodes[0]
    short = IndexNode(text="Paris, Seine", index_id="whole", obj=whole)
    index = VectorStoreIndex(nodes=[short], embed_model=embed_model)
    engine = index.as_query_engine(llm=llm, response_synthesizer=BlockSynthesizer(llm))
    response = engine.query("Which river flows through Paris?")
    assert [node.node_id for node in response.source_nodes] == [whole.node_id]
