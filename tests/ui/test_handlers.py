"""What the page does, without the page: workspaces, edits, indexing, asking."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny import tiny_engine

from blockrag.errors import SegmentationError
from blockrag.segment import SizeBounds
from ui.handlers import ask, blocks, documents, index
from ui.workspace import GoneError, Workspace, Workspaces

TEXT = "".join(f"# River {i}\n\nThe river {i} flows to the sea. It is {i} miles long.\n\n" for i in range(12))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def workspaces(tmp_path, clock):
    return Workspaces(tiny_engine(tmp_path / "kv"), tmp_path / "visits", clock=clock)


@pytest.fixture
def workspace(workspaces, tmp_path):
    workspace = workspaces.create()
    (tmp_path / "rivers.md").write_text(TEXT)
    list(documents.load_files(workspace, [tmp_path / "rivers.md"]))
    workspace.segment(only(workspace)[0], "structural", SizeBounds(16, 128))
    return workspace


def only(workspace: Workspace):
    ((document_id, entry),) = workspace.entries.items()
    return document_id, entry


def test_good_files_go_on_and_bad_ones_say_why(workspaces, tmp_path):
    workspace = workspaces.create()
    paths = [tmp_path / "a.txt", tmp_path / "b.pdf", tmp_path / "c.txt"]
    for path in paths:
        path.write_text(f"text of {path.name}")
    first, *_, last = documents.load_files(workspace, paths)
    assert [(row["name"], row["state"]) for row in first["rows"]] == [("a.txt", "reading …")]
    good, bad = last["rows"][:2], last["rows"][2]
    assert [(row["name"], row["state"]) for row in good] == [("a.txt", "ready"), ("c.txt", "ready")]
    assert bad["name"] == "b.pdf" and "disguised" in bad["state"] and bad["failed"] and not bad["id"]
    assert not any(path.exists() for path in paths)


def test_the_same_text_twice_is_one_document(workspace, tmp_path):
    (tmp_path / "again.md").write_text(TEXT)
    *_, view = documents.load_files(workspace, [tmp_path / "again.md"])
    assert len(view["rows"]) == 1 and documents.choices(workspace)[0][0] == "rivers.md"


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
    entry.granularity = 1.0
    before = blocks.view(workspace, document_id)
    char = before["starts"][2]
    blocks.toggle(workspace, entry, char, add=False)
    for granularity in (0.0, 0.3, 1.0):
        entry.granularity = granularity
        assert char not in blocks.view(workspace, document_id)["starts"]
    assert blocks.view(workspace, document_id)["edits"] == 1
    blocks.undo(workspace, entry)
    blocks.undo(workspace, entry)
    assert blocks.view(workspace, document_id)["starts"] == before["starts"]


def test_edits_survive_another_segmenter(workspace):
    document_id, entry = only(workspace)
    entry.granularity = 0.0
    char = TEXT.index("# River 5")
    blocks.toggle(workspace, entry, char, add=True)
    assert blocks.view(workspace, document_id)["added"] == [char]
    workspace.segment(document_id, "fixed", SizeBounds(16, 500))
    assert char in blocks.view(workspace, document_id)["starts"] and entry.segmenter == "fixed"


def test_an_impossible_edit_is_refused_and_changes_nothing(workspace):
    document_id, entry = only(workspace)
    before = blocks.view(workspace, document_id)
    with pytest.raises(SegmentationError, match="minimum"):
        blocks.toggle(workspace, entry, 3, add=True)
    with pytest.raises(SegmentationError, match="No block begins"):  # as a tab that shows an older cut may ask
        blocks.toggle(workspace, entry, 5, add=False)
    assert blocks.view(workspace, document_id) == before


def test_edits_at_once_are_all_kept_and_versions_only_grow(workspace):
    document_id, entry = only(workspace)
    entry.granularity = 1.0
    chars = blocks.view(workspace, document_id)["starts"][1::3]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda char: blocks.toggle(workspace, entry, char, add=False), chars))
    view = blocks.view(workspace, document_id)
    assert view["edits"] == len(chars) > 2 and not set(chars) & set(view["starts"])
    workspace.remove(document_id)
    again = workspace.add(entry.document)
    assert again.version > view["version"], "a page that still shows the old entry takes the new one for newer"


def test_a_document_removed_while_it_is_indexed_stays_removed(workspace):
    document_id, _ = only(workspace)
    running = index.index_all(workspace)
    next(running)
    workspace.remove(document_id)
    assert list(running)[-1]["rows"] == [] and len(workspace.rag.index) == 0


def test_indexing_is_told_block_by_block_and_once(workspace):
    _, entry = only(workspace)
    assert index.overview(workspace)["rows"][0]["state"] == "waiting"
    views = list(index.index_all(workspace))
    done = [view["rows"][0]["done"] for view in views]
    assert done == sorted(done) and done[-1] == len(entry.starts) and len(set(done)) == len(entry.starts) + 1
    assert views[-1]["rows"][0]["state"] == "done"
    assert list(index.index_all(workspace)) == [index.overview(workspace)], "nothing is left to do"
    entry.granularity = 0.0
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
    times = ask.times_view(exchange)
    assert [bar["name"] for bar in times["bars"]] == ["Block mode", "Full mode"] and "times sooner" in times["headline"]
    for bar, mode in zip(times["bars"], exchange.modes, strict=True):
        assert bar["total"] == pytest.approx(sum(stage["ms"] for stage in bar["stages"]))
        assert ask.answer_view(exchange, mode)["text"] == exchange.answers[mode].text
    cards = ask.sources_view(exchange)["sources"]
    assert "4 from memory" in times["detail"] and [card["badge"] for card in cards] == ["cached"] * 4
    assert ask.find_source(exchange, 2).number == 2 and ask.find_source(exchange, 99) is None


def test_a_block_that_is_not_cached_is_not_said_to_be(workspace):
    list(index.index_all(workspace))
    engine = workspace.rag.engine
    engine.kv.delete(engine.kv_key(last(workspace, modes=("full",)).sources[1].text))
    badges = [card["badge"] for card in ask.sources_view(last(workspace))["sources"]]
    assert badges == ["cached", "", "cached", "cached"]


def test_one_mode_alone(workspace):
    list(index.index_all(workspace))
    full, block = last(workspace, modes=("full",)), last(workspace, modes=("block",))
    assert "empty" in ask.answer_view(full, "block") and "empty" in ask.answer_view(block, "full")
    assert ask.times_view(full)["headline"].startswith("First token after")
    assert ask.times_view(block)["headline"].startswith("First token after")


def test_an_answer_on_its_way_says_so(workspace):
    list(index.index_all(workspace))
    exchange = next(ask.ask(workspace, "why?", ("block", "full"), 4, 6))
    assert ask.answer_view(exchange, "block")["busy"] and "waiting" in ask.answer_view(exchange, "full")["state"]
    assert ask.times_view(exchange)["bars"][0]["pending"]
    exchange.stopped = True
    assert ask.answer_view(exchange, "block")["state"] == "stopped" and not ask.answer_view(exchange, "block")["busy"]


@pytest.mark.parametrize("question, message", [("why?", "index is empty"), ("why " * 4000, "does not fit")])
def test_errors_of_a_question_are_part_of_the_exchange(workspace, question, message):
    if message == "does not fit":
        list(index.index_all(workspace))
    exchange = last(workspace, question)
    assert message in exchange.error and message in ask.answer_view(exchange, "block")["state"]


def test_blocks_left_out_are_named(workspaces, tmp_path):
    workspaces.engine = tiny_engine(max_position_embeddings=300)
    workspace = workspaces.create()
    (tmp_path / "r.md").write_text(TEXT)
    list(documents.load_files(workspace, [tmp_path / "r.md"]))
    list(index.index_all(workspace))
    assert "Left out" in ask.times_view(last(workspace, modes=("block",), k=9))["detail"]


def test_a_source_is_shown_in_its_document(workspace):
    _, entry = only(workspace)
    view = blocks.source_view(workspace, entry.document, 20, 90, "caption")
    assert view["starts"] == [0, 20, 90] and view["highlight"] == 20 and "version" not in view
    assert blocks.source_view(workspace, entry.document, 0, len(TEXT), "")["starts"] == [0]
    assert "empty" in blocks.source_view(workspace, None, 0, 0, "") and "empty" in blocks.view(workspace, "nothing")


def test_visitors_have_nothing_in_common(workspaces, workspace):
    other = workspaces.create()
    assert other.id != workspace.id and len(other.id) >= 32 and other.entries == {}
    list(index.index_all(workspace))
    assert len(other.rag.index) == 0
    other.remove(only(workspace)[0])
    assert len(workspace.rag.index) > 0 and len(workspace.entries) == 1


def test_a_wrong_id_opens_nothing(workspaces):
    for wrong in (None, "", "../..", "x" * 32):
        with pytest.raises(GoneError):
            workspaces.get(wrong)


def test_idle_visits_are_removed_with_all_they_held(workspaces, workspace, clock, tmp_path):
    list(index.index_all(workspace))
    assert list((tmp_path / "kv").glob("*/*.safetensors"))
    clock.now = 3 * 3600
    workspaces.get(workspace.id)
    clock.now = 6 * 3600
    workspaces.expire()
    assert workspaces.get(workspace.id) is workspace, "three hours of silence are not enough"
    clock.now = 11 * 3600
    workspaces.expire()
    with pytest.raises(GoneError):
        workspaces.get(workspace.id)
    assert not list((tmp_path / "kv").glob("*/*.safetensors"))
    assert not Path(workspace.rag.index.directory).exists()


def test_a_restart_forgets_old_visits(workspaces, workspace, tmp_path):
    Workspaces(workspaces.engine, tmp_path / "visits")
    assert list((tmp_path / "visits").iterdir()) == []
