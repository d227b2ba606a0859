"""What users of LlamaIndex expect of its classes: defaults, settings, and an honest chat engine."""

import warnings

import pytest
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.chat_engine.types import ChatMode
from llama_index.core.llms import ChatMessage
from llama_index.core.vector_stores import SimpleVectorStore

from blockrag.llamaindex import BlockContextChatEngine, BlockKVVectorStore, BlockSynthesizer, SemanticBlockNodeParser


def test_a_parser_has_defaults_and_splits_texts(parser, documents):
    made = SemanticBlockNodeParser.from_defaults(segmenter="fixed", model="smollm2", max_tokens=64, min_tokens=16)
    assert (made.segmenter, made.max_tokens) == ("fixed", 64)
    text = documents[0].text
    assert "".join(parser.split_text(text)) == text and len(parser.split_text(text)) > 1 and parser.split_text("") == []


def test_a_synthesizer_takes_the_llm_of_the_settings(llm, monkeypatch):
    monkeypatch.setattr(Settings, "_llm", llm)
    assert BlockSynthesizer().llm is llm


def test_a_vector_store_gives_vectors_and_persists_where_llamaindex_does(
    llm, embed_model, nodes, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    store = BlockKVVectorStore(SimpleVectorStore(), llm)
    for node in nodes:
        node.embedding = embed_model.get_text_embedding(node.text)
    store.add(nodes)
    assert store.get(nodes[0].node_id) == nodes[0].embedding
    store.persist()
    assert (tmp_path / "storage" / "vector_store.json").is_file()


def test_a_stock_chat_engine_is_told_that_it_uses_no_block_kv(llm, embed_model, nodes):
    index = VectorStoreIndex(nodes, embed_model=embed_model)
    stock = index.as_chat_engine(chat_mode=ChatMode.CONTEXT, llm=llm, similarity_top_k=9)
    with pytest.warns(UserWarning, match="had no blocks and was read in full.*BlockContextChatEngine"):
        stock.chat("Which river flows through Rome?")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stock.chat("And through Lima?")
        engine = BlockContextChatEngine.from_defaults(index.as_retriever(), llm=llm)
        assert engine.chat("Which river?").metadata["blockrag"]["mode"] == "block"
    assert not llm.chat([ChatMessage(content="Hello")]).raw["blockrag"]["notes"]
    long = llm.chat([ChatMessage(content="word " * 300)]).raw["blockrag"]
    assert long["mode"] == "full" and "had no blocks" in long["notes"][0]
