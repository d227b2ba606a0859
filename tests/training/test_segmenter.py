"""The learned segmenter: tokens and windows, network, weights on disk, crops, loss, a small training run."""

import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.errors import WeightsError
from blockrag.segment import find_candidates
from blockrag.segment.neural import Neural
from blockrag.segment.neural.encoding import FIRST_MARKER, HEAD, N_MARKERS, TAIL, encode, join, lay, marker
from blockrag.segment.neural.segmenter import candidate_logits, read
from blockrag.segment.neural.weights import Scale, load, save
from tests.training.tiny_segmenter import make_network, make_row, make_tokenizer, write_encoder
from training.segmenter.__main__ import begin, main
from training.segmenter.batches import logits, loss, make_batch
from training.segmenter.config import SegmenterConfig
from training.segmenter.encoded import read_examples
from training.segmenter.examples import MASK, NO_LEVEL, Sampler, flatten, hide, lower, make_example, pack
from training.segmenter.scale import main as choose_scale
from training.segmenter.scoring import f1_at_gold_count, fit_scale, macro_f1, predict

TOKENIZER = make_tokenizer()
TEXT = make_row(0)["text"]


def encoded(text=TEXT):
    return encode(text, find_candidates(text), TOKENIZER)


# tokens and windows


@given(st.text(max_size=300))
@settings(deadline=None)
def test_any_text_has_a_marker_for_every_candidate(text):
    candidates = find_candidates(text)
    found = encode(text, candidates, TOKENIZER)
    assert len(found.markers) == len(candidates) + 1 and len(found.ids) == len(found.cases)
    marked = found.ids[found.markers]
    assert np.all((marked >= FIRST_MARKER) & (marked < FIRST_MARKER + N_MARKERS))


def test_a_marker_tells_gap_and_indentation():
    gaps = [" ", "\n", "\n  ", "\n    ", "\n\n", "\n\n\n", "\n\t\t\tx"[:-1], "\f"]
    assert len({marker(f"a.{gap}b", 2 + len(gap)) for gap in gaps}) == len(gaps)
    assert marker("a.\r\nb", 4) == marker("a.\nb", 3)


def test_long_pieces_are_shortened_to_their_ends():
    found = encoded("tide " * 1000 + "late")
    assert len(found.ids) == 1 + HEAD + TAIL and found.ids[-1] == TOKENIZER.token_to_id("late")


def test_capitals_are_kept_beside_the_tokens():
    found = encoded("Tide IN out")
    assert found.cases.tolist() == [0, 1, 2, 0]


def test_crops_that_are_joined_are_the_whole():
    whole = encoded()
    parts = [whole.crop(0, 7), whole.crop(7, 20), whole.crop(20, len(whole.markers))]
    again = join(parts)
    assert np.array_equal(again.ids, whole.ids) and np.array_equal(again.markers, whole.markers)


