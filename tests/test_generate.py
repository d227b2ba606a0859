"""Streamed text, end tokens, the cache's limits, citations and the stopwatch."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.attention.kv_cache import PreallocatedCache
from blockrag.cite import cite
from blockrag.errors import UnsupportedModelError
from blockrag.events import Source
from blockrag.generate import TextStream, end_tokens, prefill
from blockrag.stopwatch import Stopwatch
from tests.tiny import ROPE, tiny_model, tiny_tokenizer


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=80))
def test_streamed_pieces_are_the_whole_text(text):
    tokenizer = tiny_tokenizer()
    ids = tokenizer(text).input_ids
    stream = TextStream(tokenizer)
    pieces = [stream.push(i) for i in ids]
    assert not any("\ufffd" in piece for piece in pieces) or "\ufffd" in text
    assert "".join(pieces) + stream.flush() == tokenizer.decode(ids, skip_special_tokens=True)


def test_a_character_of_several_tokens_comes_whole():
    tokenizer = tiny_tokenizer()
    ids = tokenizer("é🧱").input_ids
    stream = TextStream(tokenizer)
    assert [p for p in (stream.push(i) for i in ids) if p] == ["é", "🧱"] and len(ids) == 6


@pytest.mark.parametrize("configured, expected", [([7, 9], {7, 9}), (7, {7}), (None, {2})])
def test_end_tokens_are_the_generation_settings_or_the_tokenizers(configured, expected):
    model = tiny_model(tokenizer=tiny_tokenizer())
    model.network.generation_config.eos_token_id = configured
    assert end_tokens(model) == expected


def test_layers_that_do_not_hand_on_how_to_attend_are_refused():
    """StableLM's; with as many key/value heads as query heads the stand-in for the mask would hide nothing."""
    model = tiny_model(
        "stablelm", kv_heads=4, allow_unverified=True, rope_parameters={**ROPE["default"], "partial_rotary_factor": 1.0}
    )
    cache = PreallocatedCache(model.kv_storage(8))
    prefill(model, [5, 6], cache)
    with pytest.raises(UnsupportedModelError, match="StableLmAttention has a mask for 1 of 4 keys"):
        prefill(model, [7, 8], cache)


def test_a_full_cache_says_what_it_holds():
    model = tiny_model()
    with pytest.raises(ValueError, match="holds 4 tokens, 5 were asked for"):
        prefill(model, [5, 6, 7, 8, 9], PreallocatedCache(model.kv_storage(4)))


def source(number: int, text: str) -> Source:
    return Source(number, "d", "id", 0, len(text), text, 0.5, 10)


def test_statements_are_cited_to_the_source_that_contains_them():
    sources = [source(1, "The Seine flows through Paris."), source(2, "The Tiber flows through Rome.")]
    answer = "The Tiber flows through Rome. Paris lies on the Seine. Bananas grow elsewhere."
    cited = cite(answer, sources)
    assert [(answer[c.start : c.end].strip(), c.number) for c in cited] == [
        ("The Tiber flows through Rome.", 2),
        ("Paris lies on the Seine.", 1),
    ]
    assert cited[0].support == 1.0 > cited[1].support >= 0.5


@pytest.mark.parametrize(
    "refusal",
    [
        "The documents do not say.",
        "The documents don't say who built the tower.",
        "It is not mentioned in the documents.",
        "The text does not mention the Seine.",
        "I don't know.",
    ],
)
def test_a_refusal_cites_nothing(refusal):
    sources = [
        source(1, "The documents do not say who built it; the text does not mention it. I don't know."),
        source(2, refusal),
    ]
    assert cite(refusal, sources) == ()
    assert [
        c.number for c in cite(f"{refusal} The tower stands by the sea.", [source(1, "The tower stands by the sea.")])
    ] == [1]


def test_nothing_is_cited_without_text_or_sources():
    assert cite("", [source(1, "a")]) == () == cite("A statement.", [])


def test_the_stopwatch_counts_stages_and_not_the_reader():
    watch = Stopwatch()
    for _ in range(2):
        with watch.stage("work"):
            time.sleep(0.01)
        time.sleep(0.05)  # the reader of a stream takes its time
    assert 20 <= watch.ms("work") < 60 and watch.ms("other") == 0
    assert watch.total_ms("work", "other") == watch.ms("work")


def test_a_stage_that_fails_is_counted():
    watch = Stopwatch()
    with pytest.raises(KeyError), watch.stage("work"):
        time.sleep(0.01)
        raise KeyError
    assert watch.ms("work") >= 10
