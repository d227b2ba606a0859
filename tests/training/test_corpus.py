"""Rows of documents: schema, files, text without headings."""

import json

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from training.corpus import check, read_rows
from training.headings import strip_headings

ROW = {
    "id": "a",
    "category": "news",
    "source": "s",
    "licence": "CC0-1.0",
    "split": "dev",
    "text": "# One\n\nFirst.\n\n## Two\nSecond.\n",
    "boundaries": [{"char": 0, "level": 1}, {"char": 15, "level": 2}],
    "headings": [[0, 5], [15, 21]],
}


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst"])
def test_rows_come_back_as_they_were_written(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    data = (json.dumps(ROW) + "\n").encode()
    path.write_bytes(zstandard.compress(data) if suffix.endswith("zst") else data)
    assert list(read_rows([path])) == [{"dataset": "rows", **ROW}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"boundaries": [{"char": 5, "level": 1}, {"char": 5, "level": 2}]}, "do not increase"),
        ({"boundaries": [{"char": 400, "level": 1}]}, "character 400"),
        ({"headings": [[0, 400]]}, "outside"),
    ],
)
def test_a_row_that_breaks_the_schema_says_which_and_why(tmp_path, change, reason):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW | change) + "\n")
    with pytest.raises(ValueError, match=rf"rows.jsonl, row 2 \(a\).*{reason}"):
        list(read_rows([path]))


def test_a_row_that_is_no_json_says_which(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n{half")
    with pytest.raises(ValueError, match=r"rows.jsonl, row 2: it is not JSON"):
        list(read_rows([path]))


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match="lacks text"):
        check({name: value for name, value in ROW.items() if name != "text"})


def test_a_boundary_at_a_heading_moves_to_the_text_below_it():
    text, boundaries = strip_headings(ROW["text"], ROW["boundaries"], ROW["headings"])
    assert text == "First.\n\nSecond.\n"
    assert [(text[b["char"] :][:6], b["level"]) for b in boundaries[1:]] == [("Second", 2)]


def test_of_boundaries_that_meet_the_coarser_stays():
    text = "Aa.\n# H\n## G\nBb.\n"
    boundaries = [{"char": 0, "level": 1}, {"char": 4, "level": 2}, {"char": 8, "level": 3}]
    left, found = strip_headings(text, boundaries, [[4, 7], [8, 12]])
    assert left == "Aa.\nBb.\n"
    assert found == [{"char": 0, "level": 1}, {"char": 4, "level": 2}]


@pytest.mark.parametrize(
    ("text", "heading", "expected"),
    [
        ("Aa.\n\nBb.\n\n\nHead\n====\n\nCc.\n", "Head\n====", "Aa.\n\nBb.\n\nCc.\n"),  # as other paragraphs are
        ("Aa.\n\n# H\n\nBb.\n", "# H", "Aa.\n\nBb.\n"),  # where there are no others
        ("Aa.\n\n# H\nBb.\nCc.\n", "# H", "Aa.\n\nBb.\nCc.\n"),
        ("Aa.\n\n# H\n\n  * Bb.\n", "# H", "Aa.\n\n  * Bb.\n"),  # indentation belongs to what follows
        ("Aa. Head: Bb.\n", "Head:", "Aa. Bb.\n"),  # inside a line
        ("Aa.\n\n# H\n", "# H", "Aa.\n"),
        ("# H", "# H", ""),
    ],
)
def test_no_gap_tells_where_a_heading_was(text, heading, expected):
    start = text.index(heading)
    assert strip_headings(text, [{"char": 0, "level": 1}], [[start, start + len(heading)]])[0] == expected


@given(
    st.lists(st.sampled_from(["p", "h"]), min_size=1, max_size=12),
    st.lists(st.integers(2, 4), min_size=12, max_size=12),
)
def test_sections_are_parted_as_paragraphs_are(kinds, gaps):
    text, headings, boundaries, n = "Aa0.\n\nAa1.", [], [{"char": 0, "level": 1}], 2
    for kind, gap in zip(kinds, gaps, strict=False):
        text += "\n" * (gap if kind == "h" else 2)
        start = len(text)
        if kind == "h":
            headings.append([start, start + 3])
            boundaries.append({"char": start, "level": 1})
            text += "# H\n\n"
        text += f"Aa{n}."
        n += 1
    left, found = strip_headings(text, boundaries, headings)
    assert left == "\n\n".join(f"Aa{i}." for i in range(n))
    wanted = [i + 2 for i, kind in enumerate(kinds) if kind == "h"]
    assert [left[b["char"] :].split(".")[0] for b in found[1:]] == [f"Aa{i}" for i in wanted]
