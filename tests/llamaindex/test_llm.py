"""The LLM as LlamaIndex uses LLMs: flat prompts, chats with blocks, streams, async, token counts."""

import asyncio

import pytest
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.prompts import PromptTemplate

from blockrag.errors import ContentError, PromptTooLongError
from blockrag.events import Answer
from blockrag.llamaindex import BlockAttentionLLM
from blockrag.pipeline import Pipeline
from tests.llamaindex.cities import QUESTION, TEXTS, chat_of, report


def test_each_citable_block_is_one_attention_block(llm):
    first, second = llm.chat(chat_of()), llm.chat(chat_of())
    assert report(first)["kv_misses"] == 3 and report(first)["mode"] == "block"
    assert report(second)["kv_misses"] == 0 and sum(report(second)["kv_hits"].values()) == 3
    assert first.message.content == second.message.content
    assert {llm.engine.kv_key(text) in llm.engine.kv for text in TEXTS} == {True}


def test_the_order_of_blocks_is_kept_and_order_misses_no_cache(llm):
    llm.chat(chat_of())
    assert report(llm.chat(chat_of(TEXTS[::-1])))["kv_misses"] == 0


def test_titles_are_told_and_miss_no_cache(llm):
    llm.chat(chat_of())
    plain = llm.chat(chat_of())
    titled = llm.chat(chat_of(titles=("file: a.txt", "", "file: a.txt")))
    assert report(titled)["kv_misses"] == 0
    assert report(titled)["n_prefill_tokens"] > report(plain)["n_prefill_tokens"]


def test_the_answer_is_that_of_the_librarys_own_pipeline(llm, tmp_path):
    from blockrag.documents import Document  # noqa: PLC0415

    pipeline = Pipeline.open(llm.engine, tmp_path)
    for text in TEXTS:
        pipeline.add(pipeline.segment(Document(text[:9], "text/plain", text)), 0.0)
    *_, answer = pipeline.ask(QUESTION, k=3, max_new_tokens=6)
    assert isinstance(answer, Answer)
    assert llm.chat(chat_of([source.text for source in answer.sources])).message.content == answer.text


def test_full_mode_is_there_to_compare(llm):
    full = BlockAttentionLLM(llm.engine, mode="full", max_tokens=6)
    response = full.chat(chat_of())
    assert report(response)["mode"] == "full" and report(response)["kv_misses"] == 0
    assert response.raw["usage"]["prompt_tokens"] == llm.chat(chat_of()).raw["usage"]["prompt_tokens"]


def test_an_own_instruction_moves_no_block(llm):
    llm.chat(chat_of())
    system = ChatMessage(role=MessageRole.SYSTEM, content="Answer in one word, in rhyme, and never at length.")
    other = llm.chat(chat_of(before=[system]))
    assert report(other)["kv_misses"] == 0
    assert other.message.content != llm.chat(chat_of()).message.content


def test_earlier_turns_are_computed_and_their_blocks_are_not(llm):
    turn = chat_of(TEXTS[:2], "What is in Cairo?")
    llm.chat(turn)
    answer = ChatMessage(role=MessageRole.ASSISTANT, content="The Nile.")
    later = [*turn, answer, *chat_of(TEXTS[2:], "And in Lima?")]
    response = llm.chat(later)
    assert report(response)["kv_misses"] == 1 and sum(report(response)["kv_hits"].values()) == 2
    assert report(llm.chat(later))["kv_misses"] == 0


def test_a_flat_prompt_works_as_with_any_llm(llm):
    assert llm.complete(QUESTION).text == llm.chat([ChatMessage(role="user", content=QUESTION)]).message.content
    assert llm.predict(PromptTemplate("{q}"), q=QUESTION) == llm.complete(QUESTION).text
    raw = llm.complete("The river", formatted=True)
    ids = llm.engine.prompt.own_ids("The river")
    assert raw.raw["usage"]["prompt_tokens"] == len(ids) and raw.raw["usage"]["completion_tokens"] <= 6
    assert report(raw)["mode"] == "full" and report(raw)["n_context_tokens"] == 0


