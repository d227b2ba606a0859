"""Arguments of the LlamaIndex parts do what they say or are refused, and sources are what was read."""

import asyncio
import pickle

import pytest
from llama_index.core import PromptTemplate, Settings, StorageContext, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.prompts import ChatPromptTemplate
from llama_index.core.prompts.default_prompts import DEFAULT_TEXT_QA_PROMPT
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import SimpleVectorStore

from blockrag.errors import ArgumentError
from blockrag.llamaindex import (
    BlockAttentionLLM,
    BlockCondensePlusContextChatEngine,
    BlockContextChatEngine,
    BlockKVVectorStore,
    BlockRAGEmbedding,
    BlockRAGRetriever,
    BlockSynthesizer,
    SemanticBlockNodeParser,
)
from blockrag.rag import BlockRAG
from tests.llamaindex.cities import QUESTION, Given, chat_of, kv_files, report
from tests.processes import FORKED
from tests.tiny import tiny_engine


def test_unknown_arguments_name_the_function_and_what_it_takes(llm, embed_model):
    for make, name in [
        (lambda: BlockAttentionLLM(llm.engine, chunk_size=3), "BlockAttentionLLM.. got .*'chunk_size'; it takes"),
        (lambda: BlockAttentionLLM.from_pretrained(chunk_size=3), "BlockAttentionLLM.from_pretrained.*'chunk_size'"),
        (
            lambda: SemanticBlockNodeParser(chunk_size=3),
            "SemanticBlockNodeParser.*'chunk_size'.*min_tokens, max_tokens",
        ),
        (lambda: BlockRAGEmbedding(llm.engine.embedder, chunk_size=3), "BlockRAGEmbedding.*'chunk_size'"),
        (lambda: BlockSynthesizer(llm, response_mode="refine"), "BlockSynthesizer.*'response_mode'.*one pass"),
        (lambda: BlockSynthesizer(llm, output_cls=dict), "BlockSynthesizer.*'output_cls'.*answers are text"),
        (lambda: BlockSynthesizer(llm, refine_template=""), "BlockSynthesizer.*'refine_template'"),
        (lambda: BlockRAG.from_pretrained(chunk_size=3), "BlockRAG.from_pretrained.*'chunk_size'"),
        (lambda: llm.chat(chat_of(), n_beams=2), "BlockAttentionLLM.chat.*'n_beams'; it takes max_tokens"),
    ]:
        with pytest.raises(TypeError, match=name):
            make()


def test_arguments_of_sampling_may_be_given_to_the_llm(llm):
    drawn = BlockAttentionLLM(llm.engine, temperature=0.9, seed=3, sampling={"top_p": 0.8}, max_tokens=6)
    assert drawn.sampling == {"temperature": 0.9, "seed": 3, "top_p": 0.8}
    same = llm.chat(chat_of(), temperature=0.9, seed=3, top_p=0.8)
    assert drawn.chat(chat_of()).message.content == same.message.content
    with pytest.raises(ValueError, match="temperature is -1"):
        BlockAttentionLLM(llm.engine, temperature=-1)


