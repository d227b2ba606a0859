"""Ask questions and keep conversations."""

import pytest

from tests.tiny import tiny_engine
from tests.ui.serving import TEXT, answered, load_files, make_service, only_document, visitor
from ui.handlers import ask, index, settings
from ui.handlers.question import answer_view, sources_view, times_view


def test_both_modes_answer_and_are_compared(collection):
    list(index.index_all(collection))
    state = answered(collection)
    times = times_view(state)
    assert [bar["name"] for bar in times["bars"]] == ["Block mode", "Full mode"] and "instead of" in times["headline"]
    for bar, mode in zip(times["bars"], state.modes, strict=True):
        assert bar["total"] == pytest.approx(sum(bar["stages"].values()))
        assert answer_view(state, mode)["text"] == state.answers[mode].text
    cards = sources_view(state)["sources"]
    assert "4 blocks from memory" in times["detail"] and [card["badge"] for card in cards] == ["cached"] * 4
    assert state.source(2).number == 2 and state.source(99) is None


def test_only_cached_blocks_are_marked_cached(collection):
    list(index.index_all(collection))
    engine = collection.pipeline.engine
    engine.kv.delete(engine.kv_key(answered(collection, modes=("full",)).sources[1].text))
    badges = [card["badge"] for card in sources_view(answered(collection))["sources"]]
    assert badges == ["cached", "", "cached", "cached"]


def test_the_temperature_of_the_settings_draws_the_answer(collection):
    list(index.index_all(collection))
    greedy = answered(collection, max_new_tokens=24).texts
    assert all(greedy.values())
    settings.save(collection, {"temperature": 2.0})
    assert answered(collection, max_new_tokens=24).texts != greedy
    settings.save(collection, {"top_p": 0.01})
    assert answered(collection, max_new_tokens=24).texts == greedy, "drawn from the most likely token alone"


def test_one_mode_alone(collection):
    list(index.index_all(collection))
    full, block = answered(collection, modes=("full",)), answered(collection, modes=("block",))
    assert "empty" in answer_view(full, "block") and "empty" in answer_view(block, "full")
    assert times_view(full)["headline"].startswith("First token after")
    assert times_view(block)["headline"].startswith("First token after")


def test_an_answer_in_progress_says_so(collection):
    list(index.index_all(collection))
    state = next(ask.ask(collection, "why?", ("block", "full"), 4, 6))
    assert answer_view(state, "block")["busy"] and "waiting" in answer_view(state, "full")["status"]
    assert times_view(state)["bars"][0]["pending"]
    state.stopped = True
    assert answer_view(state, "block")["status"] == "stopped" and not answer_view(state, "block")["busy"]


@pytest.mark.parametrize("question, message", [("why?", "index is empty"), ("why " * 1500, "does not fit")])
def test_errors_of_a_question_are_part_of_its_state(collection, question, message):
    if message == "does not fit":
        list(index.index_all(collection))
    state = answered(collection, question)
    assert message in state.error and message in answer_view(state, "block")["status"]


def test_blocks_left_out_are_listed(tmp_path):
    engine = tiny_engine(tmp_path / "kv", max_position_embeddings=300)
    service = make_service(engine, tmp_path / "data")
    collection = visitor(service)
    (tmp_path / "r.md").write_text(TEXT)
    list(load_files(collection, [tmp_path / "r.md"]))
    list(index.index_all(collection))
    assert "Left out" in times_view(answered(collection, modes=("block",), k=9))["detail"]
    service.library.close()


def test_a_follow_up_includes_the_previous_question(collection):
    list(index.index_all(collection))
    first = answered(collection)
    seen = []
    embed = collection.library.engine.embedder.embed
    collection.library.engine.embedder.embed = lambda texts: seen.extend(texts) or embed(texts)
    second = answered(collection, "And river 5?", previous=first, follow_up=True)
    assert second.conversation == first.conversation and seen[0].startswith("How long is river 3? And")
    assert second.answers["block"].question == "And river 5?"
    assert [t["question"] for t in ask.turns_view(collection, first.conversation)["turns"]] == [
        "How long is river 3?",
        "And river 5?",
    ]
    assert "Answers so far: 2." in ask.turns_view(collection, None)["saved"]
    assert answered(collection, "Else?").conversation != first.conversation


def test_pinned_sources_come_first_and_excluded_ones_never(collection):
    list(index.index_all(collection))
    first = answered(collection)
    wanted, unwanted = first.sources[3], first.sources[0]
    first.mark(wanted.number, "pin")
    first.mark(unwanted.number, "exclude")
    first.mark(99, "pin")
    cards = sources_view(first)["sources"]
    assert cards[3]["pinned"] and cards[0]["excluded"] and not cards[1]["pinned"]
    second = answered(collection, previous=first)
    assert second.sources[0].start == wanted.start and unwanted.start not in [s.start for s in second.sources]
    assert len(second.sources) == len(first.sources)
    second.mark(1, "pin")
    assert second.pinned == () and second.excluded == ((unwanted.document_id, unwanted.start),)


def test_an_answer_outlives_its_document_without_the_source(collection):
    list(index.index_all(collection))
    state = answered(collection)
    collection.remove(only_document(collection)[0])
    (turn,) = ask.turns_view(collection, state.conversation)["turns"]
    assert ask.recall(collection, state.conversation, turn["id"]).sources == ()
    assert ask.recall(collection, state.conversation, 999).question == "" == ask.recall(collection, None, 1).question
    assert ask.turns_view(collection, 999)["turns"] == []
