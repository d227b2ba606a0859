"""The queue before the model: fair, bounded, and giving back what it lent."""

import threading
import time
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrag.admission import FairQueue
from blockrag.errors import BusyError
from blockrag.events import Answer, Queued
from blockrag.pipeline import Pipeline
from tests.samples import RIVERS
from tests.tiny import tiny_engine


def may_go(ticket) -> bool:
    return ticket.wait(0)


def test_as_many_go_as_there_are_slots_and_then_in_order():
    queue = FairQueue(slots=2)
    with ExitStack() as first, ExitStack() as rest:
        a, b = (first.enter_context(queue.ticket()) for _ in range(2))
        c, d = (rest.enter_context(queue.ticket()) for _ in range(2))
        assert may_go(a) and may_go(b) and not may_go(c) and not may_go(d) and (c.ahead, d.ahead) == (0, 1)
        first.close()
        assert may_go(c) and may_go(d)


def test_who_asks_most_waits_longest():
    queue, inside = FairQueue(slots=1), []
    for name in ("greedy", "greedy", "greedy", "greedy", "modest", "late"):
        context = queue.ticket(name)
        inside.append((name, context, context.__enter__()))
    assert [ticket.ahead for _, _, ticket in inside] == [0, 0, 3, 4, 1, 2]
    order = []
    while inside:
        (going,) = (held for held in inside if may_go(held[2]))
        order.append(going[0])
        inside.remove(going)
        going[1].__exit__(None, None, None)
    assert order == ["greedy", "greedy", "modest", "late", "greedy", "greedy"]


def test_a_full_queue_and_a_long_wait_are_told():
    queue = FairQueue(slots=1, max_waiting=1, max_wait_s=0.05)
    with queue.ticket(), queue.ticket() as waiting:
        with pytest.raises(BusyError, match="1 questions are waiting"), queue.ticket():
            pass
        with pytest.raises(BusyError, match=r"within 0\.05 seconds"):
            waiting.wait(1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.integers(1, 3))
def test_no_place_is_lost_whatever_comes_and_goes(events, slots):
    queue, inside = FairQueue(slots=slots, max_waiting=100), []
    for name, leaves in events:
        if leaves and inside:
            inside.pop(len(name) % len(inside)).close()
        else:
            held = ExitStack()
            held.ticket = held.enter_context(queue.ticket(name))
            inside.append(held)
        assert sum(may_go(held.ticket) for held in inside) == min(slots, len(inside))
    for held in inside:
        held.close()
    assert queue._free == slots and not queue._waiting


@pytest.fixture
def pipeline(tmp_path):
    engine = tiny_engine()
    engine.queue = FairQueue(slots=1, max_waiting=2, max_wait_s=20)
    pipeline = Pipeline.open(engine, tmp_path)
    pipeline.add(pipeline.segment(RIVERS))
    return pipeline


def test_questions_wait_are_told_so_and_are_answered_alike(pipeline, monkeypatch):
    monkeypatch.setattr("blockrag.answering.WAIT_STEP_S", 0.01)
    (*_, alone) = pipeline.ask("How long is river 3?", k=2, max_new_tokens=8)
    answers, places = [], []

    def ask() -> None:
        for event in pipeline.ask("How long is river 3?", k=2, max_new_tokens=8):
            if isinstance(event, Queued):
                places.append(event.ahead)
            elif isinstance(event, Answer):
                answers.append(event.text)

    running = pipeline.ask("Which river is long?", k=2, max_new_tokens=8)
    next(running)
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    with pytest.raises(BusyError, match="are waiting"):
        next(pipeline.ask("One more?"))
    list(running)
    for thread in threads:
        thread.join()
    assert answers == [alone.text] * 2 and {0, 1} <= set(places)


def test_a_cancelled_question_frees_its_place_waiting_or_not(pipeline):
    running, waiting = pipeline.ask("Which river is long?"), pipeline.ask("How long is river 3?")
    next(running)
    assert isinstance(next(waiting), Queued)
    waiting.close()
    running.close()
    assert pipeline.engine.queue._free == 1
    assert isinstance([*pipeline.ask("How long is river 3?", max_new_tokens=4)][-1], Answer)


def test_streams_that_nobody_reads_give_their_slots_up(pipeline, monkeypatch):
    monkeypatch.setattr("blockrag.answering.WAIT_STEP_S", 0.01)
    pipeline.engine.queue.max_idle_s = 0.05
    left = pipeline.ask("Which river is long?", max_new_tokens=8)
    next(left)
    asked = time.monotonic()
    assert isinstance([*pipeline.ask("How long is river 3?", max_new_tokens=4)][-1], Answer)
    assert time.monotonic() - asked < 10
    with pytest.raises(BusyError, match="nobody read it"):
        next(left)
    assert pipeline.engine.queue._free == 1


def test_a_slow_reader_keeps_its_slot_while_nobody_waits(pipeline):
    pipeline.engine.queue.max_idle_s = 0.01
    slow = pipeline.ask("Which river is long?", max_new_tokens=4)
    events = []
    for event in slow:
        events.append(event)
        time.sleep(0.03)
    assert isinstance(events[-1], Answer) and list(slow) == []


def test_a_stream_that_is_dropped_frees_its_slot(pipeline):
    stream = pipeline.ask("Which river is long?")
    next(stream)
    assert pipeline.engine.queue._free == 0
    del stream
    assert pipeline.engine.queue._free == 1
