"""What the page does, without the page: workspaces, edits, indexing, asking."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from blockrag.engine import Engine
from blockrag.errors import SegmentationError, Stopped
from blockrag.kv.memory import MemoryTier
from blockrag.kv.tiered import TieredKV
from blockrag.models.load import adapted
from blockrag.progress import Progress
from blockrag.segment import DEFAULT_SEGMENTER, SEGMENTERS, SizeBounds, Structural
from storage.database import sqlite_url
from storage.documents import Quota
from storage.errors import LimitError
from storage.library import Library
from storage.store import Store
from tests.tiny import WordEmbedder, make_adapter, tiny_engine, tiny_model, tiny_tokenizer
from ui.collection_service import CollectionService
from ui.handlers import (
    ask,
    benchmarks,
    blocks,
    cache,
    collections,
    conversations,
    documents,
    index,
    question_views,
    settings,
)
from ui.handlers.question_state import find_source, mark
from ui.limits import Limits, RateLimiter
from ui.open_collection import GoneError, OpenCollection
from ui.preferences import PreferenceError, Started
from ui.shutdown import Shutdown
from ui.streaming import stream_progress

TEXT = "".join(f"# River {i}\n\nThe river {i} flows to the sea. It is {i} miles long.\n\n" for i in range(12))


SECRET = {"secret": "s" * 40}


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def workspaces(tmp_path, clock):
    folder = tmp_path / "data"
    library = Library(Store.open(sqlite_url(folder / "x.sqlite"), clock), tiny_engine(tmp_path / "kv"), folder)
    yield CollectionService(library, "private", expire=True, clock=clock)
    library.close()


def visitor(workspaces, secret=None) -> OpenCollection:
    return workspaces.get(workspaces.enter({"secret": secret} if secret else {}))


@pytest.fixture
def workspace(workspaces, tmp_path):
    workspace = visitor(workspaces, SECRET["secret"])
    (tmp_path / "rivers.md").write_text(TEXT)
    list(documents.load_files(workspace, [tmp_path / "rivers.md"]))
    workspace.segment(only(workspace)[0], "structural", SizeBounds(16, 128))
    return workspace


def only(workspace: OpenCollection):
    ((document_id, entry),) = workspace.entries.items()
    return document_id, entry


def test_good_files_go_on_and_bad_ones_say_why(workspaces, tmp_path):
    workspace = visitor(workspaces)
    paths = [tmp_path / "a.txt", tmp_path / "b.pdf", tmp_path / "c.txt"]
    for path in paths:
        path.write_text(f"text of {path.name}")
    first, *_, last = documents.load_files(workspace, paths)
    assert [(row["name"], row["state"]) for row in first["rows"]] == [
        ("a.txt", "reading …"),
        ("b.pdf", "received, waits to be read"),
        ("c.txt", "received, waits to be read"),
    ]
    good, bad = last["rows"][:2], last["rows"][2]
    assert [(row["name"], row["state"]) for row in good] == [("a.txt", "ready to index"), ("c.txt", "ready to index")]
    assert bad["name"] == "b.pdf" and "disguised" in bad["state"] and bad["failed"]
    assert not list(workspace.library.received.iterdir())
    assert len(documents.remove(workspace, bad["id"])["rows"]) == 2, "what could not be read can be dismissed"


def test_loading_stops_and_goes_on_even_after_a_restart(workspaces, tmp_path):
    workspace = visitor(workspaces, SECRET["secret"])
    paths = [tmp_path / f"{i}.txt" for i in range(4)]
    for path in paths:
        path.write_text(f"text of {path.name}")
    running = documents.load_files(workspace, paths)
    next(running)
    documents.stop(workspace)
    *_, stopped = running
    assert stopped["waiting"] == 3 and [row["state"] for row in stopped["rows"]].count("ready to index") == 1
    again = CollectionService(workspaces.library, "private")
    *_, done = documents.read_waiting(visitor(again, SECRET["secret"]))
    assert done["waiting"] == 0 and len(done["rows"]) == 4


def test_a_page_that_is_closed_while_files_are_read_loses_none(workspaces, tmp_path):
    workspace = visitor(workspaces)
    paths = [tmp_path / f"{i}.txt" for i in range(3)]
    for path in paths:
        path.write_text(f"text of {path.name}")
    running = documents.load_files(workspace, paths)
    next(running)
    running.close()
    assert documents.view(workspace)["waiting"] == 3


class Slow(Structural):
    """In four steps."""

    def score(self, text, candidates, on_progress=None):
        for share in (0.25, 0.5, 0.75, 1.0):
            on_progress(Progress("segment", round(share * len(text)), len(text)))
        return super().score(text, candidates)


@pytest.fixture
def slow(monkeypatch, tmp_path):
    """A file that is scored step by step."""
    monkeypatch.setitem(SEGMENTERS, DEFAULT_SEGMENTER, lambda counter, embed: Slow())
    (tmp_path / "slow.md").write_text(TEXT)
    return tmp_path / "slow.md"


def states(views) -> list[str]:
    return [view["rows"][0]["state"] for view in views]


def test_scoring_is_told_in_the_table(workspaces, slow):
    told = states(documents.load_files(visitor(workspaces), [slow]))
    assert told == ["reading …", *(f"segmenting {percent} %" for percent in (25, 50, 75, 100)), "ready to index"]


@pytest.mark.parametrize("stop", ["button", "closed page", "end of the application"])
def test_a_file_that_is_stopped_at_while_it_is_scored_waits_again(workspaces, slow, stop):
    workspace = visitor(workspaces, SECRET["secret"])
    running = documents.load_files(workspace, [slow])
    assert states([next(running), next(running)])[-1] == "segmenting 25 %"
    if stop == "button":
        documents.stop(workspace)
    if stop == "end of the application":
        workspaces.stop_all()
    running.close() if stop == "closed page" else list(running)
    assert states([documents.view(workspace)]) == ["received, waits to be read"] and not workspace.entries
    again = visitor(CollectionService(workspaces.library, "private"), SECRET["secret"])
    assert states(documents.read_waiting(again))[-1] == "ready to index"


def test_cutting_again_tells_how_far_it_is_and_ends_with_the_application(workspace, slow):
    document_id, entry = only(workspace)
    steps = []
    workspace.segment(document_id, DEFAULT_SEGMENTER, SizeBounds(16, 128), steps.append)
    assert [(step.stage, round(100 * step.done / len(TEXT))) for step in steps[:2]] == [
        ("segment", 25),
        ("segment", 50),
    ]
    before = blocks.view(workspace, document_id)
    with pytest.raises(Stopped):
        workspace.segment(document_id, "neural", SizeBounds(), lambda step: workspace._service.stop_all())
    assert blocks.view(workspace, document_id) == before


def test_the_end_waits_for_the_step_that_is_under_way():
    entered, gate, seen = threading.Event(), threading.Event(), []

    def work():
        with ending.guarding(seen.append) as on_progress:
            entered.set()
            gate.wait(20)
            on_progress("step")
            seen.append("no step after the end")

    ending, pool = Shutdown(), ThreadPoolExecutor(2)
    running = pool.submit(work)
    assert entered.wait(20)
    wanted = pool.submit(ending.want)
    assert not wanted.done()
    gate.set()
    wanted.result(20)
    assert seen == ["step"]
    with pytest.raises(Stopped):
        running.result(20)
    with pytest.raises(Stopped):
        work()


def test_progress_is_streamed_and_errors_come_through():
    def work(on_progress):
        for done in range(3):
            on_progress(Progress("encode", done, 3))
        return "made"

    def streamed(work):
        made = yield from stream_progress(work)
        assert made == "made"

    assert [step.done for step in streamed(work)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        list(stream_progress(lambda on_progress: 1 / 0))


def test_closing_a_stream_of_progress_stops_the_work_and_waits_for_it():
    ended = []

    def work(on_progress):
        try:
            while True:
                on_progress(Progress("encode", 0, 1))
        finally:
            ended.append(True)

    steps = stream_progress(work)
    next(steps)
    steps.close()
    assert ended == [True]

    def broken(on_progress):
        try:
            on_progress(Progress("encode", 0, 1))
        finally:
            raise OSError("the disk is full")

    steps = stream_progress(broken)
    next(steps)
    with pytest.raises(OSError, match="full"):
        steps.close()


def test_the_same_text_twice_is_one_document(workspace, tmp_path):
    (tmp_path / "again.md").write_text(TEXT)
    *_, view = documents.load_files(workspace, [tmp_path / "again.md"])
    assert len(view["rows"]) == 1 and documents.choices(workspace)[0][0] == "rivers.md"


def test_files_that_are_too_many_are_refused(workspace, tmp_path):
    paths = [tmp_path / f"{i}.txt" for i in range(workspace.meter.limits.n_files + 1)]
    for path in paths:
        path.write_text("one of too many")
    with pytest.raises(LimitError, match="at most"):
        documents.receive(workspace, paths)
    assert not list(workspace.library.received.iterdir())


def test_two_visitors_send_the_same_file_at_once(workspaces, tmp_path):
    """Gradio has it once for both: who is first must not take it from the other."""
    one, two = visitor(workspaces), visitor(workspaces)
    (tmp_path / "handout.md").write_text(TEXT)
    for workspace in (one, two):
        documents.receive(workspace, [tmp_path / "handout.md"])
    for workspace in (one, two):
        *_, view = documents.read_waiting(workspace)
        assert [(row["name"], row["state"]) for row in view["rows"]] == [("handout.md", "ready to index")]


def test_a_sample_stays_where_it_is(workspace, tmp_path):
    (tmp_path / "sample.md").write_text("A sample. " * 20)
    assert (
        len(documents.load_sample(workspace, tmp_path / "sample.md")["rows"]) == 2 and (tmp_path / "sample.md").exists()
    )


def test_pieces_are_the_text(workspace):
    document_id, entry = only(workspace)
    pieces, first = [], 0
    while True:
        page = blocks.read_pieces(workspace, document_id, first, 7)
        assert all(entry.document.text.startswith(p, o) for p, o in zip(page["pieces"], page["offsets"], strict=True))
        pieces += page["pieces"]
        first += 7
        if page["last"]:
            break
    assert "".join(pieces) == TEXT
    for bad in ((-1, 5), (0, 0), (0, 10**6)):
        with pytest.raises(ValueError, match="at most"):
            blocks.read_pieces(workspace, document_id, *bad)


def test_edits_survive_the_slider_and_can_be_undone(workspace):
    document_id, entry = only(workspace)
    workspace.set_granularity(document_id, 1.0)
    before = blocks.view(workspace, document_id)
    char = before["starts"][2]
    blocks.toggle(workspace, document_id, char, add=False)
    for granularity in (0.0, 0.3, 1.0):
        workspace.set_granularity(document_id, granularity)
        assert char not in blocks.view(workspace, document_id)["starts"]
    assert blocks.view(workspace, document_id)["edits"] == 1
    workspace.undo(document_id)
    workspace.undo(document_id)
    assert blocks.view(workspace, document_id)["starts"] == before["starts"]


def test_edits_survive_another_segmenter(workspace):
    document_id, entry = only(workspace)
    workspace.set_granularity(document_id, 0.0)
    char = TEXT.index("# River 5")
    blocks.toggle(workspace, document_id, char, add=True)
    assert blocks.view(workspace, document_id)["added"] == [char]
    workspace.segment(document_id, "fixed", SizeBounds(16, 500))
    assert char in blocks.view(workspace, document_id)["starts"] and only(workspace)[1].segmenter == "fixed"


def test_an_impossible_edit_is_refused_and_changes_nothing(workspace):
    document_id, entry = only(workspace)
    before = blocks.view(workspace, document_id)
    with pytest.raises(SegmentationError, match="minimum"):
        blocks.toggle(workspace, document_id, 3, add=True)
    with pytest.raises(SegmentationError, match="No block begins"):  # as a tab that shows an older cut may ask
        blocks.toggle(workspace, document_id, 5, add=False)
    assert blocks.view(workspace, document_id) == before


def test_edits_at_once_are_all_kept_and_versions_only_grow(workspace):
    document_id, entry = only(workspace)
    workspace.set_granularity(document_id, 1.0)
    chars = blocks.view(workspace, document_id)["starts"][1::3]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda char: blocks.toggle(workspace, document_id, char, add=False), chars))
    view = blocks.view(workspace, document_id)
    assert view["edits"] == len(chars) > 2 and not set(chars) & set(view["starts"])
    document = entry.document
    workspace.remove(document_id)
    workspace.add(document)
    assert only(workspace)[1].version > view["version"], "a page with the old entry takes the new one for newer"


def test_what_was_undone_can_be_redone(workspace):
    document_id, _ = only(workspace)
    workspace.set_granularity(document_id, 1.0)
    char = blocks.view(workspace, document_id)["starts"][2]
    blocks.toggle(workspace, document_id, char, add=False)
    edited = blocks.view(workspace, document_id)
    workspace.undo(document_id)
    assert blocks.view(workspace, document_id)["redo"] == 1
    workspace.redo(document_id)
    again = blocks.view(workspace, document_id)
    assert again["starts"] == edited["starts"] and again["redo"] == 0 and again["version"] > edited["version"]


def test_a_boundary_moves_to_the_next_place_that_sizes_allow(workspace):
    document_id, _ = only(workspace)
    workspace.set_granularity(document_id, 0.0)
    before = blocks.view(workspace, document_id)["starts"]
    there = blocks.move(workspace, document_id, before[1], 1)
    moved = blocks.view(workspace, document_id)["starts"]
    assert there > before[1] and there in moved and before[1] not in moved and len(moved) == len(before)
    assert blocks.move(workspace, document_id, there, -1) <= there
    for _ in range(4):
        workspace.undo(document_id)
    assert blocks.view(workspace, document_id)["starts"] == before
    with pytest.raises(SegmentationError, match="any more"):
        blocks.move(workspace, document_id, 3, 1)


def test_a_boundary_is_put_between_its_neighbours_alone(workspace):
    document_id, _ = only(workspace)
    workspace.set_granularity(document_id, 0.0)
    before = blocks.view(workspace, document_id)["starts"]
    there = TEXT.index("The river", before[1])
    blocks.place(workspace, document_id, before[1], there)
    assert blocks.view(workspace, document_id)["starts"][:2] == [0, there]
    for wrong in (0, before[2], len(TEXT) - 1):
        with pytest.raises(SegmentationError, match="between the one before"):
            blocks.place(workspace, document_id, there, wrong)
    with pytest.raises(SegmentationError, match="any more"):
        blocks.place(workspace, document_id, before[1], there)
    with pytest.raises(SegmentationError, match="minimum"):
        blocks.place(workspace, document_id, there, 3)


def test_another_cut_is_shown_beside_and_changes_nothing(workspace):
    document_id, _ = only(workspace)
    before = blocks.view(workspace, document_id)

    def compared(document_id, segmenter, granularity):
        return blocks.compare(workspace, document_id, segmenter, granularity)

    view = compared(document_id, "structural", 1.0)
    assert set(view["differs"]) == set(view["starts"]) - set(before["starts"]) and "version" not in view
    assert compared(document_id, "fixed", 0.0)["starts"] != view["starts"]
    assert blocks.view(workspace, document_id) == before and "empty" in compared("x", "fixed", 0)


def test_what_blocks_will_cost_is_told_before_indexing(workspace):
    document_id, _ = only(workspace)
    view = blocks.view(workspace, document_id)
    n = sum(view["tokens"]) * workspace.library.engine.model.kv_nbytes_per_token
    assert view["cost"].startswith(f"KV {blocks.size(n)} (memory: ") and "disk: at most " in view["cost"]
    assert blocks.size(999) == "999 B" and blocks.size(46_080) == "46 kB" and blocks.size(3e9) == "3.0 GB"
    assert max(view["profile"]) <= 100 and len(view["profile"]) <= blocks.PROFILE_BINS


def test_a_document_removed_while_it_is_indexed_stays_removed(workspace):
    document_id, _ = only(workspace)
    running = index.index_all(workspace)
    next(running)
    workspace.remove(document_id)
    assert list(running)[-1]["rows"] == [] and len(workspace.rag.index) == 0


def test_indexing_is_told_block_by_block_and_once(workspace, monkeypatch):
    monkeypatch.setattr(index, "REDRAW_S", 0)
    document_id, entry = only(workspace)
    assert index.overview(workspace)["rows"][0]["state"] == "waiting"
    views = list(index.index_all(workspace))
    done = [view["rows"][0]["done"] for view in views]
    assert done == sorted(done) and done[-1] == len(entry.starts) and len(set(done)) == len(entry.starts) + 1
    assert views[-1]["rows"][0]["state"] == "done" and "KV of" in views[-1]["rows"][0]["text"]
    assert set(views[-1]["rows"][0]["cells"]) == {"memory"}
    assert list(index.index_all(workspace)) == [index.overview(workspace)], "nothing is left to do"
    workspace.set_granularity(document_id, 0.0)
    assert "cut anew" in index.overview(workspace)["rows"][0]["text"]


@pytest.mark.parametrize("stop", ["button", "closed page", "before it began"])
def test_stopped_indexing_leaves_the_index_as_it_was(workspace, stop):
    running = index.index_all(workspace)
    assert "waiting" in index.start(workspace)["rows"][0]["text"]
    if stop == "before it began":
        index.stop(workspace)
    views = [next(running)]
    if stop == "button":
        index.stop(workspace)
    if stop == "closed page":
        running.close()
    *_, last = [*views, *running]
    assert stop == "closed page" or last == index.overview(workspace), (
        "nothing is said after the stop but how it stands"
    )
    assert len(workspace.rag.index) == 0 and index.overview(workspace)["rows"][0]["state"] == "waiting"
    index.start(workspace)
    assert [*index.index_all(workspace)][-1]["rows"][0]["state"] == "done"


def last(workspace, question="How long is river 3?", modes=("block", "full"), **options):
    *_, exchange = ask.ask(workspace, question, modes, **{"k": 4, "max_new_tokens": 6, **options})
    return exchange


def test_both_modes_answer_and_are_compared(workspace):
    list(index.index_all(workspace))
    exchange = last(workspace)
    times = question_views.times_view(exchange)
    assert [bar["name"] for bar in times["bars"]] == ["Block mode", "Full mode"] and "instead of" in times["headline"]
    for bar, mode in zip(times["bars"], exchange.modes, strict=True):
        assert bar["total"] == pytest.approx(sum(stage["ms"] for stage in bar["stages"]))
        assert question_views.answer_view(exchange, mode)["text"] == exchange.answers[mode].text
    cards = question_views.sources_view(exchange)["sources"]
    assert "4 from memory" in times["detail"] and [card["badge"] for card in cards] == ["cached"] * 4
    assert find_source(exchange, 2).number == 2 and find_source(exchange, 99) is None


def test_a_block_that_is_not_cached_is_not_said_to_be(workspace):
    list(index.index_all(workspace))
    engine = workspace.rag.engine
    engine.kv.delete(engine.kv_key(last(workspace, modes=("full",)).sources[1].text))
    badges = [card["badge"] for card in question_views.sources_view(last(workspace))["sources"]]
    assert badges == ["cached", "", "cached", "cached"]


def test_one_mode_alone(workspace):
    list(index.index_all(workspace))
    full, block = last(workspace, modes=("full",)), last(workspace, modes=("block",))
    assert "empty" in question_views.answer_view(full, "block") and "empty" in question_views.answer_view(block, "full")
    assert question_views.times_view(full)["headline"].startswith("First token after")
    assert question_views.times_view(block)["headline"].startswith("First token after")


def test_an_answer_on_its_way_says_so(workspace):
    list(index.index_all(workspace))
    exchange = next(ask.ask(workspace, "why?", ("block", "full"), 4, 6))
    assert (
        question_views.answer_view(exchange, "block")["busy"]
        and "waiting" in question_views.answer_view(exchange, "full")["state"]
    )
    assert question_views.times_view(exchange)["bars"][0]["pending"]
    exchange.stopped = True
    assert (
        question_views.answer_view(exchange, "block")["state"] == "stopped"
        and not question_views.answer_view(exchange, "block")["busy"]
    )


@pytest.mark.parametrize("question, message", [("why?", "index is empty"), ("why " * 4000, "does not fit")])
def test_errors_of_a_question_are_part_of_the_exchange(workspace, question, message):
    if message == "does not fit":
        list(index.index_all(workspace))
    exchange = last(workspace, question)
    assert message in exchange.error and message in question_views.answer_view(exchange, "block")["state"]


def test_blocks_left_out_are_named(tmp_path):
    engine = tiny_engine(tmp_path / "kv", max_position_embeddings=300)
    workspaces = CollectionService(Library(Store.open(sqlite_url(tmp_path / "x.sqlite")), engine, tmp_path), "private")
    workspace = visitor(workspaces)
    (tmp_path / "r.md").write_text(TEXT)
    list(documents.load_files(workspace, [tmp_path / "r.md"]))
    list(index.index_all(workspace))
    assert "Left out" in question_views.times_view(last(workspace, modes=("block",), k=9))["detail"]
    workspaces.library.close()


def test_a_source_is_shown_in_its_document(workspace):
    _, entry = only(workspace)
    view = blocks.source_view(workspace, entry.document, 20, 90, "caption")
    assert view["starts"] == [0, 20, 90] and view["highlight"] == 20 and "version" not in view
    assert blocks.source_view(workspace, entry.document, 0, len(TEXT), "")["starts"] == [0]
    assert "empty" in blocks.source_view(workspace, None, 0, 0, "") and "empty" in blocks.view(workspace, "nothing")


def test_visitors_have_nothing_in_common(workspaces, workspace):
    other = visitor(workspaces)
    assert other.id != workspace.id and len(other.id) >= 32 and other.entries == {}
    list(index.index_all(workspace))
    assert len(other.rag.index) == 0
    other.remove(only(workspace)[0])
    assert len(workspace.rag.index) > 0 and len(workspace.entries) == 1


def test_a_wrong_id_opens_nothing(workspaces, workspace):
    good = {"secret": SECRET["secret"], "collection": workspace.id}
    assert workspaces.get(good).id == workspace.id
    for wrong in (
        None,
        "",
        [],
        {},
        {"secret": SECRET["secret"]},
        {"secret": "t" * 40, "collection": workspace.id},
        {"secret": "", "collection": workspace.id},
        {"secret": SECRET["secret"], "collection": "../.."},
        {"secret": {"a": 1}, "collection": ["b"]},
    ):
        with pytest.raises(GoneError):
            workspaces.get(wrong)


def test_idle_visits_are_removed_with_all_they_held(workspaces, workspace, clock, tmp_path):
    list(index.index_all(workspace))
    assert list((tmp_path / "kv").glob("*/*.safetensors"))
    clock.now += 3 * 3600
    good = {"secret": SECRET["secret"], "collection": workspace.id}
    workspaces.get(good)
    clock.now += 3 * 3600
    workspaces.expire()
    assert workspaces.get(good).id == workspace.id, "three hours of silence are not enough"
    clock.now += 5 * 3600
    workspaces.expire()
    with pytest.raises(GoneError):
        workspaces.get(good)
    assert not list((tmp_path / "kv").glob("*/*.safetensors")) and not list(workspaces.library.indexes.folder.iterdir())


def test_a_restart_forgets_nothing(workspaces, workspace, tmp_path):
    document_id, _ = only(workspace)
    workspace.set_granularity(document_id, 1.0)
    blocks.toggle(workspace, document_id, blocks.view(workspace, document_id)["starts"][2], add=False)
    list(index.index_all(workspace))
    exchange = last(workspace)
    before = blocks.view(workspace, document_id)
    workspaces.library.close()
    folder = tmp_path / "data"
    library = Library(Store.open(sqlite_url(folder / "x.sqlite")), tiny_engine(tmp_path / "kv"), folder)
    again = visitor(CollectionService(library, "private"), SECRET["secret"])
    view = blocks.view(again, document_id)
    assert {k: v for k, v in view.items() if k != "cost"} == {k: v for k, v in before.items() if k != "cost"}
    assert index.overview(again)["rows"][0]["state"] == "done"
    ((title, conversation),) = conversations.history(again)
    (turn,) = conversations.turns_view(again, conversation)["turns"]
    recalled = conversations.recall(again, conversation, turn["id"])
    assert title == exchange.question and recalled.sources == exchange.sources
    assert (
        recalled.answers == exchange.answers
        and question_views.answer_view(recalled, "block")["text"] == exchange.texts["block"]
    )
    library.close()


def test_questions_of_a_conversation_follow_each_other(workspace):
    list(index.index_all(workspace))
    first = last(workspace)
    seen = []
    embed = workspace.library.engine.embedder.embed
    workspace.library.engine.embedder.embed = lambda texts: seen.extend(texts) or embed(texts)
    second = last(workspace, "And river 5?", before=first, follow_up=True)
    assert second.conversation == first.conversation and seen[0].startswith("How long is river 3? And")
    assert second.answers["block"].question == "And river 5?"
    assert [t["question"] for t in conversations.turns_view(workspace, first.conversation)["turns"]] == [
        "How long is river 3?",
        "And river 5?",
    ]
    assert "2 answers" in conversations.saved(workspace)
    assert last(workspace, "Else?").conversation != first.conversation


def test_pinned_sources_come_first_and_excluded_ones_not_at_all(workspace):
    list(index.index_all(workspace))
    first = last(workspace)
    wanted, unwanted = first.sources[3], first.sources[0]
    mark(first, wanted.number, "pin")
    mark(first, unwanted.number, "exclude")
    mark(first, 99, "pin")
    cards = question_views.sources_view(first)["sources"]
    assert cards[3]["pinned"] and cards[0]["excluded"] and not cards[1]["pinned"]
    second = last(workspace, before=first)
    assert second.sources[0].start == wanted.start and unwanted.start not in [s.start for s in second.sources]
    assert len(second.sources) == len(first.sources)
    mark(second, 1, "pin")
    assert second.pinned == () and second.excluded == ((unwanted.document_id, unwanted.start),)


def test_an_answer_of_a_deleted_document_is_kept_without_its_text(workspace):
    list(index.index_all(workspace))
    exchange = last(workspace)
    workspace.remove(only(workspace)[0])
    (turn,) = conversations.turns_view(workspace, exchange.conversation)["turns"]
    assert conversations.recall(workspace, exchange.conversation, turn["id"]).sources == ()
    assert (
        conversations.recall(workspace, exchange.conversation, 999).question
        == ""
        == conversations.recall(workspace, None, 1).question
    )
    assert conversations.turns_view(workspace, 999)["turns"] == []


# Collections


def test_collections_are_made_renamed_exported_imported_deleted(workspaces, workspace, tmp_path):
    path = collections.to_file(workspace)
    assert path.name == "My-documents.zip"
    shutil.copy(path, tmp_path / "in.zip")
    token = collections.from_file(workspaces, workspace, tmp_path / "in.zip")
    assert [name for name, _ in collections.choices(workspace)] == ["My documents", "My documents (2)"]
    imported = workspaces.get({**SECRET, "collection": token})
    collections.rename(imported, "../../Rivers <b>")
    imported = workspaces.get({**SECRET, "collection": token})
    assert blocks.view(imported, only(imported)[0])["starts"] == blocks.view(workspace, only(workspace)[0])["starts"]
    assert collections.to_file(imported).name == "Rivers-b.zip"
    assert not collections.delete(workspaces, imported, "no")
    assert collections.delete(workspaces, imported, "../../Rivers <b>")
    with pytest.raises(GoneError):
        workspaces.get({**SECRET, "collection": token})
    assert "1 of at most" in collections.view(workspace)["summary"]
    assert workspaces.enter({**SECRET, "collection": token})["collection"] == workspace.id


def test_all_share_what_is_shared_and_users_have_their_own(workspaces):
    shared = CollectionService(workspaces.library, "shared")
    assert shared.enter({})["collection"] == shared.enter({})["collection"]
    users = CollectionService(workspaces.library, "login")
    anna, bert = users.enter({}, "anna"), users.enter({}, "bert")
    assert anna["collection"] != bert["collection"] and users.enter({}, "anna")["collection"] == anna["collection"]
    for visit, user in ((anna, "bert"), (anna, None), ({"collection": anna["collection"]}, None)):
        with pytest.raises(GoneError):
            users.get(visit, user)


# Settings


def test_settings_are_checked_kept_and_used(workspaces, workspace, tmp_path):
    kept = settings.save(
        workspace, {"segmenter": "fixed", "min_tokens": 16, "max_tokens": 64, "granularity": 1, "k": 3}
    )
    assert (
        kept["k"] == 3 and kept["granularity"] == 1.0 and visitor(workspaces).settings["segmenter"] == DEFAULT_SEGMENTER
    )
    (tmp_path / "more.md").write_text(TEXT * 2)
    list(documents.load_files(workspace, [tmp_path / "more.md"]))
    entry = list(workspace.entries.values())[1]
    assert (entry.segmenter, entry.cut.bounds, entry.granularity) == ("fixed", SizeBounds(16, 64), 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"k": 99},
        {"k": "8"},
        {"k": True},
        {"granularity": float("nan")},
        {"granularity": None},
        {"mode": "both"},
        {"segmenter": "../x"},
        {"min_tokens": 400, "max_tokens": 500},
        {"owner": "local"},
    ],
)
def test_settings_out_of_bounds_are_refused(workspace, wrong):
    with pytest.raises((PreferenceError, SegmentationError)):
        settings.save(workspace, wrong)
    assert workspace.settings["k"] == 8


def test_budgets_are_the_owners_of_the_machine_to_set(workspaces, workspace):
    with pytest.raises(PreferenceError, match="shared by all"):
        settings.set_budgets(workspaces, {"memory": 1.0})
    list(index.index_all(workspace))
    mine = CollectionService(workspaces.library, "shared")
    for wrong in ({"memory": -1}, {"memory": "x"}, {"nothing": 1}, {"memory": float("nan")}):
        with pytest.raises(PreferenceError):
            settings.set_budgets(mine, wrong)
    settings.set_budgets(mine, {"memory": 0, "disk": 1.5})
    memory, disk = mine.engine.kv.tiers
    assert memory.nbytes == 0 == len(memory.keys()) and disk.budget_nbytes == int(1.5 * 2**30)
    disk.set_budget(5)
    settings.restore_budgets(mine)
    assert settings.budgets(workspace) == {"memory": 0, "disk": 1.5}


def test_the_models_in_use_are_told_by_name_and_without_a_path(workspaces, tmp_path):
    seen = settings.models_view(workspaces)
    assert "llama network of 2 layers in float32 on cpu" in seen["model"] and seen["adapter"].startswith("none: ")
    network = tiny_model().network
    model = adapted(network, tiny_tokenizer(), "tiny", make_adapter())
    engine = Engine(model, WordEmbedder(), TieredKV([MemoryTier(1 << 20)]))
    library = Library(workspaces.library.store, engine, tmp_path / "adapted")
    (tmp_path / "mine").mkdir()
    for given, name in ((str(tmp_path / "mine"), "mine"), ("auto", "the one that comes"), ("qa-lora", "qa-lora")):
        started = Started("org/model", given, str(tmp_path))
        seen = settings.models_view(CollectionService(library, "shared", started=started))
        assert seen["model"].startswith("org/model: a llama") and seen["embedder"].endswith("64 numbers a block")
        assert seen["adapter"].startswith(f"{name}") and "2 sinks before each block" in seen["adapter"]
        assert str(tmp_path.parent) not in "".join(seen.values())


# Cache


def test_the_cache_is_shown_cleared_warmed_and_moved(workspace):
    list(index.index_all(workspace))
    watch = cache.Watch(workspace.library.engine)
    view = cache.view(workspace, watch)
    memory, disk = view["tiers"]
    assert memory["mine"] == disk["mine"] == view["n_mine"] > 3 and memory["used"] <= memory["budget"]
    assert [line["name"] for line in view["lines"]["nbytes"]] == ["memory", "disk"]
    assert cache.clear(workspace, "memory") == view["n_mine"] and cache.clear(workspace, "nothing") == 0
    assert [tier["mine"] for tier in cache.view(workspace, watch)["tiers"]] == [0, view["n_mine"]]
    assert cache.move_to_memory(workspace) == view["n_mine"] and cache.move_to_memory(workspace) == 0
    assert cache.clear(workspace, "memory") and cache.clear(workspace, "disk")
    assert "not cached" in index.overview(workspace)["rows"][0]["text"]
    *_, told = cache.warm(workspace)
    assert f"{view['n_mine']} of {view['n_mine']} blocks" in told
    assert [tier["mine"] for tier in cache.view(workspace, watch)["tiers"]] == [view["n_mine"]] * 2


def test_anothers_kv_is_not_cleared(workspaces, workspace, tmp_path):
    list(index.index_all(workspace))
    other = visitor(workspaces)
    n = len(workspace.library.engine.kv.tiers[0].keys())
    assert cache.clear(other, "memory") == 0 and len(workspace.library.engine.kv.tiers[0].keys()) == n > 0


def test_this_machine_is_measured(workspace):
    *_, last = benchmarks.measure(workspace.library.engine)
    (table,) = last["tables"]
    assert [row[0] for row in table["rows"]] == ["256", "512", "1,024", "2,048"] and not last["busy"]
    assert len(workspace.library.engine.kv.tiers[0].keys()) == 0, "what was measured with is gone"
    assert len(benchmarks.tables()) >= 2 and all(table["rows"] for table in benchmarks.tables())


# Limits


def test_a_visitor_asks_so_often_and_is_told_when_to_come_back(clock):
    meter = RateLimiter(Limits(questions_a_minute=2, uploads_an_hour=3, n_files=2, jobs=1), clock)
    meter.question("anna")
    meter.question("anna")
    with pytest.raises(LimitError, match="2 questions a minute.*60 seconds"):
        meter.question("anna")
    meter.question("bert")
    clock.now += 61
    meter.question("anna")
    with pytest.raises(LimitError, match="at most 2"):
        meter.upload("anna", 3)
    meter.upload("anna", 2)
    with pytest.raises(LimitError, match="3 files an hour"):
        meter.upload("anna", 2)
    with meter.job("anna"):
        with pytest.raises(LimitError, match="1 of your jobs"), meter.job("anna"):
            pass
        with meter.job("bert"):
            pass
    with meter.job("anna"):
        pass


def test_limits_hold_in_the_handlers(tmp_path):
    limits = Limits(
        n_collections=2, quota=Quota(2, 2_000), n_files=3, file_bytes=5_000, total_chars=2_500, question_chars=50,
        questions_a_minute=2, n_collections_in_all=3,
    )  # fmt: skip
    library = Library(Store.open(sqlite_url(tmp_path / "x.sqlite")), tiny_engine(), tmp_path)
    workspaces = CollectionService(library, "private", limits=limits)
    workspace = visitor(workspaces, SECRET["secret"])

    def load(**texts):
        paths = [tmp_path / f"{name}.txt" for name in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text)
        *_, view = documents.load_files(workspace, paths)
        return {row["name"]: row["state"] for row in view["rows"]}

    with pytest.raises(LimitError, match="at most 3"):
        load(a="a", b="b", c="c", d="d")
    states = load(a="word " * 60, big="x" * 6_000)
    assert states["a.txt"] == "ready to index" and "split it" in states["big.txt"]
    assert "characters" in load(b="word " * 360)["b.txt"]
    assert "2 documents" in load(c="one ", d="two ")["d.txt"]
    assert "50" in last(workspace, "why? " * 20).error
    workspaces.create(workspace.owner, "second")
    with pytest.raises(LimitError, match="2 collections"):
        workspaces.create(workspace.owner, "third")
    visitor(workspaces)
    with pytest.raises(LimitError, match="too many collections"):
        visitor(workspaces)
    library.close()