@given(st.integers(1, 300), st.integers(16, 80), st.integers(0, 13))
@settings(deadline=None)
def test_every_marker_is_read_where_it_stands_with_context_on_both_sides(n_words, size, overlap):
    whole = encoded("".join(f"Tide {WORD}. " for WORD in ["in", "out", "late"] * (n_words // 3 + 1)))
    windows = lay(whole, size, overlap)
    assert np.array_equal(windows.ids[windows.rows, windows.columns], whole.ids[whole.markers])
    width = windows.ids.shape[1]
    starts = whole.markers - windows.columns + 1
    left, right = windows.columns - 1, width - 2 - windows.columns
    assert np.all((left >= overlap // 2) | (starts == 0))
    assert np.all((right >= overlap // 2 - 1) | (starts + width - 2 == len(whole.ids)))


# network


def states_of(network, text=TEXT):
    config = network.config
    return read(network, lay(encoded(text), config.window, config.overlap))


@torch.inference_mode()
def test_what_is_a_boundary_of_a_coarse_level_is_one_of_the_finer():
    network = make_network()
    found = candidate_logits(network, states_of(network))
    assert found.shape == (len(encoded().markers), 3) and bool((found.diff(dim=1) >= 0).all())


@torch.inference_mode()
def test_several_texts_at_once_give_what_each_gives_alone():
    network = make_network()
    examples = [make_example(make_row(seed, n), TOKENIZER) for seed, n in ((1, 60), (2, 3), (3, 20))]
    together = logits(network, make_batch(examples, 64, 16))
    for i, example in enumerate(examples):
        alone = candidate_logits(network, read(network, lay(example.encoded, 64, 16)))
        assert torch.allclose(together[i, : len(alone)], alone, atol=1e-5)


@torch.inference_mode()
def test_long_texts_are_scored_in_stitched_groups():
    network, far = make_network(reach=16), make_network(reach=4096)
    for n in (15, 16, 17, 24, 27, 28, 29, 40, 41, 100):
        states = torch.randn(n, 32)
        found = candidate_logits(network, states)
        assert found.shape == (n, 3)
        alone = [candidate_logits(far, states[first : first + 16]) for first in range(0, max(1, n - 15), 12)]
        for i, group in enumerate(alone):  # sixteen see each other, and the twelve in the middle count
            assert torch.allclose(found[12 * i + 2 : 12 * i + 14], group[2:14], atol=1e-6)
        last = candidate_logits(far, states[-16:])
        assert torch.allclose(found[-2:], last[-2:], atol=1e-6)


@torch.inference_mode()
def test_one_sided_sees_nothing_of_what_comes_after():
    texts = TEXT, TEXT.replace(TEXT.split(".\n")[-2], "late late")
    n_same = 10
    for one_sided in (True, False):
        network = make_network(one_sided=one_sided, window=512)
        one, other = (candidate_logits(network, states_of(network, text))[:n_same] for text in texts)
        assert torch.allclose(one, other, atol=1e-6) == one_sided


@torch.inference_mode()
@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_states_at_places_are_those_of_the_whole_encoder_there(one_sided, padded):
    network = make_network(one_sided=one_sided)
    windows = lay(encoded(), 64, 16)
    ids, cases = torch.from_numpy(windows.ids), torch.from_numpy(windows.cases)
    if padded:
        ids[1, 40:] = 0
    places = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 3, 39, 63])
    seen = (ids != 0)[:, None, None, :].expand(-1, -1, 64, -1)
    if one_sided:
        seen = seen & torch.ones(64, 64, dtype=torch.bool).tril()
    embedded = network.bert.embeddings.word_embeddings(ids) + network.cases(cases)
    whole = network.bert(inputs_embeds=embedded, attention_mask=seen).last_hidden_state
    assert torch.allclose(network.read(ids, cases, places), whole[places], atol=1e-5)


# weights on disk and the segmenter itself


@pytest.fixture
def saved(tmp_path):
    scale = Scale((0.25, 0.5, 0.25), (0.0, 0.4, 1.0), (0.0, 0.5, 1.0))
    save(tmp_path / "w", make_network(), TOKENIZER, scale)
    return tmp_path / "w"


def test_weights_come_back_nearly_as_they_were(saved):
    network, tokenizer, scale = load(saved)
    assert tokenizer.to_str() == TOKENIZER.to_str() and scale.shares == (0.25, 0.5, 0.25)
    before = make_network().state_dict()
    for name, tensor in network.state_dict().items():
        bound = before[name].abs().amax() / 127 if tensor.ndim == 2 else 0
        assert (tensor - before[name]).abs().max() <= bound


def test_scores_are_those_of_the_probabilities_and_the_same_each_time(saved):
    segmenter, candidates = Neural(saved), find_candidates(TEXT)
    scores = segmenter.boundaries(TEXT).scores
    probabilities = segmenter.probabilities(TEXT, candidates)
    raw = probabilities @ np.array((0.25, 0.5, 0.25))
    assert np.allclose(scores, np.interp(raw, (0, 0.4, 1), (0, 0.5, 1)), atol=1e-6)
    assert np.array_equal(scores, Neural(saved).boundaries(TEXT).scores)


@given(st.text(max_size=200))
@settings(deadline=None, max_examples=30)
def test_no_text_crashes_it(text):
    global_segmenter().boundaries(text)


@pytest.mark.parametrize(
    "text", ["", " ", "one", "日本語。中国語。\n\n한국어.", "| a | b |\n|---|---|\n| 1 | 2 |\n", "\x00\ud7ff\n\n🧱"]
)
def test_odd_texts_have_scores(text):
    found = global_segmenter().boundaries(text)
    assert len(found.scores) == len(find_candidates(text))


@cache  # hypothesis refuses fixtures of a function's scope
def global_segmenter():
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), make_network(), TOKENIZER, Scale())
        return Neural(Path(folder))


def test_a_folder_without_a_segmenter_is_refused(tmp_path, saved):
    with pytest.raises(WeightsError, match="no readable segmenter"):
        Neural(tmp_path)
    config = json.loads((saved / "config.json").read_text())
    config["network"]["n_layers"] = 2
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="no readable segmenter"):
        Neural(saved)


# encoded texts on disk


def test_encoded_texts_come_back_as_they_were_and_are_read_the_next_time(tmp_path):
    rows = [make_row(i, split="dev" if i == 2 else "train", variant="stripped", dataset="a") for i in range(4)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = read_examples([data], "train", TOKENIZER, 1, tmp_path / "kept")
    again = read_examples([data], "train", TOKENIZER, 1, tmp_path / "kept")
    assert len(first) == len(again) == 3 and len(list((tmp_path / "kept").iterdir())) == 1
    for one, other, row in zip(first, again, [rows[0], rows[1], rows[3]], strict=True):
        fresh = make_example(row, TOKENIZER)
        for each in (one, other):
            assert np.array_equal(each.encoded.ids, fresh.encoded.ids) and np.array_equal(each.levels, fresh.levels)
            assert np.array_equal(each.encoded.markers, fresh.encoded.markers)
            assert (each.category, each.dataset, each.headings) == ("news", "a", "stripped")
    data.write_text(json.dumps(rows[0]) + "\n")
    assert len(read_examples([data], "train", TOKENIZER, 1, tmp_path / "kept")) == 1


# crops, loss, scoring


def test_levels_stand_at_their_candidates():
    row = make_row(4)
    example = make_example(row, TOKENIZER)
    found = [
        int(char)
        for char, level in zip(find_candidates(row["text"]), example.levels[1:], strict=True)
        if level < NO_LEVEL
    ]
    assert found == [boundary["char"] for boundary in row["boundaries"][1:]]


def test_the_same_seed_draws_the_same_and_crops_keep_their_length():
    examples = [make_example(make_row(i, category=f"c{i % 2}"), TOKENIZER) for i in range(4)]
    config = SegmenterConfig(max_tokens=100, packed=0.5)
    one, other = (iter(Sampler(examples, config, 7)) for _ in range(2))
    for _ in range(20):
        a, b = next(one), next(other)
        assert np.array_equal(a.encoded.ids, b.encoded.ids) and np.array_equal(a.levels, b.levels)
        assert len(a.levels) == len(a.encoded.markers) and len(a.encoded.ids) <= 100


def test_packing_puts_documents_above_their_own_levels():
    parts = [make_example(make_row(i), TOKENIZER) for i in (1, 2)]
    packed = pack(parts)
    n = len(parts[0].levels)
    assert packed.levels[n] == 1 and not np.any(packed.levels[1:n] == 1)
    assert np.array_equal(packed.levels < NO_LEVEL, np.concatenate([p.levels for p in parts]) < NO_LEVEL)


def test_flattening_and_lowering_take_layout_and_capitals():
    example = make_example({**make_row(1), "text": "One.\n\nTwo.\n  Three.", "boundaries": []}, TOKENIZER)
    marks = [
        e.encoded.ids[e.encoded.markers].tolist() for e in (example, flatten(example, False), flatten(example, True))
    ]
    same_line, new_line, indented = FIRST_MARKER, FIRST_MARKER + 5, FIRST_MARKER + 6
    assert marks == [[same_line, FIRST_MARKER + 10, indented], [same_line, new_line, indented], [same_line] * 3]
    assert not lower(example).encoded.cases.any()


def test_hiding_takes_about_as_many_tokens_as_asked_and_no_marks():
    example = make_example(make_row(0), TOKENIZER)
    found = hide(example, 0.3, np.random.default_rng(0))
    hidden = found.encoded.ids == MASK
    assert 0.2 < hidden.mean() < 0.4 and not hidden[example.encoded.markers].any()
    assert np.array_equal(found.encoded.ids[~hidden], example.encoded.ids[~hidden])
    assert not found.encoded.cases[hidden].any() and np.array_equal(found.levels, example.levels)
    drawn = next(iter(Sampler([example], SegmenterConfig(masked=0.3, flattened=0, packed=0, lowered=0), 0)))
    assert 0.2 < (drawn.encoded.ids == MASK).mean() < 0.4


def test_loss_is_the_one_worked_out_by_hand():
    found = torch.zeros(2, 3, 3)
    found[0, 1] = torch.tensor([2.0, 2.0, 2.0])
    levels = torch.tensor([[0, 1, NO_LEVEL], [0, 2, 0]])
    log2, near = np.log(2), np.log1p(np.exp(-2.0))
    first = (3 * near + 3 * log2) / 2
    assert float(loss(found, levels, (1, 1, 1))) == pytest.approx((first + 3 * log2) / 2, abs=1e-6)
    assert float(loss(found, levels, (1, 0, 0))) == pytest.approx(((near + log2) / 2 + log2) / 2, abs=1e-6)


def test_f1_and_scale_are_as_worked_out():
    levels = np.array([1, 4, 2, 4, 3], np.uint8)
    assert f1_at_gold_count(np.array([0.9, 0.8, 0.1, 0.0, 0.2]), levels, 2) == 0.5
    assert f1_at_gold_count(np.zeros(5), np.full(5, 4), 2) is None
    example = make_example(make_row(1), TOKENIZER)
    truth = np.stack([example.levels[1:] <= k for k in (1, 2, 3)], 1) * 0.5 + 0.1
    scale = fit_scale([truth], [example])
    scores = scale.apply(truth)
    assert macro_f1([scores], [example])[0] == 1
    assert np.array_equal(scores >= 0.5, example.levels[1:] <= 2)


def test_where_it_cuts_is_chosen_anew_and_nothing_else(tmp_path, saved, capsys):
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({**make_row(seed), "split": "dev"}) + "\n" for seed in range(4)))
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    flags = ["--data", str(data), "--neural", str(saved)]
    choose_scale(flags)
    assert before == {path.name: path.read_bytes() for path in saved.iterdir()}  # without --write nothing changes
    choose_scale([*flags, "--write"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    config = json.loads((saved / "config.json").read_text())
    kept = json.loads(before.pop("config.json"))
    assert config["scale"] == result["scale"] and config["network"] == kept["network"] and result["n"] == 8
    assert result["scale"]["shares"] == kept["scale"]["shares"] and result["scale"]["raw"] != kept["scale"]["raw"]
    assert all((saved / name).read_bytes() == content for name, content in before.items())


def test_a_setting_out_of_range_is_refused():
    for change in (
        {"window": 600},
        {"overlap": 512},
        {"headings": "some"},
        {"steps": 0},
        {"masked": 1},
        {"dropout": -0.1},
    ):
        with pytest.raises(ValueError):
            SegmenterConfig(**change)


# a whole training


def test_the_encoder_drops_as_many_activations_as_asked(tmp_path):
    write_encoder(tmp_path)
    network = begin(tmp_path, SegmenterConfig(dropout=0.25, layers=1))
    assert {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)} == {0.25}


def test_a_small_training_learns_what_is_plain_to_see(tmp_path, capsys):
    write_encoder(tmp_path)
    data = tmp_path / "data.jsonl"
    rows = [make_row(i, split="train" if i < 40 else "dev") for i in range(50)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = (
        f"--train {data} --dev {data} --out {tmp_path / 'out'} --encoder {tmp_path} --device cpu --workers 1 --layers 1"
    )
    flags += (
        " --steps 80 --texts 4 --lr 5e-3 --warmup 5 --window 64 --overlap 16 --max-tokens 256 --packed 0 --flattened 0"
    )
    main(flags.split())
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert log[-2]["loss"] < log[0]["loss"] / 2
    assert report["dev_f1_level_2_stripped"] == report["dev_f1_level_2_kept"] > 0.9
    text = rows[45]["text"]
    found = Neural(tmp_path / "out").boundaries(text)
    begins = found.chars[found.scores >= 0.5].tolist()
    assert len(set(begins) ^ {b["char"] for b in rows[45]["boundaries"][1:]}) <= 1
    examples = [make_example(row, TOKENIZER) for row in rows[40:]]
    network, _, scale = load(tmp_path / "out")
    again = macro_f1([p @ scale.shares for p in predict(network, examples)], examples)[0]
    assert again == pytest.approx(report["dev_f1_level_2_kept"], abs=0.05)
