"""Public sets in their authors' formats, and errors counted by their place in the layout."""

import argparse
import json

import numpy as np
import pytest

from blockrag.segment import find_candidates
from training.evaluate import errors, public
from training.evaluate.segmenters import TextTilingSplitter

CHOI = "==========\nOne a .\nTwo a .\n==========\nThree b .\n==========\n"
WIKI = "========,1,preface.\nOne.\n========,2,History.\nTwo.\n========,3,Early.\nThree.\n"
TURNS = "call_id_0\n0 Hello?\n0 Yes.\n1 A train, please.\n\ncall_id_1\n0 Bye.\n"
BOOK = "# Title\n\nFirst.\n\n<!--\n## Not this\n-->\n\n## Second\n\nMore.\n\n```\n## code\n```\n\n### Third\n\nLast.\n"


def blocks(row):
    edges = [b["char"] for b in row["boundaries"]] + [len(row["text"])]
    return [row["text"][a:b].split() for a, b in zip(edges, edges[1:], strict=False)]


@pytest.mark.parametrize(
    ("kind", "name", "content", "wanted", "levels"),
    [
        ("sections", "a.ref", CHOI, [["One", "a", ".", "Two", "a", "."], ["Three", "b", "."]], [1, 1]),
        ("sections", "a.ref", WIKI, [["One."], ["Two."], ["Three."]], [1, 2, 3]),
        ("turns", "a.txt", TURNS, [["Hello?", "Yes."], ["A", "train,", "please."]], [1, 1]),
        ("markdown", "a.md", BOOK, [["First."], ["More.", "```", "##", "code", "```"], ["Last."]], [1, 1, 2]),
    ],
)
def test_sections_are_read_without_their_titles(tmp_path, kind, name, content, wanted, levels):
    (tmp_path / name).write_text(content, encoding="utf-8")
    path = tmp_path / name if kind == "turns" else tmp_path
    (row,) = public.read_set(f"set={kind}:{path}")
    assert blocks(row) == wanted and [b["level"] for b in row["boundaries"]] == levels


def test_what_is_no_set_is_refused(tmp_path):
    for name in ("choi", "choi=pages:a", f"choi=sections:{tmp_path}"):
        with pytest.raises(ValueError):
            list(public.read_set(name))


def test_every_set_and_segmenter_has_a_row(tmp_path, monkeypatch):
    class Halves:
        def default(self, text):
            return find_candidates(text)[1:2]

        def best(self, text, n):
            return find_candidates(text)[:n]

    monkeypatch.setattr("training.evaluate.segmentation.make_splitters", lambda names, *_: {n: Halves() for n in names})
    (tmp_path / "a.ref").write_text(CHOI)
    (tmp_path / "b.ref").write_text(CHOI.replace("One", "Other"))
    args = argparse.Namespace(
        sets=[f"choi=sections:{tmp_path}"], segmenters="x,y", neural=None, limit=1, max_chars=0, device="cpu"
    )
    result = public.run(args)
    assert result["n_documents"] == 1 and result["sets"] == ["choi=sections"]
    lines = public.table(json.loads(json.dumps(result))).splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| choi", "x"], ["| choi", "y"]]
    assert "0.000" in lines[2] and "1.000" in lines[2]  # the first candidate is wrong, the second right


def test_a_text_too_short_for_texttiling_has_no_boundary():
    assert not len(TextTilingSplitter().default("A short one.\n\nAnd another.\n"))


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ("A.\n", "Project Manager: Okay.", "turn"),
        ("A.\n", "**Jerod Santo:** Guys", "turn"),
        ("A.\n\n", "2.1. Term", "number"),
        ("A.\n\n", "ARTICLE IV", "number"),
        ("A.\n", "- milk", "list"),
        ("A.\n\n", "Then it rained.", "paragraph"),
        ("A.\n", "Then it rained.", "line"),
        ("A. ", "1. It rained.", "sentence"),
    ],
)
def test_the_place_of_a_boundary(before, after, wanted):
    assert errors.place(before + after, len(before)) == wanted


def test_errors_are_counted_by_place(tmp_path, monkeypatch):
    class First:
        def score(self, text, chars):
            return np.linspace(0.6, 0.5, len(chars))

    text = "One.\n\nTwo.\n\nAnn: Three.\n\nFour.\n"
    row = {"id": "1", "category": "talk", "source": "s", "licence": "x", "split": "dev", "text": text, "headings": []}
    row["boundaries"] = [{"char": 0, "level": 1}, {"char": text.index("Ann"), "level": 2}]
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.setattr(errors, "Neural", First)
    args = argparse.Namespace(data=[tmp_path / "a.jsonl"], neural=None, split="dev", limit=0, max_chars=0)
    result = errors.run(args)
    cells = {row["place"]: (row["gold"], row["right"], row["wrong"]) for row in result["rows"]}
    assert cells == {"turn": (1, 0, 0), "paragraph": (0, 0, 1)}
    assert result["f1"]["talk"]["as it is"] == 0 and result["f1"]["talk"]["turn +0.3"] == 1
    assert "| talk | 1 | 0.000 | turn +0.1 | 1.000 |" in errors.table(result)
