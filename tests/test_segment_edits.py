"""What the user adds or removes: it holds at every granularity, breaks no bound, can be undone, or is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.documents.document import Document
from blockrag.errors import SegmentationError
from blockrag.segment import Edit, Scored, Segmentation, SizeBounds
from tests.segmenting import TEXT, EdgeCounter, bpe_counter, segment, soup, texts

GRANULARITIES = (0.0, 0.3, 0.55, 0.8, 1.0)


def starts(segmentation: Segmentation, granularity: float) -> set[int]:
    return set(segmentation.boundaries(granularity)[0].tolist())


def check_rules(segmentation: Segmentation) -> None:
    """Tiling, nesting, bounds, and every edit in force at every granularity."""
    net: dict[int, int] = {}
    for edit in segmentation.edits:
        net[edit.char] = net.get(edit.char, 0) + (1 if edit.kind == "added" else -1)
    coarser: set[int] = set()
    for granularity in GRANULARITIES:
        blocks = segmentation.blocks(granularity)
        assert "".join(texts(segmentation, granularity)) == segmentation.document.text
        found = starts(segmentation, granularity)
        assert coarser <= found
        coarser = found
        assert {char for char, n in net.items() if n > 0} <= found
        assert not {char for char, n in net.items() if n < 0} & found
        for block in blocks:
            assert block.n_tokens <= segmentation.bounds.maximum
            assert block.n_tokens >= segmentation.bounds.minimum or len(blocks) == 1


def edited(segmentation: Segmentation, is_addition: bool, place: float, granularity: float) -> Segmentation:
    """One more edit at some place, or the same segmentation if it is refused."""
    found = sorted(starts(segmentation, granularity))
    try:
        if is_addition or not found:
            return segmentation.with_boundary(1 + int(place * len(segmentation.document.text)))
        return segmentation.without_boundary(found[int(place * len(found))], granularity)
    except SegmentationError:
        return segmentation


edits = st.lists(st.tuples(st.booleans(), st.floats(0, 0.999), st.sampled_from(GRANULARITIES)), min_size=1, max_size=8)


@given(
    text=soup,
    edits=edits,
    bounds=st.sampled_from([SizeBounds(1, 16), SizeBounds(4, 40), SizeBounds(2, 200)]),
    counter=st.sampled_from([bpe_counter(), EdgeCounter()]),
)
@settings(deadline=None, max_examples=100)
def test_rules_hold_after_any_edits_and_undo_takes_them_back(text, edits, bounds, counter):
    history = [segment(text, bounds=bounds, counter=counter)]
    for is_addition, place, granularity in edits:
        after = edited(history[-1], is_addition, place, granularity)
        if after is not history[-1]:
            check_rules(after)
            history.append(after)
    last = history.pop()
    while history:
        last = last.undo()
        earlier = history.pop()
        assert last.edits == earlier.edits
        assert all(last.blocks(g) == earlier.blocks(g) for g in GRANULARITIES)
    with pytest.raises(SegmentationError, match="no edit"):
        last.undo()


def test_an_added_boundary_is_there_at_every_granularity():
    char = TEXT.index("follows") - 4
    before = segment(TEXT)
    after = before.with_boundary(char)
    assert all(char in starts(after, g) and char not in starts(before, g) for g in GRANULARITIES)
    assert after.edits == (Edit(char, "added"),) and before.edits == ()


def test_a_removed_boundary_is_nowhere_and_others_stay():
    segmentation = segment(TEXT, bounds=SizeBounds(8, 512))
    finest = sorted(starts(segmentation, 1.0))
    for char in finest:
        after = segmentation.without_boundary(char, 1.0)
        for granularity in GRANULARITIES:
            assert starts(after, granularity) == starts(segmentation, granularity) - {char}


def test_edits_survive_the_slider_and_each_other():
    segmentation = segment(TEXT)
    removed = sorted(starts(segmentation, 1.0))[3]
    added = TEXT.index("The range is small")
    after = segmentation.without_boundary(removed, 1.0).with_boundary(added)
    for granularity in (1.0, 0.0, 0.7, 0.1, 1.0):
        assert added in starts(after, granularity) and removed not in starts(after, granularity)


def test_what_a_removal_joins_keeps_the_maximum_even_by_one_token():
    """By `EdgeCounter` the first two sentences, which end in a space, have 19 tokens; all three have 16."""
    document = Document("text", "text/plain", " Aaaa. Bbbbbb. C")
    scored = Scored(np.array([7, 15]), np.array([0.9, 0.5]))
    segmentation = Segmentation.restore(document, scored, EdgeCounter(), SizeBounds(1, 16), [Edit(7, "removed")])
    assert [block.n_tokens for block in segmentation.blocks(1.0)] == [16]


def test_opposite_edits_cancel():
    segmentation = segment(TEXT)
    char = sorted(starts(segmentation, 1.0))[2]
    back = segmentation.without_boundary(char, 1.0).with_boundary(char)
    assert back.blocks(1.0) == segmentation.blocks(1.0) and back.blocks(0.0) == segmentation.blocks(0.0)
    inside = TEXT.index("Sailors") + 20
    back = segmentation.with_boundary(inside).without_boundary(inside, 0.0)
    assert back.blocks(1.0) == segmentation.blocks(1.0)
    assert len(back.edits) == 2 and back.undo().edits == (Edit(inside, "added"),)


def test_adding_twice_changes_nothing():
    once = segment(TEXT).with_boundary(TEXT.index("Sailors"))
    assert once.with_boundary(TEXT.index("Sailors")) is once


def test_restoring_with_edits_gives_the_same_blocks():
    segmentation = segment(TEXT)
    char = sorted(starts(segmentation, 1.0))[2]
    after = segmentation.without_boundary(char, 1.0).with_boundary(TEXT.index("Sailors"))
    again = Segmentation.restore(after.document, after.scored, bpe_counter(), after.bounds, after.edits)
    assert again.blocks(1.0) == after.blocks(1.0) and again.undo().blocks(1.0) == after.undo().blocks(1.0)


def test_a_part_below_the_minimum_is_refused_with_its_numbers():
    segmentation = segment(TEXT, bounds=SizeBounds(32, 64)).with_boundary(TEXT.index("## Spring"))
    near = TEXT.index("Spring tides")
    n_tokens = bpe_counter().count("## ")
    with pytest.raises(SegmentationError, match=f"block of {n_tokens} tokens; the minimum is 32"):
        segmentation.with_boundary(near)


def test_merging_above_the_maximum_is_refused_with_its_numbers():
    segmentation = segment(TEXT, bounds=SizeBounds(8, 64))
    blocks = segmentation.blocks(0.0)
    i = next(i for i in range(1, len(blocks)) if blocks[i - 1].n_tokens + blocks[i].n_tokens > 70)
    n_tokens = bpe_counter().count(TEXT[blocks[i - 1].start : blocks[i].end])
    with pytest.raises(SegmentationError, match=f"block of {n_tokens} tokens; the maximum is 64"):
        segmentation.without_boundary(blocks[i].start, 0.0)


def test_a_forced_boundary_removed_at_a_fine_granularity_moves_elsewhere():
    segmentation = segment(TEXT, bounds=SizeBounds(8, 64))
    forced = starts(segmentation, 0.0)
    blocks = segmentation.blocks(1.0)
    i = next(
        i
        for i in range(1, len(blocks))
        if blocks[i].start in forced and blocks[i - 1].n_tokens + blocks[i].n_tokens < 55
    )
    after = segmentation.without_boundary(blocks[i].start, 1.0)
    check_rules(after)


@pytest.mark.parametrize("char", [0, -3, len(TEXT), len(TEXT) + 5])
def test_a_place_outside_the_text_is_refused(char):
    with pytest.raises(SegmentationError, match="outside the text"):
        segment(TEXT).with_boundary(char)


def test_a_place_inside_a_grapheme_is_refused():
    text = TEXT + "👩‍👩‍👧" + TEXT
    with pytest.raises(SegmentationError, match="would split a character"):
        segment(text).with_boundary(len(TEXT) + 1)


def test_removing_what_is_not_there_is_refused():
    segmentation = segment(TEXT)
    char = sorted(starts(segmentation, 1.0) - starts(segmentation, 0.0))[0]
    for absent in (char, char + 1, len(TEXT) + 9):
        with pytest.raises(SegmentationError, match="No block begins"):
            segmentation.without_boundary(absent, 0.0)
