"""The parts that segmentation is built of: the tree, token counters, the two other baselines."""

from pathlib import Path

import numpy as np
import pytest

from blockrag.errors import SegmentationError
from blockrag.segment import (
    FixedSize,
    HFTokenCounter,
    Scored,
    Similarity,
    SizeBounds,
    find_candidates,
    make_segmenter,
)
from blockrag.segment.sizes import SpanSizes, dyadic_rank
from blockrag.segment.tree import Splitter, build_tree
from tests.segmenting import TEXT, ByteCounter, bpe, bpe_counter, embed, segment


def test_dyadic_rank_halves_again_and_again():
    assert dyadic_rank(np.arange(9)).tolist() == [0, 1, 2, 1, 3, 1, 2, 1, 4]
    assert dyadic_rank(np.array([5, 5, 9])).tolist() == [3, 0, 4]
    assert dyadic_rank(np.empty(0, np.int64)).size == 0


def tree(scores, bounds, added=(), removed=()):
    """Tree of a text of ten-byte sentences with the given scores at their starts."""
    text = "Tide rises. "[:10] * (len(scores) + 1)
    chars = np.arange(1, len(scores) + 1) * 10
    sizes = SpanSizes(text, ByteCounter())
    return build_tree(Splitter(text, Scored(chars, np.array(scores)), sizes, bounds), added, removed)


def test_levels_are_scores_plus_a_share_of_size_and_at_most_those_around():
    found = tree([0.2, 0.9, 0.5], SizeBounds(10, 40))
    assert found.chars.tolist() == [10, 20, 30]
    # 40 tokens are the maximum: size 1; parts of 20 are twice the minimum: size 0
    assert found.levels == pytest.approx([0.18, 0.91, 0.45])
    assert tree([0.2, 0.9, 0.5], SizeBounds(10, 40), added=(30,)).levels[-1] == 1.0


def test_no_level_is_above_that_of_the_split_around_it():
    """The first split wins a near tie by its place; the second one's score would lift it above the first."""
    text = "x" * 16384
    scored = Scored(np.array([128, 200]), np.array([0.5, 0.5001]))
    sizes, bounds = SpanSizes(text, ByteCounter()), SizeBounds(1, 16384)
    found = build_tree(Splitter(text, scored, sizes, bounds), (), ())
    assert found.levels[0] == pytest.approx(0.55) and found.levels[1] == found.levels[0]


def test_what_is_above_the_maximum_is_split_at_its_best_candidate_with_level_one():
    found = tree([0.1, 0.2, 0.9, 0.3, 0.1], SizeBounds(10, 50))
    assert dict(zip(found.chars.tolist(), found.levels.tolist(), strict=True))[30] == 1.0
    assert (found.levels == 1.0).sum() == 1


def test_ties_split_near_the_middle():
    found = tree([0.5] * 63, SizeBounds(10, 320))
    forced = found.chars[found.levels == 1.0].tolist()
    assert min(np.diff([0, *forced, 640])) >= 100


def test_monotone_scores_do_not_make_the_tree_slow():
    n = 20_000
    found = tree(np.linspace(0, 1, n), SizeBounds(10, 40))
    assert len(found.chars) == n


@pytest.mark.parametrize("text", [TEXT, "", "a", "x" * 200_000, "wörter 👩‍👩‍👧\n" * 30_000])
def test_starts_are_in_order_inside_the_text_and_about_as_many_as_tokens(text):
    starts = bpe_counter().starts(text)
    assert starts.dtype == np.int64
    assert np.all(np.diff(starts) >= 0) and np.all((starts >= 0) & (starts < max(1, len(text))))
    assert abs(len(starts) - bpe_counter().count(text)) <= 1 + len(text) // 10_000


def test_counting_heeds_neither_padding_nor_truncation_nor_warns(caplog):
    tokenizer = bpe()
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer("set to", truncation=True, padding="max_length", max_length=4)
    n_tokens = len(tokenizer(TEXT, add_special_tokens=False, truncation=False, verbose=False).input_ids)
    tokenizer("set to", truncation=True, padding="max_length", max_length=4)
    assert HFTokenCounter(tokenizer).count(TEXT) == n_tokens > 64
    assert not caplog.records


def test_a_slow_tokenizer_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(SegmentationError, match="Slow gives no offsets"):
        HFTokenCounter(Slow())


