"""Evaluation of segmenters: metrics worked out by hand, other libraries' offsets, intervals, the commands end to end."""

import argparse
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from blockrag.segment import Structural, find_candidates
from training.evaluate import segmentation, speed
from training.evaluate.__main__ import main
from training.evaluate.metrics import interval
from training.evaluate.segmentation_metrics import NAMES, Units, measure, normalise
from training.evaluate.segmenters import (
    CachedEmbedder,
    ChonkieSplitter,
    EqualSplitter,
    LlamaIndexSplitter,
    OwnSplitter,
    TextTilingSplitter,
    make_splitter,
)

TEXT = "".join(f"Sentence {i} is about {'boats' if i < 10 else 'cheese'}.\n\n" for i in range(20))
STARTS = find_candidates(TEXT)


class Counter:
    """A token every four characters."""

    def starts(self, text):
        return np.arange(0, len(text), 4)

    def count(self, text):
        return -(-len(text) // 4)


def vectors(texts):
    """Boats are not cheese."""
    found = np.array([[text.count("boats") + 0.1, text.count("cheese") + 0.1] for text in texts])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def embed():
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return CachedEmbedder(vectors, tokenizer)


# metrics


def test_the_same_boundaries_are_perfect_and_none_are_worth_nothing():
    gold = STARTS[[4, 9]]
    units = Units.of(STARTS, gold)
    perfect, nothing = measure(units, gold, gold), measure(units, gold, gold[:0])
    assert [perfect[name] for name in NAMES] == [1, 1, 1, 1, 0, 0, 1]
    assert [nothing[name] for name in ("f1", "f1_tolerant", "recall", "boundary_similarity")] == [0, 0, 0, 0]
    assert nothing["pk"] > 0.3 and nothing["windowdiff"] > 0.3


def test_one_unit_off_is_right_within_tolerance_only_and_counts_once():
    gold = STARTS[[4, 9]]
    units = Units.of(STARTS, gold)
    near = measure(units, gold, STARTS[[5, 9]])
    assert (near["f1"], near["f1_tolerant"]) == (0.5, 1)
    crowded = measure(units, gold, STARTS[[3, 4, 5]])
    assert crowded["f1_tolerant"] == pytest.approx(2 * 1 / 5)


def test_pk_and_windowdiff_are_those_worked_out_by_hand():
    units = Units(np.arange(8))
    measured = measure(units, np.array([4]), np.array([3]))  # window 2 over seven gaps: 0001000 against 0010000
    assert measured["pk"] == pytest.approx(2 / 6) and measured["windowdiff"] == pytest.approx(2 / 6)


def test_long_texts_with_few_boundaries_are_measured():
    units = Units(np.arange(3000))
    assert measure(units, np.array([1500]), np.array([1500]))["pk"] == 0


@given(st.sets(st.integers(0, len(STARTS) - 1), min_size=1), st.sets(st.integers(0, len(STARTS) - 1)))
def test_metrics_stay_in_their_range_and_are_best_when_equal(gold, found):
    gold, found = (STARTS[sorted(chosen)] for chosen in (gold, found))
    measured = measure(Units.of(STARTS, gold), gold, found)
    assert all(0 <= value <= 1 for value in measured.values())
    assert (measured["f1"] == 1) == np.array_equal(gold, found)
    assert measured["f1"] <= measured["f1_tolerant"] + 1e-9


def test_boundaries_are_taken_at_the_next_visible_character():
    assert normalise("ab \n cd  ", np.array([0, 2, 4, 5, 7, 99])).tolist() == [5]


def test_an_interval_holds_its_mean_and_shrinks_with_more_documents():
    draw = np.random.default_rng(1)
    few, many = draw.normal(size=10), draw.normal(size=1000)
    for values in (few, many):
        mean, low, high = interval([values])
        assert low < mean < high and mean == pytest.approx(values.mean())
    assert interval([few])[2] - interval([few])[1] > interval([many])[2] - interval([many])[1]
    assert interval([[1.0], [0.0, 0.0]])[0] == 0.5, "groups weigh alike"


# segmenters


def test_what_counts_tokens_neither_pads_nor_truncates(embed):
    embed.tokenizer.enable_padding(length=128)
    embed.tokenizer.enable_truncation(128)
    again = CachedEmbedder(vectors, embed.tokenizer)
    assert [len(again.tokenizer.encode("word " * n).ids) for n in (3, 300)] == [3, 300]


def test_ties_are_broken_evenly_and_equal_pieces_are_equal():
    found = OwnSplitter(Structural(), Counter())
    one = found.best(TEXT, 1)
    assert abs(int(one[0]) - len(TEXT) / 2) < 80
    sizes = np.diff([0, *EqualSplitter(Counter()).best(TEXT, 3), len(TEXT)])
    assert len(sizes) == 4 and sizes.max() - sizes.min() < 80


@pytest.mark.parametrize("make", [LlamaIndexSplitter, ChonkieSplitter])
def test_other_libraries_find_the_change_of_topic(make, embed):
    pytest.importorskip({LlamaIndexSplitter: "llama_index.core", ChonkieSplitter: "chonkie"}[make])
    splitter = make(embed)
    for found in (splitter.default(TEXT), splitter.best(TEXT, 3)):
        assert set(normalise(TEXT, found)) <= set(STARTS.tolist())
    if make is LlamaIndexSplitter:  # chonkie smooths over five sentences, and may find nothing in so short a text
        assert abs(int(normalise(TEXT, splitter.best(TEXT, 1))[0]) - STARTS[9]) <= 40


def test_texttiling_cuts_at_blank_lines_and_finds_nothing_in_a_line():
    topics = ("harbour ship sail mast anchor tide", "cheese milk cow farm butter cream")
    text = "".join(f"{topic} {topic} {topic} part {i}.\n\n" for topic in topics for i in range(20))
    splitter = TextTilingSplitter()
    found = normalise(text, splitter.default(text))
    assert len(found) and all(text[char - 2 : char] == "\n\n" for char in found)
    assert not len(splitter.default("One line only.")) and splitter.best(text, 3) is None


def test_an_unknown_segmenter_is_refused(embed):
    with pytest.raises(ValueError, match="no segmenter 'x'"):
        make_splitter("x", Counter(), embed, None, "cpu")


# the command


def test_the_command_writes_rows_and_macro_means(tmp_path, capsys, monkeypatch, embed):
    monkeypatch.setattr(
        segmentation,
        "make_splitters",
        lambda names, neural, device: {n: make_splitter(n, Counter(), embed, None, device) for n in names},
    )
    rows = []
    for i in range(4):
        heading = [int(STARTS[9]), int(STARTS[9]) + 8]
        boundaries = [{"char": 0, "level": 1}, {"char": int(STARTS[9]), "level": 1 + i % 2}]
        known = {"id": f"{i}", "category": f"c{i % 2}", "source": "s", "licence": "x", "split": "dev" if i else "test"}
        rows.append({**known, "text": TEXT, "boundaries": boundaries, "headings": [heading]})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = f"segmentation --data {tmp_path / 'a.jsonl'} --segmenters fixed,similarity --json {tmp_path / 'out.json'}"
    main([*flags.split(), "--strip-headings"])
    *lines, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert result == json.loads((tmp_path / "out.json").read_text())
    assert lines[0].startswith("| segmenter |") and len(lines) == 2 + len(result["macro"])
    assert result["n_documents"] == 3 and result["commit"] and set(result["seconds"]) == {"fixed", "similarity"}
    level_1 = [row for row in result["rows"] if row["level"] == 1 and row["segmenter"] == "fixed"]
    assert {(row["category"], row["at"], row["n_documents"]) for row in level_1} == {
        ("c0", "default", 1),
        ("c0", "gold count", 1),
    }
    for row in result["rows"] + result["macro"]:
        assert row["headings"] == "stripped" and {"f1_low", "pk_low", "windowdiff_high", *NAMES} <= set(row)
    assert all(row["source"] == "a" for row in result["rows"])


# seconds


def test_segmenters_are_timed_in_turns_on_the_same_text(tmp_path, capsys, monkeypatch):
    asked = []

    class Recorder:
        def __init__(self, name):
            self.name = name

        def default(self, text):
            asked.append((self.name, text))
            return STARTS[:3]

    monkeypatch.setattr(speed, "make_splitters", lambda names, neural, device: {name: Recorder(name) for name in names})
    (tmp_path / "a.txt").write_text(TEXT)
    flags = f"speed --text {tmp_path / 'a.txt'} {tmp_path / 'a.txt'} --characters {len(TEXT) + 9} --segmenters x,y"
    main([*flags.split(), "--json", str(tmp_path / "out.json")])
    *_, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert result == json.loads((tmp_path / "out.json").read_text())
    counted = [(name, text) for name, text in asked if text != speed.WARM_UP]
    assert [name for name, _ in counted] == ["x", "y", "y", "x", "x", "y"]
    assert {text for _, text in counted} == {TEXT + "\n\n" + TEXT[:7]}
    assert [text for _, text in asked[::2]] == [speed.WARM_UP] * 6  # else what a segmenter keeps would count
    x, y = result["rows"]
    assert result["ratio"] == {"y": y["seconds"] / x["seconds"]} and x["seconds"] == sorted(x["all"])[1] > 0
    assert result["characters"] == len(TEXT) + 9 and result["commit"]
    assert result["machine"]["processor"] and result["machine"]["cores"] >= 1 and x["n_boundaries"] == 3


def test_the_text_is_equal_parts_of_all_sources_and_never_less_than_asked(tmp_path):
    known = {"category": "c", "source": "s", "licence": "x", "split": "dev", "boundaries": [], "headings": []}
    for name in "ab":
        rows = [{**known, "id": str(i), "text": f"{name}{i}" * 50} for i in range(2)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    args = argparse.Namespace(text=None, data=files, split="dev", characters=100)
    assert speed.read_text(args) == "a0" * 25 + "\n\n" + "b0" * 24
    args.characters = 203
    with pytest.raises(ValueError, match="202 characters, not 203"):
        speed.read_text(args)
