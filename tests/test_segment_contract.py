"""What every segmenter, and every segmentation made with it, promises: tiling, nesting, hard bounds."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.documents.document import Document
from blockrag.errors import SegmentationError
from blockrag.segment import (
    SEGMENTERS,
    Scored,
    Segmentation,
    Segmenter,
    SizeBounds,
    Structural,
    find_candidates,
    make_segmenter,
)
from tests.segmenting import TEXT, ByteCounter, EdgeCounter, bpe_counter, embed, segment, soup, texts

GRANULARITIES = (0.0, 0.2, 0.5, 0.55, 0.8, 1.0)
every_segmenter = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "neural" else []) for name in SEGMENTERS]
)
TIGHT = SizeBounds(8, 16)  # one family of emoji has more tokens than this maximum, so that the minimum must give way
bounds = st.sampled_from([SizeBounds(1, 16), TIGHT, SizeBounds(4, 40), SizeBounds(16, 48), SizeBounds(32, 512)])
counters = st.sampled_from([bpe_counter(), ByteCounter(), EdgeCounter()])


@every_segmenter
@given(text=soup)
@settings(deadline=None, max_examples=30)
def test_scores_are_one_a_candidate_in_unit_range_and_repeatable(name, text):
    segmenter = make_segmenter(name, counter=bpe_counter(), embed=embed)
    scored = segmenter.boundaries(text)
    assert np.array_equal(scored.chars, find_candidates(text))
    assert scored.scores.dtype == np.float32 and scored.scores.shape == scored.chars.shape
    assert np.array_equal(scored.scores, segmenter.score(text, scored.chars))


@every_segmenter
def test_scoring_tells_how_far_it_is_and_comes_to_the_same(name, monkeypatch):
    monkeypatch.setattr("blockrag.segment.neural.segmenter._WINDOWS_AT_ONCE", 1)
    monkeypatch.setattr("blockrag.segment.similarity._BATCH", 16)
    text = "".join(f"Sentence {i} of a long text says {i * i}.\n" for i in range(80))
    segmenter, candidates, steps = make_segmenter(name, counter=bpe_counter(), embed=embed), find_candidates(text), []
    scores = segmenter.score(text, candidates, steps.append)
    done = [step.done for step in steps]
    assert done == sorted(set(done)) and all(0 < step.done <= step.total == len(text) for step in steps)
    assert len(steps) > 1 or name in ("fixed", "structural"), "what runs a model tells of it"
    assert np.array_equal(scores, segmenter.score(text, candidates))


@every_segmenter
@given(text=soup, bounds=bounds, counter=counters)
@settings(deadline=None, max_examples=50)
def test_blocks_tile_nest_and_keep_the_bounds(name, text, bounds, counter):
    segmentation = segment(text, name, bounds, counter)
    coarser: set[int] = set()
    for granularity in GRANULARITIES:
        blocks = segmentation.blocks(granularity)
        assert "".join(texts(segmentation, granularity)) == text
        starts = {block.start for block in blocks}
        assert coarser <= starts
        coarser = starts
        for block in blocks:
            n_tokens = counter.count(text[block.start : block.end])
            assert block.n_tokens == n_tokens <= bounds.maximum
            assert n_tokens >= bounds.minimum or len(blocks) == 1 or bounds == TIGHT


@every_segmenter
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_blocks_and_boundaries_say_the_same(name, granularity):
    segmentation = segment(TEXT, name)
    chars, levels = segmentation.boundaries(granularity)
    blocks = segmentation.blocks(granularity)
    assert [block.start for block in blocks] == [0, *chars.tolist()]
    assert [block.score for block in blocks] == [1.0, *levels.tolist()]
    assert np.all(levels >= 1 - granularity)


@every_segmenter
def test_the_slider_adds_boundaries_little_by_little(name):
    paragraphs = TEXT.replace("# ", "") * 6
    segmentation = segment(paragraphs, name, SizeBounds(8, 256))
    counts = [len(segmentation.blocks(g)) for g in np.linspace(0, 1, 21)]
    assert counts == sorted(counts)
    assert len(set(counts)) >= 5


@pytest.mark.slow
@every_segmenter
def test_a_line_of_a_million_characters_is_cut_to_size(name):
    text = "abcdefghij" * 100_000
    begun = time.perf_counter()
    blocks = segment(text, name, SizeBounds(32, 512)).blocks(0.0)
    assert time.perf_counter() - begun < 20
    assert blocks[-1].end == len(text)
    assert all(32 <= block.n_tokens <= 512 for block in blocks)


def test_an_unbroken_line_is_cut_between_words():
    text = "tide and moon " * 400
    for part in texts(segment(text), 0.0)[1:]:
        assert part[0] != " " and part.split()[0] in ("tide", "and", "moon")


def test_a_part_that_alone_has_more_tokens_than_the_maximum_is_not_split_off():
    """By `EdgeCounter` the text has 14 tokens, but its first sentence, which ends in a space, 17."""
    segmentation = segment("Abcdefghijklmn. B", bounds=SizeBounds(1, 16), counter=EdgeCounter())
    assert segmentation.scored.chars.tolist() == [16]
    assert [block.n_tokens for block in segmentation.blocks(1.0)] == [14]


def test_a_small_document_is_one_block():
    assert [b.n_tokens for b in segment("Hi.", bounds=SizeBounds(32, 512)).blocks(1.0)] == [bpe_counter().count("Hi.")]


def test_a_grapheme_above_the_maximum_is_cut_all_the_same():
    text = "e" + "\u0301" * 100
    assert all(block.n_tokens <= 16 for block in segment(text, bounds=SizeBounds(1, 16)).blocks(0.0))


@pytest.mark.parametrize("text", ["", "   ", "\n\n\f"])
def test_nothing_visible_is_refused(text):
    with pytest.raises(SegmentationError, match="no visible character"):
        segment(text)


@pytest.mark.parametrize("granularity", [-0.1, 1.01, float("nan")])
def test_granularity_outside_its_range_is_refused(granularity):
    with pytest.raises(SegmentationError, match=r"not in \[0, 1\]"):
        segment(TEXT).boundaries(granularity)


@pytest.mark.parametrize("minimum, maximum", [(0, 64), (40, 64), (1, 8), (-1, 512)])
def test_contradicting_bounds_are_refused(minimum, maximum):
    with pytest.raises(SegmentationError, match=f"{minimum} to {maximum}"):
        SizeBounds(minimum, maximum)


class Stub(Segmenter):
    """Gives back the scores it is made with."""

    name = "stub"

    def __init__(self, scores):
        self._scores = scores

    def score(self, text, candidates, on_progress=None):
        return np.array(self._scores, np.float32)


@pytest.mark.parametrize("scores", [[], [0.5], [0.1, 0.2, 0.3], [0.5, 1.5], [-0.1, 0.5], [float("nan"), 0.5]])
def test_scores_that_break_the_contract_are_refused(scores):
    assert find_candidates("One. Two. Three.").size == 2
    with pytest.raises(SegmentationError):
        Stub(scores).boundaries("One. Two. Three.")


@pytest.mark.parametrize("chars", [[0, 5], [5, 5], [9, 5]])
def test_candidates_out_of_order_are_refused(chars):
    with pytest.raises(SegmentationError, match="increasing"):
        Scored(np.array(chars), np.array([0.5, 0.5]))


def test_scores_of_another_text_are_refused():
    document = Document("short.txt", "text/plain", "Short.")
    with pytest.raises(SegmentationError, match="another text"):
        Segmentation.restore(document, Structural().boundaries(TEXT), bpe_counter(), SizeBounds())


def test_restoring_runs_no_segmenter_and_gives_the_same_blocks():
    first = segment(TEXT)
    again = Segmentation.restore(first.document, first.scored, bpe_counter(), first.bounds)
    assert again.blocks(0.7) == first.blocks(0.7)


def test_unknown_segmenters_and_missing_embeddings_name_the_choices():
    with pytest.raises(SegmentationError, match="fixed, structural, similarity"):
        make_segmenter("semantic", counter=bpe_counter())
    with pytest.raises(SegmentationError, match="fixed, structural"):
        make_segmenter("similarity", counter=bpe_counter())


def test_ordinary_documents_are_quick():
    text = (TEXT * 120)[:130_000]
    begun = time.perf_counter()
    segmentation = segment(text, bounds=SizeBounds())
    segmentation.boundaries(0.5)
    assert time.perf_counter() - begun < 5  # well under 1 s on an idle machine
    begun = time.perf_counter()
    for granularity in np.linspace(0, 1, 100):
        segmentation.boundaries(granularity)
    assert time.perf_counter() - begun < 0.5
