"""Draw, edit and compare blocks."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from blockrag.errors import SegmentationError, Stopped
from blockrag.events import Source
from blockrag.segment import DEFAULT_SEGMENTER, SizeBounds
from tests.ui.serving import TEXT, only_document
from ui.handlers import blocks


def test_segmenting_again_reports_progress_and_stops_at_shutdown(collection, slow_file):
    document_id, document = only_document(collection)
    steps = []
    collection.segment(document_id, DEFAULT_SEGMENTER, SizeBounds(16, 128), steps.append)
    assert [(step.stage, round(100 * step.done / len(TEXT))) for step in steps[:2]] == [
        ("segment", 25),
        ("segment", 50),
    ]
    before = blocks.view(collection, document_id)
    with pytest.raises(Stopped):
        collection.segment(document_id, "neural", SizeBounds(), lambda step: collection.shutdown.begin())
    assert blocks.view(collection, document_id) == before


def test_pieces_join_to_the_text(collection):
    document_id, document = only_document(collection)
    pieces, first = [], 0
    while True:
        page = blocks.read_pieces(collection, document_id, first, 7)
        assert all(document.content.text.startswith(p, o) for p, o in zip(page["pieces"], page["offsets"], strict=True))
        pieces += page["pieces"]
        first += 7
        if page["last"]:
            break
    assert "".join(pieces) == TEXT
    for bad in ((-1, 5), (0, 0), (0, 10**6)):
        with pytest.raises(ValueError, match="at most"):
            blocks.read_pieces(collection, document_id, *bad)


def test_edits_survive_the_slider_and_can_be_undone(collection):
    document_id, document = only_document(collection)
    collection.set_granularity(document_id, 1.0)
    before = blocks.view(collection, document_id)
    char = before["starts"][2]
    blocks.toggle(collection, document_id, char, add=False)
    for granularity in (0.0, 0.3, 1.0):
        collection.set_granularity(document_id, granularity)
        assert char not in blocks.view(collection, document_id)["starts"]
    assert blocks.view(collection, document_id)["edits"] == 1
    collection.undo(document_id)
    collection.undo(document_id)
    assert blocks.view(collection, document_id)["starts"] == before["starts"]


def test_edits_survive_another_segmenter(collection):
    document_id, document = only_document(collection)
    collection.set_granularity(document_id, 0.0)
    char = TEXT.index("# River 5")
    blocks.toggle(collection, document_id, char, add=True)
    assert blocks.view(collection, document_id)["added"] == [char]
    collection.segment(document_id, "fixed", SizeBounds(16, 500))
    assert (
        char in blocks.view(collection, document_id)["starts"]
        and only_document(collection)[1].saved.segmenter == "fixed"
    )


def test_an_impossible_edit_is_refused_and_changes_nothing(collection):
    document_id, document = only_document(collection)
    before = blocks.view(collection, document_id)
    with pytest.raises(SegmentationError, match="minimum"):
        blocks.toggle(collection, document_id, 3, add=True)
    with pytest.raises(SegmentationError, match="No block begins"):  # as a tab that shows an older cut may ask
        blocks.toggle(collection, document_id, 5, add=False)
    assert blocks.view(collection, document_id) == before


def test_concurrent_edits_are_all_kept_and_versions_only_grow(collection):
    document_id, document = only_document(collection)
    collection.set_granularity(document_id, 1.0)
    chars = blocks.view(collection, document_id)["starts"][1::3]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda char: blocks.toggle(collection, document_id, char, add=False), chars))
    view = blocks.view(collection, document_id)
    assert view["edits"] == len(chars) > 2 and not set(chars) & set(view["starts"])
    document = document.content
    collection.remove(document_id)
    collection.add(document)
    assert only_document(collection)[1].saved.version > view["version"], (
        "a page with the old document takes the new one for newer"
    )


def test_an_undone_edit_can_be_redone(collection):
    document_id, _ = only_document(collection)
    collection.set_granularity(document_id, 1.0)
    char = blocks.view(collection, document_id)["starts"][2]
    blocks.toggle(collection, document_id, char, add=False)
    edited = blocks.view(collection, document_id)
    collection.undo(document_id)
    assert blocks.view(collection, document_id)["redo"] == 1
    collection.redo(document_id)
    again = blocks.view(collection, document_id)
    assert again["starts"] == edited["starts"] and again["redo"] == 0 and again["version"] > edited["version"]


def test_a_boundary_moves_to_the_next_candidate_that_sizes_allow(collection):
    document_id, _ = only_document(collection)
    collection.set_granularity(document_id, 0.0)
    before = blocks.view(collection, document_id)["starts"]
    blocks.move(collection, document_id, before[1], 1)
    moved = blocks.view(collection, document_id)["starts"]
    (to,) = set(moved) - set(before)
    assert to > before[1] and len(moved) == len(before) and before[1] not in moved
    blocks.move(collection, document_id, to, -1)
    assert to not in blocks.view(collection, document_id)["starts"]
    for _ in range(4):
        collection.undo(document_id)
    assert blocks.view(collection, document_id)["starts"] == before
    with pytest.raises(SegmentationError, match="any more"):
        blocks.move(collection, document_id, 3, 1)


def test_a_boundary_moves_only_between_its_neighbours(collection):
    document_id, _ = only_document(collection)
    collection.set_granularity(document_id, 0.0)
    before = blocks.view(collection, document_id)["starts"]
    to = TEXT.index("The river", before[1])
    blocks.move_to(collection, document_id, before[1], to)
    assert blocks.view(collection, document_id)["starts"][:2] == [0, to]
    for wrong in (0, before[2], len(TEXT) - 1):
        with pytest.raises(SegmentationError, match="between the previous"):
            blocks.move_to(collection, document_id, to, wrong)
    with pytest.raises(SegmentationError, match="any more"):
        blocks.move_to(collection, document_id, before[1], to)
    with pytest.raises(SegmentationError, match="minimum"):
        blocks.move_to(collection, document_id, to, 3)


def test_comparing_segmentations_changes_nothing(collection):
    document_id, _ = only_document(collection)
    before = blocks.view(collection, document_id)

    def compared(document_id, segmenter, granularity):
        return blocks.compare(collection, document_id, segmenter, granularity)

    view = compared(document_id, "structural", 1.0)
    assert set(view["differs"]) == set(view["starts"]) - set(before["starts"]) and "version" not in view
    assert compared(document_id, "fixed", 0.0)["starts"] != view["starts"]
    assert blocks.view(collection, document_id) == before and "empty" in compared("x", "fixed", 0)


def test_the_cost_of_blocks_is_shown_before_indexing(collection):
    document_id, _ = only_document(collection)
    view = blocks.view(collection, document_id)
    n = sum(view["tokens"]) * collection.library.engine.model.kv_nbytes_per_token
    assert view["cost"].startswith(f"KV {blocks.format_bytes(n)} (memory: ") and "disk: at most " in view["cost"]
    assert (
        blocks.format_bytes(999) == "999 B"
        and blocks.format_bytes(46_080) == "46 kB"
        and blocks.format_bytes(3e9) == "3.0 GB"
    )
    assert max(view["profile"]) <= 100 and len(view["profile"]) <= blocks.PROFILE_BINS


def test_a_source_is_shown_in_its_document(collection):
    document_id, document = only_document(collection)

    def source(start, end):
        return Source(1, "rivers.md", document_id, start, end, document.content.text[start:end], 0.5, 9)

    view = blocks.source_view(collection, source(20, 90))
    assert view["starts"] == [0, 20, 90] and view["highlight"] == 20 and "version" not in view
    assert blocks.source_view(collection, source(0, len(TEXT)))["starts"] == [0]
    assert "empty" in blocks.source_view(collection, None) and "empty" in blocks.view(collection, "nothing")
