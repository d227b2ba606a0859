"""Where a block may begin: sentences and lines of many scripts, never inside a grapheme, in linear time."""

import time

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.segment import find_candidates
from blockrag.segment.candidates import is_grapheme_boundary
from tests.segmenting import PIECES, soup


def pieces(text: str) -> list[str]:
    edges = [0, *find_candidates(text).tolist(), len(text)]
    return [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]


@pytest.mark.parametrize(
    "expected",
    [
        ["One. ", "Two! ", "Three? ", "Four… ", "Five."],
        ["Dr. Ames met J. R. Ward, e.g. at noon. ", "He left."],
        ["See Fig. 3 and No. 5. ", "No. ", "It cost 3.14 euros at 2.5 per cent. ", "Jan. 5 came."],
        ['"Really?" he said. ', '"Yes." ', "She left (at last). ", "Then it rained.[12] ", "All slept."],
        ["She went to the U.S. in May. ", "Version 3. ", "Then more."],
        ["And so… it goes, approx. here. ", "Wow! ", "that is great"],
        ["A line\n", "another line\r\n\r\n", "a third\r", "a fourth\n  \t\n  ", "indented\f", "a page"],
        ["1. First point. ", "More of it.\n", "2. Second.\n  ", "a. Third.\n", "(iv) Fourth.\n", "## 3. Five"],
        ["今天很好。", "我们走吧！？」", "好的。 ", "是"],
        ["کیا؟ ", "ہاں۔ ", "नमस्ते। ", "कैसे"],
        ["Ann: hi. ", "How are you?\n", "Ben: fine"],
    ],
)
def test_expected_pieces(expected):
    assert pieces("".join(expected)) == expected


@pytest.mark.parametrize("text", ["", " ", "\n\n", "one", "  one  ", "one.", "。", "\n\n  one"])
def test_nothing_to_split(text):
    found = find_candidates(text)
    assert found.dtype == np.int64 and found.size == 0


@given(soup)
@settings(deadline=None, max_examples=150)
def test_candidates_are_increasing_visible_and_between_graphemes(text):
    found = find_candidates(text)
    assert np.all(np.diff(found) > 0) and np.all((found > 0) & (found < len(text)))
    starts = {match.start() for match in regex.finditer(r"\X", text)}
    for char in found.tolist():
        assert not text[char].isspace() and text[:char].strip()
        assert char in starts


@given(st.one_of(st.text(max_size=30), st.lists(st.sampled_from([*PIECES, "각", "ᄒ", "\u0600", "क्"])).map("".join)))
@settings(deadline=None, max_examples=300)
def test_grapheme_boundaries_are_those_of_unicode(text):
    starts = {match.start() for match in regex.finditer(r"\X", text)}
    for char in range(1, len(text)):
        assert is_grapheme_boundary(text, char) == (char in starts), (text[char - 1], text[char])


def test_ordinary_characters_are_boundaries():
    text = "abc של 今天 👩👩🇩🇪🇫🇷 각각"
    inside_flags = {text.index("🇩") + 1, text.index("🇫") + 1}
    assert {i for i in range(1, len(text)) if not is_grapheme_boundary(text, i)} == inside_flags


@pytest.mark.parametrize(
    "hostile",
    ["." * 10**6, " " * 10**6, "\n" * 10**6, ("." + " " * 999) * 1000, ".)" * 500_000, "。" * 10**6, "a.b" * 10**5],
)
def test_hostile_text_takes_linear_time(hostile):
    begun = time.perf_counter()
    find_candidates("x" + hostile + "x")
    assert time.perf_counter() - begun < 5