def test_max_tokens_of_a_call(llm):
    assert llm.chat(chat_of(), max_tokens=2).raw["usage"]["completion_tokens"] == 2
    with pytest.raises(TypeError, match="n_beams"):
        llm.chat(chat_of(), n_beams=2)


def test_streams_are_the_answer_in_pieces(llm):
    whole = llm.chat(chat_of()).message.content
    pieces = list(llm.stream_chat(chat_of()))
    assert "".join(p.delta for p in pieces) == whole == pieces[-1].message.content
    assert [p.raw is None for p in pieces] == [True] * (len(pieces) - 1) + [False]
    text = llm.complete(QUESTION).text
    assert "".join(p.delta for p in llm.stream_complete(QUESTION)) == text


def test_a_stream_that_is_closed_frees_its_place(llm):
    for _ in range(5):  # more than there are places
        stream = llm.stream_chat(chat_of())
        next(stream)
        stream.close()
    assert llm.chat(chat_of()).message.content


def test_async_is_the_same_and_lets_the_loop_go_on(llm):
    async def all_of_them():
        beats = 0

        async def beat():
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0.001)

        heart = asyncio.create_task(beat())
        chat = (await llm.achat(chat_of())).message.content
        stream = "".join([r.delta async for r in await llm.astream_chat(chat_of())])
        text = (await llm.acomplete(QUESTION)).text
        texts = "".join([r.delta async for r in await llm.astream_complete(QUESTION)])
        heart.cancel()
        return chat, stream, text, texts, beats

    chat, stream, text, texts, beats = asyncio.run(all_of_them())
    assert chat == stream == llm.chat(chat_of()).message.content
    assert text == texts == llm.complete(QUESTION).text and beats > 10


def test_a_cancelled_answer_stops_and_gives_its_slot_back(llm):
    """Cancelling a stream raised ValueError, as its generator was at work, and `achat` went on to the end."""
    queue = llm.engine.queue

    async def read_stream():
        async for _ in await llm.astream_chat(chat_of(), max_tokens=2000):
            pass

    async def cancel(task):
        while not queue.n_admitted:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            while queue.n_admitted:
                await asyncio.sleep(0.001)

    async def all_of_them():
        for ask in (read_stream, lambda: llm.achat(chat_of(), max_tokens=2000)):
            await cancel(asyncio.create_task(ask()))

    asyncio.run(all_of_them())


def test_token_counters_get_exact_counts(llm):
    counter = TokenCountingHandler()
    llm.callback_manager = CallbackManager([counter])
    usage = llm.chat(chat_of()).raw["usage"]
    list(llm.stream_chat(chat_of()))
    assert [e.prompt_token_count for e in counter.llm_token_counts] == [usage["prompt_tokens"]] * 2
    assert [e.completion_token_count for e in counter.llm_token_counts] == [usage["completion_tokens"]] * 2


def test_the_metadata_is_the_models(llm):
    assert llm.metadata.context_window == 4096 and llm.metadata.num_output == 6 and llm.metadata.is_chat_model
    assert llm.to_dict()["class_name"] == "BlockAttentionLLM" and "engine" not in llm.to_dict()


def test_what_is_not_text_is_refused_and_hints_are_passed_over(llm):
    point = CachePoint(cache_control=CacheControl(type="ephemeral"))
    message = ChatMessage(role="user", blocks=[TextBlock(text=QUESTION), point])
    assert llm.chat([message]).message.content == llm.complete(QUESTION).text
    picture = ImageBlock(image=b"x")
    for blocks in ([picture], [CitableBlock(title="", source="1", content=[picture])]):
        with pytest.raises(ContentError, match="ImageBlock; this model reads TextBlock"):
            llm.chat([ChatMessage(role="user", blocks=[*blocks, TextBlock(text=QUESTION)])])


def test_blocks_beyond_the_context_are_told(llm):
    many = [f"{n} " + "The river flows through the city. " * 40 for n in range(12)]
    response = llm.chat(chat_of(many, titles=[""] * 12))
    left_out = report(response)["left_out"]
    assert left_out and set(left_out) < {str(n) for n in range(12)}
    with pytest.raises(PromptTooLongError):
        llm.chat(chat_of(question="why " * 5000))
