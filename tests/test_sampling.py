"""Choice of tokens: temperature, nucleus, seed, penalty and stop strings, from the formula to every way of asking."""

import importlib
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blockrag import BlockRAG, Document, Piece, Sampling
from blockrag.cli import main, options
from blockrag.errors import ArgumentError
from blockrag.generate import StopStrings, next_token, nucleus, penalized, sampled
from blockrag.pipeline import Pipeline
from tests.tiny import tiny_engine

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0])


def draws(sampling: Sampling, n: int = 4000) -> torch.Tensor:
    """Shares of each token in `n` draws."""
    generator = torch.Generator().manual_seed(1)
    found = [next_token(LOGITS, [], sampling, generator) for _ in range(n)]
    return torch.bincount(torch.tensor(found), minlength=4) / n


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_tempered_distribution(temperature):
    assert torch.allclose(draws(Sampling(temperature)), (LOGITS / temperature).softmax(0), atol=0.03)


def test_the_nucleus_is_the_smallest_set_that_reaches_the_share():
    probabilities = LOGITS.softmax(0)  # .64 .24 .09 .03
    for top_p, n_kept in ((1e-6, 1), (0.6, 1), (0.7, 2), (0.9, 3), (1.0, 4)):
        kept = nucleus(probabilities[[2, 0, 3, 1]], top_p)[[1, 3, 0, 2]]
        assert torch.equal(kept, probabilities.where(torch.arange(4) < n_kept, 0.0))
    assert draws(Sampling(1.0, top_p=0.7))[2:].sum() == 0


def test_tokens_of_the_answer_become_less_likely_whatever_their_sign():
    assert penalized(LOGITS, [3, 0, 0], 2.0).tolist() == [1.0, 1.0, 0.0, -2.0]
    assert penalized(LOGITS, [], 2.0) is LOGITS is penalized(LOGITS, [0], 1.0)
    greedy = sampled(lambda ids: LOGITS, [9], Sampling(repetition_penalty=4.0))
    assert [next(greedy) for _ in range(3)] == [0, 1, 0]


def test_a_seed_repeats_an_answer_and_none_does_not():
    def answer(seed: int | None) -> list[int]:
        tokens = sampled(lambda ids: LOGITS, [9], Sampling(2.0, seed=seed))
        return [next(tokens) for _ in range(64)]

    assert answer(7) == answer(7) != answer(8) and answer(None) != answer(None)


def test_decoding_runs_the_prompt_once_and_then_each_token():
    seen = []
    tokens = sampled(lambda ids: seen.append([*ids]) or LOGITS, [5, 6], Sampling(1.0, seed=0))
    found = [next(tokens) for _ in range(3)]
    assert seen == [[5, 6], [found[0]], [found[1]]]


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.1}, {"repetition_penalty": 0}]
    + [{"stop": "text"}, {"stop": [""]}, {"seed": -1}, {"seed": 1.5}, {"temperature": "1"}, {"top_p": True}],
)
def test_values_out_of_bounds_are_refused(wrong):
    with pytest.raises(ArgumentError, match=f"{next(iter(wrong))} is .*; give"):
        Sampling(**wrong)


@given(st.text("abc", max_size=20), st.lists(st.text("abc", min_size=1, max_size=3), max_size=3), st.randoms())
def test_streamed_text_ends_before_the_first_stop_string(text, stop, random):
    stream, shown, left = StopStrings(stop), "", text
    while left and not stream.found:
        n = random.randint(1, len(left))
        shown, left = shown + stream.push(left[:n]), left[n:]
    shown += stream.flush()
    first = min((text.find(s) for s in stop if s in text), default=len(text))
    assert not any(s in shown for s in stop)
    assert shown == text[: len(shown)] and (len(shown) == first or stream.found) and len(shown) <= len(text)


def test_with_one_stop_string_nothing_before_it_is_lost():
    stream = StopStrings(["\nUser:"])
    assert [stream.push(piece) for piece in ("Yes.\n", "User", "s do.\nUs", "er: no")] == [
        "Yes.",
        "",
        "\nUsers do.",
        "",
    ]
    assert stream.found and stream.flush() == ""


@pytest.fixture
def pipeline(tmp_path):
    pipeline = Pipeline.open(tiny_engine(), tmp_path)
    text = "".join(f"# Town {i}\n\nThe tower of town {i} is high and old.\n\n" for i in range(4))
    pipeline.add(pipeline.segment(Document("towns.md", "text/markdown", text), "structural"))
    return pipeline


def ask(pipeline: Pipeline, mode="block", **sampling):
    return [*pipeline.ask("How high?", mode, 2, 24, sampling=Sampling(**sampling))]


@pytest.mark.parametrize("mode", ["block", "full"])
def test_answers_are_drawn_in_both_modes(pipeline, mode):
    greedy = ask(pipeline, mode)[-1].text
    drawn = [ask(pipeline, mode, temperature=2.0, seed=seed)[-1].text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and greedy not in drawn
    assert ask(pipeline, mode, temperature=1.0, top_p=1e-6)[-1].text == greedy
    assert ask(pipeline, mode, repetition_penalty=1.0 + 1e-9)[-1].text == greedy


def test_an_answer_ends_before_a_stop_string(pipeline):
    whole = ask(pipeline)[-1]
    stop = whole.text[5:8]
    *events, answer = ask(pipeline, stop=[stop])
    assert (
        answer.text == whole.text[: whole.text.index(stop)] == "".join(e.text for e in events if isinstance(e, Piece))
    )
    assert (answer.stopped, whole.stopped) == ("end", "length") and answer.report.n_new_tokens < 24


def test_the_library_and_the_command_line_draw_too(pipeline, tmp_path, monkeypatch, capsys):
    expected = ask(pipeline, temperature=2.0, top_p=0.9, seed=3, stop=["zzz"], repetition_penalty=1.1)[-1].text
    rag = BlockRAG(pipeline.engine, tmp_path)
    sampling = Sampling(2.0, 0.9, 3, ("zzz",), 1.1)
    assert rag.ask("How high?", k=2, max_new_tokens=24, sampling=sampling).text == expected
    monkeypatch.setattr(options, "open_store", lambda args: pipeline)
    command = ["ask", "How high?", "--store", str(tmp_path), "--k", "2", "--max-new-tokens", "24", "--json"]
    drawing = ["--temperature", "2", "--top-p", "0.9", "--seed", "3", "--stop", "zzz", "--repetition-penalty", "1.1"]
    assert main(command + drawing) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["answer"] == expected
    assert main([*command, "--top-p", "3"]) == 2 and "top_p is 3.0; give" in capsys.readouterr().err


def test_a_language_model_of_llamaindex_draws_by_its_fields_and_by_the_call(pipeline):
    pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")
    BlockAttentionLLM = importlib.import_module("blockrag.llamaindex").BlockAttentionLLM
    drawing = {"temperature": 2.0, "seed": 3}
    always = BlockAttentionLLM(pipeline.engine, max_tokens=24, sampling=drawing)
    greedy = BlockAttentionLLM(pipeline.engine, max_tokens=24)
    drawn = always.complete("Why?").text
    assert greedy.complete("Why?", **drawing).text == drawn != greedy.complete("Why?").text
    assert always.complete("Why?", temperature=0.0).text == greedy.complete("Why?").text