WRONG = {
    BlockAttentionLLM: {
        "mode": "blocks", "max_tokens": "6", "sampling": 3, "context_window": 10**9, "kv_dir": 3, "temperature": "hot",
        "stop": "x", "seed": -1, "top_p": 0,
    },
    SemanticBlockNodeParser: {"segmenter": "magic", "granularity": 2, "min_tokens": 0, "max_tokens": "64"},
    BlockRAGRetriever: {"similarity_top_k": True, "retrieval": "dense"},
    BlockSynthesizer: {
        "streaming": "no", "system_prompt": 3, "empty_response": 3, "chat_history": "Hello", "text_qa_template": 3,
    },
    BlockKVVectorStore: {"encode_at": "never", "collection": "", "llm": None, "vector_store": None},
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_every_argument_of_a_part_is_checked_when_it_is_made(kind, llm, tmp_path):
    given = {
        BlockAttentionLLM: {"engine": llm.engine},
        BlockRAGRetriever: {"rag": BlockRAG(llm.engine, tmp_path)},
        BlockSynthesizer: {"llm": llm},
        BlockKVVectorStore: {"vector_store": SimpleVectorStore(), "llm": llm},
        SemanticBlockNodeParser: {"model": "smollm2"},
    }[kind]
    for name, value in WRONG[kind].items():
        with pytest.raises(ArgumentError, match="template is" if "template" in name else f"{name} is "):
            kind(**{**given, name: value})
    made = kind(**given)
    for name, value in WRONG[kind].items() if kind is SemanticBlockNodeParser else ():
        with pytest.raises(ArgumentError, match=f"{name} is "):
            setattr(made, name, value)


def test_what_a_part_is_made_of_is_checked(llm):
    for make, name in [
        (lambda: BlockRAGRetriever(llm.engine), "rag"),
        (lambda: BlockRAGEmbedding("minilm"), "embedder"),
        (lambda: BlockRAGEmbedding.from_engine(llm), "engine"),
        (lambda: SemanticBlockNodeParser.from_engine(None), "engine"),
        (lambda: BlockSynthesizer("smollm2"), "llm"),
        (lambda: BlockRAGEmbedding.from_pretrained("minilm", query_prefix=3), "query_prefix"),
    ]:
        with pytest.raises(ArgumentError, match=f"^{name} is "):
            make()


def test_nothing_is_answered_to_nothing(llm, nodes, parser):
    """An empty chat was answered from the model's memory."""
    chat = BlockContextChatEngine.from_defaults(retriever=Given(nodes), llm=llm)
    for call in (
        lambda: llm.chat([]),
        lambda: llm.chat([ChatMessage(content=" ")]),
        lambda: llm.complete(""),
        lambda: llm.complete(None),
        lambda: chat.chat(""),
        lambda: asyncio.run(chat.achat(" ")),
        lambda: parser.split_text(None),
    ):
        with pytest.raises(ArgumentError, match="no text| is (''|' '|None)"):
            call()
    synthesizer = BlockSynthesizer(llm, empty_response="Nothing was found.")
    assert synthesizer.get_response(QUESTION, []) == "Nothing was found."
    for streaming in (False, True):
        found = BlockSynthesizer(llm, streaming=streaming).synthesize(QUESTION, [])
        assert str(found) == "Empty Response" and found.metadata == {}


def test_a_parser_that_is_changed_cuts_as_it_says(parser, documents):
    """The first segmenter was used for ever."""
    parser.split_text(documents[0].text)
    parser.segmenter = "fixed"
    parser.split_text(documents[0].text)
    assert parser._tools()[1].name == "fixed"


@pytest.mark.parametrize("wrong", [0, -1, "6", 1.5])
def test_a_call_without_room_for_an_answer_is_refused(llm, wrong):
    for call in (lambda: llm.chat(chat_of(), max_tokens=wrong), lambda: llm.complete(QUESTION, max_tokens=wrong)):
        with pytest.raises(ArgumentError, match="max_tokens is"):
            call()


def test_the_retriever_checks_how_many(tmp_path, llm):
    with pytest.raises(ArgumentError, match="similarity_top_k is 0"):
        BlockRAGRetriever(BlockRAG(llm.engine, tmp_path), similarity_top_k=0)


def test_the_ledger_is_where_the_engine_keeps_its_kv(llm, nodes, embed_model, tmp_path):
    """An LLM that was not told the folder kept its ledger in memory, and KV of deleted documents stayed."""
    unnamed = BlockAttentionLLM(llm.engine, max_tokens=6)
    assert unnamed.kv_dir == llm.kv_dir == str(tmp_path / "kv")
    nodes = embed_model(nodes)
    BlockKVVectorStore(SimpleVectorStore(), unnamed).add(nodes)
    assert kv_files(llm)
    store = BlockKVVectorStore(SimpleVectorStore(), BlockAttentionLLM(tiny_engine(tmp_path / "kv")))  # another process
    for document in {node.ref_doc_id for node in nodes}:
        store.delete(document)
    assert not kv_files(llm)


def test_another_folder_than_the_engines_is_refused(llm, tmp_path):
    with pytest.raises(ArgumentError, match="keeps block KV in '.*kv'"):
        BlockAttentionLLM(llm.engine, kv_dir=tmp_path / "elsewhere")
    with pytest.raises(ArgumentError, match="in memory"):
        BlockAttentionLLM(tiny_engine(), kv_dir=tmp_path)
    with pytest.raises(ArgumentError, match="'smollm2'; give an Engine"):
        BlockAttentionLLM("smollm2")


@pytest.fixture
def too_long(nodes):
    return [nodes[0], TextNode(text="The river flows through the city and on to the sea. " * 400, id_="long"), nodes[1]]


def test_a_node_larger_than_the_context_is_no_source(llm, nodes, too_long):
    query_engine = RetrieverQueryEngine(Given(too_long), BlockSynthesizer(llm))
    with pytest.warns(UserWarning, match="1 nodes do not fit the model's context and were not read: long"):
        response = query_engine.query(QUESTION)
    read = [node.node_id for node in nodes[:2]]
    assert [s.node_id for s in response.source_nodes] == read and set(response.metadata) == {*read, "blockrag"}
    assert report(response)["left_out"] == ["long"] and "blocks 2" in report(response)["notes"][0]
    streaming = RetrieverQueryEngine(Given(too_long), BlockSynthesizer(llm, streaming=True))
    with pytest.warns(UserWarning, match="long"):
        stream = streaming.query(QUESTION)
        assert "".join(stream.response_gen) == response.response
    assert [s.node_id for s in stream.source_nodes] == read

    async def both():
        whole, later = await query_engine.aquery(QUESTION), await streaming.aquery(QUESTION)
        [piece async for piece in later.async_response_gen()]
        return whole, later

    with pytest.warns(UserWarning, match="long"):
        for response in asyncio.run(both()):
            assert [s.node_id for s in response.source_nodes] == read


@pytest.mark.parametrize("kind", [BlockContextChatEngine, BlockCondensePlusContextChatEngine])
def test_chats_list_only_what_was_read(kind, llm, nodes, too_long):
    chat = kind.from_defaults(retriever=Given(too_long), llm=llm)
    with pytest.warns(UserWarning, match="long"):
        response = chat.chat(QUESTION)
    assert [s.node_id for s in response.source_nodes] == [node.node_id for node in nodes[:2]]


@pytest.mark.parametrize("kind", [BlockContextChatEngine, BlockCondensePlusContextChatEngine])
def test_chat_engines_refuse_what_they_would_ignore(kind, llm, nodes):
    name = "context_template" if kind is BlockContextChatEngine else "context_prompt"
    with pytest.raises(ArgumentError, match=f"{name} has no place for blocks"):
        kind.from_defaults(retriever=Given(nodes), llm=llm, **{name: "Read {context_str}."})
    with pytest.raises(TypeError, match=rf"{kind.__name__}.from_defaults.*'similarity_top_k'"):
        kind.from_defaults(retriever=Given(nodes), llm=llm, similarity_top_k=3)


TEMPLATES = [
    PromptTemplate("Speak like a pirate.\n{context_str}\nSay what you know about: {query_str}"),
    ChatPromptTemplate(
        [
            ChatMessage(role=MessageRole.SYSTEM, content="Speak like a pirate."),
            ChatMessage(role=MessageRole.USER, content="{context_str}\nSay what you know about: {query_str}"),
        ]
    ),
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_frames_the_blocks(template, llm, nodes):
    llm.engine.warm([node.text for node in nodes[:2]])
    said = BlockSynthesizer(llm, text_qa_template=template)._messages(QUESTION, ["One block."], [])
    assert [(m.role.value, m.content) for m in said] == [
        ("system", "Speak like a pirate."),
        ("user", f"Say what you know about: {QUESTION}"),
    ]
    plain = RetrieverQueryEngine(Given(nodes[:2]), BlockSynthesizer(llm))
    before = plain.query(QUESTION)
    assert plain.get_prompts() == {}
    plain.update_prompts({"response_synthesizer:text_qa_template": template})
    after = plain.query(QUESTION)
    assert list(plain.get_prompts()) == ["response_synthesizer:text_qa_template"]
    assert after.response != before.response and report(after)["kv_misses"] == 0


def test_the_stock_template_is_one(llm, nodes):
    response = RetrieverQueryEngine(
        Given(nodes[:2]), BlockSynthesizer(llm, text_qa_template=DEFAULT_TEXT_QA_PROMPT)
    ).query(QUESTION)
    assert len(response.source_nodes) == 2


@pytest.mark.parametrize(
    "template",
    [
        "{query_str} Read this: {context_str}",
        "Answer {query_str}",
        "{context_str} and again {context_str}: {query_str}",
        "{context_str} {query_str} {mood}",
    ],
)
def test_a_template_without_a_place_for_blocks_is_refused(template, llm):
    with pytest.raises(ArgumentError, match="needs {context_str} before {query_str}"):
        BlockSynthesizer(llm, text_qa_template=template)


def test_prompts_that_nothing_uses_are_refused(llm):
    with pytest.raises(ArgumentError, match="no prompt refine_template; it has text_qa_template"):
        BlockSynthesizer(llm).update_prompts({"refine_template": PromptTemplate("{context_msg}")})


def test_the_synthesizer_takes_the_llm_of_settings(llm, monkeypatch):
    monkeypatch.setattr(Settings, "_llm", llm)
    assert BlockSynthesizer().llm is llm


def test_an_edited_document_replaces_its_nodes_and_their_kv(llm, parser, documents, embed_model):
    store = BlockKVVectorStore(SimpleVectorStore(), llm)
    index = VectorStoreIndex.from_documents(
        documents,
        storage_context=StorageContext.from_defaults(vector_store=store),
        transformations=[parser],
        embed_model=embed_model,
        store_nodes_override=True,
    )
    before = kv_files(llm)
    lima = documents[1].model_copy(deep=True)
    lima.set_content("Lima was founded in the year 1535, and the river Rimac flows through it to the sea.")
    assert index.refresh_ref_docs([documents[0], lima]) == [False, True]
    assert before - kv_files(llm) and kv_files(llm) - before
    found = index.as_retriever(similarity_top_k=50).retrieve("Lima")
    assert not any("Incas" in node.text for node in found) and any("1535" in node.text for node in found)


@pytest.mark.parametrize("segmenter", ["structural", "similarity"])
def test_parser_and_embedding_can_be_pickled(segmenter, llm, documents):
    """An `IngestionPipeline` sends them to its workers."""
    parser = SemanticBlockNodeParser.from_engine(llm.engine, segmenter=segmenter, granularity=1.0, max_tokens=64)
    embedding = BlockRAGEmbedding.from_engine(llm.engine)
    expected = [node.text for node in parser(documents)]
    parser, embedding = pickle.loads(pickle.dumps((parser, embedding)))
    assert [node.text for node in parser(documents)] == expected
    assert embedding.get_query_embedding(QUESTION) == llm.engine.embedder.embed([QUESTION])[0].tolist()


def test_two_workers_ingest_the_same(llm, parser, embed_model, documents, monkeypatch):
    monkeypatch.setattr("llama_index.core.ingestion.pipeline.multiprocessing.get_context", lambda method: FORKED)

    def texts(**options):
        pipeline = IngestionPipeline(transformations=[parser, embed_model], disable_cache=True)
        return sorted(node.text for node in pipeline.run(documents=documents, **options))

    assert texts(num_workers=2) == texts()
