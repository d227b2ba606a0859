"""The queue before the model: fair, bounded, and giving back what it lent."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrag.admission import FairQueue, each_in_thread
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


class Clock:
    """Time that passes when told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Line:
    """A queue on a fake clock, and who waits or is served there."""

    def __init__(self, slots=1, **options):
        self.clock = Clock()
        self.queue = FairQueue(slots, clock=self.clock, max_wait_s=1e9, **options)
        self.inside = []

    def draw(self, *clients):
        for client in clients:
            held = ExitStack()
            self.inside.append((client, held.enter_context(self.queue.ticket(client)), held))

    def served(self):
        return [client for client, ticket, _ in self.inside if may_go(ticket)]

    def run(self, seconds, n=1):
        """Serve `n` of those whose turn it is, `seconds` each, and return who they were."""
        order = []
        for _ in range(n):
            going = next(held for held in self.inside if may_go(held[1]))
            took = seconds[going[0]] if isinstance(seconds, dict) else seconds
            self.clock.now += took
            self.inside.remove(going)
            going[2].close()
            order.append(going[0])
        return order


def test_who_asks_most_waits_longest():
    line = Line()
    line.draw("greedy", "greedy", "greedy", "greedy", "modest", "late")
    assert [ticket.ahead for _, ticket, _ in line.inside] == [0, 0, 3, 4, 1, 2]
    assert line.run(1.0, 6) == ["greedy", "modest", "late", "greedy", "greedy", "greedy"]


def test_long_questions_cost_their_sender():
    line, seconds = Line(max_waiting=200), {"long": 30.0, "short": 1.0}
    line.draw(*["long", "short"] * 60)
    order = line.run(seconds, 60)
    assert (
        20 <= order.count("short") / order.count("long") <= 40
    )  # the same time for both, not as many turns; decay favours the long a little
    assert not set(order[1:25]) - {"short"}


def test_what_was_served_is_forgotten():
    line = Line()
    line.draw("one", "other")
    assert line.run({"one": 8.0, "other": 4.0}, 2) == ["one", "other"]
    line.clock.now += 3600
    line.draw("busy")
    line.draw("one", "other")
    assert line.run(1.0, 3) == ["busy", "one", "other"]
    assert len(line.queue._served._seconds) <= 6


def test_an_answer_in_progress_counts():
    line = Line(slots=2)
    line.draw("greedy", "greedy", "greedy", "late")
    line.clock.now += 5
    line.inside.pop(1)[2].close()
    assert line.served() == ["greedy", "late"]


def test_addresses_share_the_slots_however_many_clients_they_have():
    line = Line()
    line.draw(*[("attacker", f"new {i}") for i in range(40)], ("home", "me"))
    assert line.run(2.0, 2)[1] == ("home", "me")
    line.draw(*[("home", "me")] * 10)
    assert line.run(2.0, 16).count(("home", "me")) == 8


def test_clients_of_one_address_share_its_slots():
    line = Line()
    line.draw(*[("office", "greedy")] * 5, ("office", "modest"))
    assert line.run(1.0, 2) == [("office", "greedy"), ("office", "modest")]


def test_the_last_slot_is_left_to_others_while_there_were_any():
    line = Line(slots=3)
    line.draw("a", "a", "a")
    assert line.served() == ["a"] * 3  # nobody else was here
    line.run(1.0, 3)
    line.draw("b")
    line.run(1.0)
    line.draw("a", "a", "a")
    assert line.served() == ["a"] * 2
    line.draw("b")
    assert line.served() == ["a", "a", "b"]
    line.run(1.0, 4)
    line.clock.now += 3600
    line.draw("a", "a", "a")
    assert line.served() == ["a"] * 3


def test_in_a_full_queue_a_sender_of_many_gives_way():
    line = Line(max_waiting=4)
    line.draw("visitor")
    line.draw(*["attacker"] * 4, "visitor")
    assert line.queue.n_waiting == 4
    with pytest.raises(BusyError, match="gave way"):
        line.inside[4][1].wait(0)
    line.inside.pop(4)[2].close()
    line.draw("late", "later")
    assert line.queue.n_waiting == 4  # one of each
    with pytest.raises(BusyError, match="4 questions are waiting"):
        line.draw("latest")


def test_a_full_queue_and_a_long_wait_are_told():
    queue = FairQueue(slots=1, max_waiting=1, max_wait_s=0.05)
    with queue.ticket(), queue.ticket() as waiting:
        with pytest.raises(BusyError, match="1 questions are waiting"), queue.ticket():
            pass
        with pytest.raises(BusyError, match=r"within 0\.05 seconds"):
            waiting.wait(1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.integers(1, 3))
def test_no_place_is_lost_whatever_comes_and_goes(events, slots):
    queue, inside = FairQueue(slots=slots, max_waiting=100, clock=Clock()), []
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
    assert queue.n_admitted == 0 and queue.n_waiting == 0


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
    assert pipeline.engine.queue.n_admitted == 0
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
    assert pipeline.engine.queue.n_admitted == 0


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
    assert pipeline.engine.queue.n_admitted == 1
    del stream
    assert pipeline.engine.queue.n_admitted == 0


def test_a_stream_that_waits_takes_no_thread_from_one_that_has_its_turn():
    turn, closed = threading.Event(), threading.Event()

    def waits():
        try:
            yield turn.wait(10)
        finally:
            closed.set()

    def goes():
        turn.set()
        yield "gone"

    async def read(items):
        return [item async for item in each_in_thread(items)]

    async def both():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        return await asyncio.gather(read(waits()), read(goes()))

    assert asyncio.run(both()) == [[True], ["gone"]] and closed.is_set()


def test_cancelling_does_not_wait_for_the_item_at_work():
    begun, turn, closed = threading.Event(), threading.Event(), threading.Event()

    def waits():
        try:
            begun.set()
            yield turn.wait(10)
        finally:
            closed.set()

    async def cancel():
        reading = asyncio.create_task(anext(each_in_thread(waits())))
        await asyncio.to_thread(begun.wait, 10)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not closed.is_set()
        turn.set()

    asyncio.run(cancel())
    assert closed.wait(10)
