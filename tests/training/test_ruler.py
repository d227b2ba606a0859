"""RULER questions: needles, scores, and gold passages at every position."""

import json

import pytest

from tests.tiny import tiny_model, tiny_tokenizer
from training.evaluate.__main__ import main as evaluate
from training.evaluate.metrics import contains_all
from training.evaluate.qa import at_every_place
from training.evaluate.ruler import N_HOPS, N_KEYS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every task at two lengths, and their folder."""
    folder = tmp_path_factory.mktemp("ruler")
    model = tiny_model(tokenizer=tiny_tokenizer())
    model.network.save_pretrained(folder / "base")
    model.tokenizer.save_pretrained(folder / "base")
    text = " ".join(f"On day {i} the ferry left at noon." for i in range(400))
    row = {"id": "a", "category": "books", "source": "s", "licence": "x", "split": "test", "text": text}
    (folder / "texts.jsonl").write_text(json.dumps({**row, "boundaries": [], "headings": []}) + "\n")
    flags = ["--texts", str(folder / "texts.jsonl"), "--model", str(folder / "base"), "--tokens", "600", "1200"]
    evaluate(["ruler", *flags, "--each", "3", "--passage", "300", "--out", str(folder / "rows")])
    return folder


def rows_of(folder, name):
    return [json.loads(line) for line in (folder / "rows" / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("task", "n_needles", "n_answers"),
    [
        ("needle", 1, 1),
        ("multi-key", N_KEYS, 1),
        ("multi-value", N_KEYS, N_KEYS),
        ("variables", N_HOPS + 1, N_HOPS + 1),
    ],
)
def test_every_answer_is_hidden_once(made, task, n_needles, n_answers):
    for row in rows_of(made, f"{task}-600"):
        text = "\n".join(document["text"] for document in row["documents"])
        assert len(row["answers"]) == n_answers
        assert text.count("magic number") + text.count("VAR ") - (N_HOPS if task == "variables" else 0) == n_needles
        gold = "\n".join(document["text"] for document in row["documents"] if document["is_gold"])
        assert all(answer in gold for answer in row["answers"])
        if task == "variables":
            assert all(text.count(f"VAR {name} =") == 1 for name in row["answers"])


def test_lengths_are_those_asked_for(made):
    counts = {}
    for n_tokens in (600, 1200):
        row = rows_of(made, f"needle-{n_tokens}")[0]
        text = " ".join(document["text"] for document in row["documents"])
        counts[n_tokens] = len(tiny_tokenizer()(text).input_ids)
        assert n_tokens - 40 <= counts[n_tokens] <= n_tokens + 10


def test_too_little_text_is_an_error(made, tmp_path):
    flags = ["--texts", str(made / "texts.jsonl"), "--model", str(made / "base"), "--tokens", "90000"]
    with pytest.raises(ValueError, match="too few"):
        evaluate(["ruler", *flags, "--each", "1", "--out", str(tmp_path)])


def test_all_answers_count_by_their_share():
    assert contains_all("They are 12 and 34.", ["12", "34"]) == 1
    assert contains_all("It is 34.", ["12", "34"]) == 0.5


def test_the_rows_are_read_by_the_evaluation(made, capsys):
    data = ["--data", str(made / "rows" / "multi-value-600.jsonl"), "--model", str(made / "base"), "--device", "cpu"]
    flags = ["--adapter", "none", "--passages", "0", "--max-new-tokens", "2", "--modes", "full", "--limit", "1"]
    evaluate(["qa", *data, *flags])
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert row["n"] == 1 and 0 <= row["contains"] <= 1


def test_the_gold_passage_takes_every_place():
    documents = [{"title": "", "text": str(i), "is_gold": i == 2} for i in range(5)]
    rows = list(at_every_place({"id": "q", "documents": documents}, 4))
    assert [row["place"] for row in rows] == [0, 1, 2, 3]
    assert [[d["text"] for d in row["documents"]].index("2") for row in rows] == [0, 1, 2, 3]
    assert all(len(row["documents"]) == 4 for row in rows)
    with pytest.raises(ValueError, match="no gold document"):
        list(at_every_place({"id": "q", "documents": documents[:2]}, 4))
