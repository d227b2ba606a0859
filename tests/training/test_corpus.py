"""Rows: their schema, their files, and their text without headings."""

import json

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from training.corpus import check, read_rows, strip_headings

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


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match="lacks text"):
        check({name: value for name, value in ROW.items() if name != "text"})


def test_a_boundary_at_a_heading_moves_to_the_text_below_it():
    text, boundaries = strip_headings(ROW["text"], ROW["boundaries"], ROW["headings"])
    assert text == "\nFirst.\n\nSecond.\n"
    assert [(text[b["char"] :][:6], b["level"]) for b in boundaries[1:]] == [("Second", 2)]


def test_of_boundaries_that_meet_the_coarser_stays():
    text = "Aa.\n# H\n## G\nBb.\n"
    boundaries = [{"char": 0, "level": 1}, {"char": 4, "level": 2}, {"char": 8, "level": 3}]
    left, found = strip_headings(text, boundaries, [[4, 7], [8, 12]])
    assert left == "Aa.\nBb.\n"
    assert found == [{"char": 0, "level": 1}, {"char": 4, "level": 2}]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["# A b", "Text here.", "", "More\ntext"])), min_size=1))
def test_what_is_left_is_the_text_without_its_headings(parts):
    text, headings, boundaries = "", [], [{"char": 0, "level": 1}]
    for is_heading, body in parts:
        start = len(text)
        if body and start:
            boundaries.append({"char": start, "level": 2})
        if body and is_heading:
            headings.append([start, start + len(body)])
        text += body + "\n"
    left, found = strip_headings(text, boundaries, headings)
    assert left == "".join(body + "\n" for is_heading, body in parts if not (body and is_heading))
    chars = [boundary["char"] for boundary in found]
    assert chars == sorted(set(chars)) and all(0 <= char < len(left) for char in chars)
    assert all(not left[char].isspace() for char in chars if char)