def test_exact_counts_are_asked_for_only_near_a_bound_and_once():
    class Watched(ByteCounter):
        asked: list[str] = []

        def count(self, text):
            self.asked.append(text)
            return super().count(text)

    sizes = SpanSizes("x" * 1000, Watched())
    assert sizes.more_than(0, 900, 512) and sizes.fewer_than(0, 100, 512) and not Watched.asked
    assert sizes.more_than(0, 513, 512) and not sizes.more_than(0, 512, 512)
    assert not sizes.fewer_than(0, 512, 512) and sizes.count(0, 513) == 513
    assert len(Watched.asked) == 2


def test_fixed_size_doubles_its_pieces_as_granularity_falls():
    text = "Tide rises now. " * 256  # 16 bytes each
    scored = FixedSize(ByteCounter(), size=64).boundaries(text)
    for score, n_tokens in ((0.25, 64), (0.5, 128), (0.75, 256), (1.0, 512)):
        assert scored.chars[scored.scores >= score].tolist() == list(range(n_tokens, len(text), n_tokens))


def test_fixed_size_needs_a_size():
    with pytest.raises(SegmentationError, match="0 tokens"):
        FixedSize(ByteCounter(), size=0)


TOPICS = (
    "The sea rises with the tide. High tide floods the sea wall. The tide and the sea fall. Sea and tide rise. " * 2
    + "The baker kneads bread dough. Bread needs a hot oven. The oven bakes the dough. Bread and dough rise. " * 2
)


def test_similarity_finds_the_change_of_topic():
    scored = Similarity(embed).boundaries(TOPICS)
    assert scored.chars[scored.scores.argmax()] == TOPICS.index("The baker")


def test_similarity_embeds_every_sentence_once_in_batches():
    batches: list[list[str]] = []

    def watched(sentences):
        batches.append(sentences)
        return embed(sentences)

    text = " ".join(f"Tide number {i} rises." for i in range(700))
    scored = Similarity(watched).boundaries(text)
    assert [sentence for batch in batches for sentence in batch] == [f"Tide number {i} rises." for i in range(700)]
    assert max(map(len, batches)) <= 256 and len(scored.chars) == 699


def test_similarity_is_depth_of_smoothed_likeness_ranked():
    """The same by plain loops: a window of 2 on both sides, peaks up to 10 gaps away."""
    words = ["sea", "tide", "bread", "oven", "moon"]
    sentences = [f"{words[i * i % 5]} {words[i // 4 % 5]} rises. ".capitalize() for i in range(30)]
    vectors = embed([sentence.strip() for sentence in sentences])
    likeness = []
    for i in range(1, 30):
        before, after = vectors[max(0, i - 2) : i].sum(axis=0), vectors[i : i + 2].sum(axis=0)
        likeness.append(before @ after / np.linalg.norm(before) / np.linalg.norm(after))
    last = len(likeness) - 1
    smooth = [(likeness[max(0, i - 1)] + 2 * x + likeness[min(last, i + 1)]) / 4 for i, x in enumerate(likeness)]
    depths = [max(smooth[max(0, i - 10) : i + 1]) + max(smooth[i : i + 11]) - 2 * x for i, x in enumerate(smooth)]
    expected = [sum(other < depth - 1e-6 for other in depths) / len(depths) for depth in depths]
    assert Similarity(embed, window=2).boundaries("".join(sentences)).scores == pytest.approx(expected, abs=0.04)


def test_similarity_of_one_sentence_is_empty_and_asks_nothing():
    def refuse(sentences):
        raise AssertionError("nothing to embed")

    assert Similarity(refuse).boundaries("One sentence only.").scores.size == 0


def test_similarity_needs_a_window():
    with pytest.raises(SegmentationError, match="window of 0"):
        Similarity(embed, window=0)


def test_the_tree_is_the_same_whatever_the_granularities_asked_before():
    asked, fresh = segment(TEXT), segment(TEXT)
    for granularity in (1.0, 0.0, 0.4):
        asked.blocks(granularity)
    assert asked.blocks(0.6) == fresh.blocks(0.6)
    assert set(asked.scored.chars.tolist()) < set(find_candidates(TEXT).tolist())


@pytest.mark.slow
def test_the_shipped_segmenter_cuts_a_known_text_the_same_anywhere():
    text = (Path(__file__).parents[1] / "LICENSE").read_text(encoding="utf-8")
    found = make_segmenter("neural", counter=bpe_counter()).boundaries(text)
    begins = {text[char : char + 12].split(".")[0] for char in found.chars[found.scores > 0.254]}
    assert begins == {"2", "3", "4", "5", "6", "7", "8", "9"}  # sections of the licence
    assert np.abs(found.scores - 0.254).min() > 0.0177  # and bfloat16 moves no score by more than 0.004
