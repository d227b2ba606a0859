"""Ask questions and keep conversations."""

import pytest

from blockrag.segment import SizeBounds
from tests.tiny import tiny_engine
from tests.ui.serving import TEXT, answered, index_all, load_files, make_service, only_document, visitor
from ui import strings
from ui.handlers import ask, documents, index, settings, thread
from ui.handlers.question import Marks, QuestionState, sources_view, times_view
from ui.questions import Questions


def turn(state) -> dict:
    """How the page draws a question."""
    return thread._turn(state, is_selected=False)


def test_both_modes_answer_and_are_compared(collection):
    index_all(collection)
    state = answered(collection)
    times, drawn = times_view(state), turn(state)
    assert [bar["name"] for bar in times["bars"]] == ["Block mode", "Full mode"] and "instead of" in times["headline"]
    assert drawn["cost"] == times["headline"] and not drawn["compare"] and drawn["done"]
    for bar, answer, mode in zip(times["bars"], drawn["answers"], state.modes, strict=True):
        assert bar["total"] == pytest.approx(sum(bar["stages"].values()))
        assert answer["text"] == state.answers[mode].text and answer["mode"] == mode
    cards = sources_view(state, Marks())["sources"]
    assert "4 blocks from memory" in times["detail"] and [card["badge"] for card in cards] == ["cached"] * 4
    assert state.source(2).number == 2 and state.source(99) is None


def test_only_cached_blocks_are_marked_cached(collection):
    index_all(collection)
    engine = collection.pipeline.engine
    engine.kv.delete(engine.kv_key(answered(collection, modes=("full",)).sources[1].text))
    badges = [card["badge"] for card in sources_view(answered(collection), Marks())["sources"]]
    assert badges == ["cached", "", "cached", "cached"]


def test_the_temperature_of_the_settings_draws_the_answer(collection):
    index_all(collection)
    greedy = answered(collection, max_new_tokens=24).texts
    assert all(greedy.values())
    settings.save(collection, {"temperature": 2.0})
    assert answered(collection, max_new_tokens=24).texts != greedy
    settings.save(collection, {"top_p": 0.01})
    assert answered(collection, max_new_tokens=24).texts == greedy, "drawn from the most likely token alone"


def test_one_mode_alone_can_be_compared_later(collection):
    index_all(collection)
    for mode, other in (("block", "full"), ("full", "block")):
        state = answered(collection, modes=(mode,))
        assert turn(state)["cost"].startswith("First words after") and turn(state)["compare"]
        again = ask.again(collection, state.conversation, state.turn, other)
        *_, both = ask.answer(collection, again, 32, 6, (other,))
        assert not both.error and both.modes == ask.MODES and both.turn == state.turn
        assert "instead of" in turn(both)["cost"]
        (saved,) = ask.turns(collection, state.conversation)
        assert saved.answers == both.answers and saved.sources == state.sources


def test_what_has_changed_since_is_not_compared(collection):
    index_all(collection)
    state = answered(collection, modes=("block",))
    collection.segment(only_document(collection)[0], "fixed", SizeBounds(16, 40))
    index_all(collection)
    again = ask.again(collection, state.conversation, state.turn, "full")
    *_, again = ask.answer(collection, again, 32, 6, ("full",))
    assert again.error == strings.SOURCES_CHANGED
    assert ask.again(collection, state.conversation, 999, "full") is None


def test_the_first_token_is_told_when_it_comes(collection):
    index_all(collection)
    state = ask.begin(collection, "How long is river 3?", ("block",))
    seen = [(state.first_token_ms.get("block"), bool(state.answers)) for _ in ask.answer(collection, state, 4, 6)]
    first, is_whole = next(step for step in seen if step[0] is not None)
    assert not is_whole and first == pytest.approx(state.answers["block"].report.ttft_ms)


def test_an_answer_is_saved_before_it_is_shown_as_done(collection):
    index_all(collection)
    state = ask.begin(collection, "How long is river 3?", ("block", "full"))
    for _ in ask.answer(collection, state, 4, 6):
        if state.answers:
            (saved,) = ask.turns(collection, state.conversation)
            assert turn(state)["id"] == saved.id and set(saved.answers) == set(state.answers)


def test_an_answer_in_progress_says_so(collection):
    index_all(collection)
    state = ask.begin(collection, "why?", ("block", "full"))
    assert turn(state)["status"] == strings.QUEUED
    steps = ask.answer(collection, state, 4, 6)
    next(steps)
    assert turn(state)["status"] == strings.READING and turn(state)["answers"][0]["busy"]
    assert times_view(state)["bars"][0]["pending"]
    state.stopped = True
    assert turn(state)["status"] == strings.STOPPED and not turn(state)["answers"][0]["busy"]


