"""Chat engines over several turns: stock ones, and those that leave nodes apart."""

import asyncio

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.chat_engine import CondenseQuestionChatEngine, ContextChatEngine, SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer

from blockrag.llamaindex import BlockCondensePlusContextChatEngine, BlockContextChatEngine, BlockSynthesizer
from tests.llamaindex.cities import QUESTION, report


@pytest.fixture
def index(nodes, embed_model):
    return VectorStoreIndex(nodes, embed_model=embed_model)


ENGINES = [BlockContextChatEngine, BlockCondensePlusContextChatEngine]


@pytest.mark.parametrize("kind", ENGINES)
def test_turns_add_up_and_blocks_are_found_again(kind, llm, index):
    chat = kind.from_defaults(retriever=index.as_retriever(similarity_top_k=2), llm=llm, system_prompt="Be kind.")
    first = chat.chat(QUESTION)
    assert report(first)["kv_misses"] == 2 and len(first.source_nodes) == 2
    second = chat.chat(QUESTION)
    assert [m.role.value for m in chat.chat_history] == ["user", "assistant"] * 2
    if kind is BlockContextChatEngine:  # the other one condenses the question, and a random model condenses at random
        assert report(second)["kv_misses"] == 0
        assert (
            report(second)["n_prefill_tokens"] > report(first)["n_prefill_tokens"] - report(first)["n_context_tokens"]
        )
    chat.reset()
    assert chat.chat_history == [] and report(chat.chat(QUESTION))["kv_misses"] == 0


@pytest.mark.parametrize("kind", ENGINES)
def test_chats_stream_and_run_async(kind, llm, index):
    def new():
        return kind.from_defaults(retriever=index.as_retriever(similarity_top_k=2), llm=llm)

    expected = new().chat(QUESTION).response
    engine = new()
    stream = engine.stream_chat(QUESTION)
    assert "".join(stream.response_gen) == expected == engine.chat_history[-1].content
    assert report(stream)["kv_misses"] == 0

    async def both():
        whole = await new().achat(QUESTION)
        later = await new().astream_chat(QUESTION)
        return whole, "".join([piece async for piece in later.async_response_gen()]), later

    whole, pieces, later = asyncio.run(both())
    assert whole.response == pieces == expected and report(whole)["kv_misses"] == report(later)["kv_misses"] == 0


def test_the_stock_engines_work_as_they_are(llm, index):
    retriever = index.as_retriever(similarity_top_k=2)
    over_blocks = index.as_query_engine(llm=llm, response_synthesizer=BlockSynthesizer(llm), similarity_top_k=2)
    engines = [
        CondenseQuestionChatEngine.from_defaults(query_engine=over_blocks, llm=llm),
        ContextChatEngine.from_defaults(retriever=retriever, llm=llm),
        SimpleChatEngine.from_defaults(llm=llm, memory=ChatMemoryBuffer.from_defaults(token_limit=1000, llm=llm)),
        index.as_chat_engine(chat_mode="condense_plus_context", llm=llm),
    ]
    for engine in engines:
        for _ in range(2):
            assert isinstance(engine.chat(QUESTION).response, str)
        assert len(engine.chat_history) == 4
