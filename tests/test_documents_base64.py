"""Long runs of base64 are left out, and nothing that only looks like them."""

import base64
import json
import random
import time

import pytest

from blockrag.documents import load

BYTES = random.Random(0).randbytes(6_000)
RUN = base64.b64encode(BYTES).decode()


@pytest.mark.parametrize(
    "name, data, text",
    [
        ("a.txt", f"before {RUN} after", "before [base64, 8,000 characters] after"),
        ("a.md", f"![x](data:image/png;base64,{RUN})", "![x](data:image/png;base64,[base64, 8,022 characters])"),
        ("a.json", json.dumps({"a": RUN, "b": "text"}), '{"a": "[base64, 8,000 characters]", "b": "text"}'),
        ("a.txt", "KEY\n" + base64.encodebytes(BYTES).decode() + "END\n", None),
    ],
)
def test_long_runs_are_left_out_and_told(name, data, text):
    document = load(data.encode(), name)
    assert RUN[100:160] not in document.text
    assert text is None or document.text == text
    assert any(note.startswith("Base64 was left out: 1 run, ") for note in document.notes)


@pytest.mark.parametrize(
    "text",
    [
        "abcdefghij" * 1000,
        "ACGT" * 500,
        "deadbeef0123" * 100,
        RUN[:300],
        "x" * 5_000,
        "word " * 1000,
        "/usr/lib/" * 200,
    ],
)
def test_what_is_no_base64_stays(text):
    document = load(text.encode(), "a.txt")
    assert document.text == text and document.notes == ()


@pytest.mark.parametrize("text", ["A1b" * 2_000_000, ("A1b" * 170 + " ") * 10_000, ("A1" * 35 + "\n") * 80_000])
def test_it_takes_linear_time(text):
    begun = time.perf_counter()
    load(text.encode(), "a.txt")
    assert time.perf_counter() - begun < 10