def test_a_stopped_answer_keeps_what_there_is(collection):
    index_all(collection)
    state = ask.begin(collection, "How long is river 3?", ("block", "full"))
    for _ in ask.answer(collection, state, 4, 200):
        state.stopped = state.stopped or bool(state.texts.get("block"))
    (saved,) = ask.turns(collection, state.conversation)
    assert list(saved.answers) == ["block"] and saved.answers["block"].text == state.texts["block"] != ""
    assert saved.answers["block"].stopped == "closed"
    assert turn(ask.recall(collection, saved))["answers"][0]["ended"] == strings.ENDED["closed"]


def test_an_answer_that_is_cut_off_says_so_and_can_go_on(collection):
    index_all(collection)
    state = answered(collection, modes=("block",), max_new_tokens=3)
    assert state.answers["block"].stopped == "length"
    assert turn(state)["longer"] and turn(state)["answers"][0]["ended"] == strings.ENDED["length"]
    again = ask.again(collection, state.conversation, state.turn, "block")
    *_, longer = ask.answer(collection, again, 32, 9, ("block",))
    assert longer.answers["block"].text.startswith(state.texts["block"]) and longer.turn == state.turn
    assert len(ask.turns(collection, state.conversation)) == 1


def test_questions_that_cannot_be_asked_are_refused(collection):
    for question, message in (("  ", strings.EMPTY_QUESTION), ("why " * 9000, "The limit is 20,000")):
        with pytest.raises(ask.LimitError, match=message):
            ask.begin(collection, question, ("block",))
    assert ask.conversation_choices(collection) == []


def test_errors_of_a_question_are_part_of_its_state(collection, service):
    index_all(collection)
    state = answered(collection, "why " * 1500)
    assert "does not fit" in state.error and turn(state)["status"] == state.error and turn(state)["failed"]


def test_nobody_who_added_documents_is_told_that_the_index_is_empty(service, collection, clock, tmp_path):
    asked = ask.begin(collection, "How long is river 3?", ("block",))
    steps = ask.answer(collection, asked, 4, 6)
    next(steps)
    assert turn(asked)["status"] == strings.WAITING_FOR_DOCUMENTS
    clock.now += 10
    while service.worker.work():
        pass
    assert not list(steps)[-1].error and asked.answers
    collection.remove(only_document(collection)[0])
    assert answered(collection).error == strings.ASK_NO_DOCUMENTS
    settings.save(collection, {"auto_index": False})
    load_files(collection, [tmp_path / "rivers.md"])
    assert answered(collection).error == strings.ASK_NOT_INDEXED
    index.start(collection)
    collection.worker.stop(collection.record.id)
    assert answered(collection).error == strings.ASK_NOT_INDEXED, "what is stopped is not waited for"


def test_blocks_left_out_are_listed(tmp_path):
    engine = tiny_engine(tmp_path / "kv", max_position_embeddings=300)
    service = make_service(engine, tmp_path / "data")
    collection = visitor(service)
    (tmp_path / "r.md").write_text(TEXT)
    load_files(collection, [tmp_path / "r.md"])
    index_all(collection)
    state = answered(collection, modes=("block",), k=9)
    assert "Left out" in times_view(state)["detail"] and "left out" in turn(state)["detail"]
    service.library.close()


@pytest.mark.parametrize(
    "question, leans",
    [
        ("And river 5?", True),
        ("How tall is it?", True),
        ("What about the other one on the island?", True),
        ("Why?", True),
        ("When did they arrive on the island?", True),
        ("Who was that?", True),
        ("How long does the ferry crossing take?", False),
        ("Is there a bakery on the island?", False),
        ("Who built the lighthouse that stands on the cliffs?", False),
    ],
)
def test_a_question_that_points_back_is_known(question, leans):
    assert ask.leans_back(question) == leans


def test_a_follow_up_includes_the_previous_question(collection):
    index_all(collection)
    first = answered(collection)
    seen = []
    embed = collection.library.engine.embedder.embed
    collection.library.engine.embedder.embed = lambda texts: seen.extend(texts) or embed(texts)
    second = answered(collection, "And river 5?", conversation=first.conversation)
    assert second.conversation == first.conversation and seen[0].startswith("How long is river 3? And")
    assert second.answers["block"].question == "And river 5?" and turn(second)["note"] == strings.AS_FOLLOW_UP
    one, two = ask.turns(collection, first.conversation)
    assert [one.question, two.question] == ["How long is river 3?", "And river 5?"] and two.is_follow_up
    assert ask.again(collection, first.conversation, two.id, "full").previous.question == one.question
    assert "Answers so far: 2." in ask.saved(collection)
    assert answered(collection, "Else?").conversation != first.conversation


def test_pinned_sources_come_first_and_excluded_ones_never(collection):
    index_all(collection)
    first, marks = answered(collection), Marks()
    wanted, unwanted = first.sources[3], first.sources[0]
    marks.mark(wanted, "pin")
    marks.mark(unwanted, "exclude")
    marks.mark(first.source(99), "pin")
    drawn = sources_view(first, marks)
    cards = drawn["sources"]
    assert cards[3]["pinned"] and cards[0]["excluded"] and not cards[1]["pinned"]
    second = answered(collection, marks=marks)
    assert second.sources[0].start == wanted.start and unwanted.start not in [s.start for s in second.sources]
    assert len(second.sources) == len(first.sources)
    marks.mark(second.sources[0], "pin")
    (block,) = marks.excluded
    assert marks.pinned == () and block == (unwanted.document_id, unwanted.start)
    assert drawn["excluded"][0]["name"].startswith("rivers.md, characters ")
    marks.restore(block)
    assert sources_view(second, marks)["excluded"] == []


def test_an_answer_outlives_its_document_without_the_source(collection):
    index_all(collection)
    state = answered(collection)
    collection.remove(only_document(collection)[0])
    (kept,) = ask.turns(collection, state.conversation)
    assert ask.recall(collection, kept).sources == ()
    assert ask.turns(collection, 999) == [] == ask.turns(collection, None)


def test_answers_are_rated(collection):
    index_all(collection)
    state, store = answered(collection, modes=("block",)), collection.store.conversations
    for rating in (1, -1, None):
        store.rate(collection.record.id, state.turn, "block", rating)
        (saved,) = ask.turns(collection, state.conversation)
        assert turn(ask.recall(collection, saved))["answers"][0]["rating"] == (rating or 0)


def ended(questions: Questions, key) -> None:
    """Wait until a conversation's questions are answered."""
    version = -1
    while questions.is_active(*key):
        version = questions.wait(version, 5)


def test_questions_of_a_conversation_are_answered_in_turn_without_a_page(collection):
    index_all(collection)
    questions, conversation = Questions(), None
    for question in ("How long is river 3?", "How long is river 5?", "How long is river 7?"):
        state = ask.begin(collection, question, ("block",), conversation)
        conversation = state.conversation
        assert questions.submit(collection, state, lambda state=state: ask.answer(collection, state, 4, 6))
    key = (collection.record.id, conversation)
    assert questions.live(*key)[-1].question == "How long is river 7?"
    ended(questions, key)
    states = thread.thread(collection, questions, conversation)
    assert [state.question[-2] for state in states] == ["3", "5", "7"] and all(state.answers for state in states)


def test_too_many_questions_are_refused_and_stopped_ones_end(collection):
    index_all(collection)
    questions, states = Questions(), []

    def answering(state):
        while not state.stopped:
            yield state

    while True:
        states.append(
            ask.begin(collection, "How long is river 3?", ("block",), states[0].conversation if states else None)
        )
        if not questions.submit(collection, states[-1], lambda state=states[-1]: answering(state)):
            break
    assert len(states) == 9
    questions.stop(collection.record.id, states[0].conversation)
    questions.close()
    assert all(state.stopped for state in states[:8])


def test_a_fault_of_the_program_ends_one_question_alone(collection, caplog):
    index_all(collection)
    questions = Questions()
    state = ask.begin(collection, "How long is river 3?", ("block",))
    key = (collection.record.id, state.conversation)

    def broken():
        yield state
        raise ZeroDivisionError

    questions.submit(collection, state, broken)
    ended(questions, key)
    (failed,) = questions.live(*key)
    assert failed.error == strings.INTERNAL_ERROR and "ZeroDivisionError" in caplog.text
    after = ask.begin(collection, "How long is river 5?", ("block",), state.conversation)
    questions.submit(collection, after, lambda: ask.answer(collection, after, 4, 6))
    ended(questions, (collection.record.id, after.conversation))
    assert [s.question for s in thread.thread(collection, questions, after.conversation)] == ["How long is river 5?"]


def test_the_sample_is_offered_and_suggests_questions(service):
    collection, questions = visitor(service), service.questions

    def drawn():
        return thread.view(collection, questions, None, [], QuestionState())

    assert drawn()["sample"] == strings.SAMPLE and drawn()["suggestions"] == []
    documents.receive_sample(collection)
    while service.worker.work():
        assert drawn()["suggestions"] == list(strings.SAMPLE_QUESTIONS) and not drawn()["sample"]
    (document,) = collection.documents.values()
    assert document.is_indexed and "Ada Thornbury" in document.content.text
