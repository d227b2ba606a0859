"""Where `Structural` cuts documents of known structure, and where it must not."""

import pytest

from blockrag.segment import SizeBounds, Structural
from tests.segmenting import TEXT, segment, texts


def scores(text: str) -> dict[int, float]:
    scored = Structural().boundaries(text)
    return dict(zip(scored.chars.tolist(), scored.scores.tolist(), strict=True))


def score_of(text: str, beginning: str) -> float:
    """Score of the candidate where `beginning` stands."""
    return scores(text)[text.index(beginning)]


def strongest(text: str, n: int) -> list[str]:
    """Lines at which the `n` best candidates stand, in the order of the text."""
    found = scores(text)
    best = sorted(sorted(found, key=lambda char: -found[char])[:n])
    return [text[char:].splitlines()[0] for char in best]


def test_markdown_is_cut_at_its_headings_deeper_ones_later():
    assert strongest(TEXT, 2) == ["## Spring tides", "## Neap tides"]
    assert score_of(TEXT, "## Spring") > score_of(TEXT, "1. New moon") > score_of(TEXT, "Sailors have")


@pytest.mark.parametrize(
    "heading",
    [
        "## Currents", "Currents\n--------", "--------\nCurrents\n--------", "= = Currents = =", "ARTICLE IV CURRENTS",
        "CURRENTS AND WINDS", "Currents and winds", "Section 4. Currents",
    ],
)  # fmt: skip
def test_a_heading_is_never_cut_off_from_its_text(heading):
    body = "Water that moves along the coast for ever is a current. It is fast."
    text = f"Before it stands a paragraph of one line. And more.\n\n{heading}\n\n{body}\n"
    found = scores(text)
    start, after = text.index(heading), text.index(body)
    assert found[start] == max(found.values()) > 0.5
    assert all(score == 0 for char, score in found.items() if start < char <= after)


def test_headings_right_below_a_heading_stay_with_it():
    text = "Intro.\n\n# One\n\n## One A\n\nText of one. More.\n\n## One B\n\nText.\n\n# Two\n"
    assert score_of(text, "## One A") == 0
    assert score_of(text, "# One") == score_of(text, "# Two") > score_of(text, "## One B") > 0.5


def test_chat_is_cut_at_turns_not_inside_them():
    text = "Ann: hi there. How are you?\nBen: fine. And you?\nAnn: well.\n[12:03] cy: who\nis this?\n"
    found = scores(text)
    turns = [text.index(turn) for turn in ("Ben:", "Ann: well", "[12:03]")]
    assert min(found[turn] for turn in turns) > max(score for char, score in found.items() if char not in turns)


def test_mail_is_cut_before_each_header_not_inside_it():
    text = "From: a\nTo: b\nSubject: tides\n\nHigh water at nine.\n\nFrom: b\nTo: a\nSubject: Re: tides\n\nThanks!\n"
    assert strongest(text, 1) == ["From: b"]
    assert score_of(text, "To: b") == score_of(text, "Subject: Re") == 0


PYTHON = '''"""Tables of tides."""

import math
from dataclasses import dataclass


# Heights are in metres.
# Times are in hours.
@dataclass
class Tide:
    """One tide. It has a height."""

    height: float

    def rises(self) -> bool:
        return self.height > 0

    @property
    def range(self) -> float:
        return 2 * self.height


def high_water(day: int) -> float:
    return math.cos(day / 14)
'''


def test_code_is_cut_at_definitions_with_their_comments_and_decorators():
    assert strongest(PYTHON, 2) == ["# Heights are in metres.", "def high_water(day: int) -> float:"]
    assert score_of(PYTHON, "class Tide") == 0 and score_of(PYTHON, "@dataclass") < 0.2
    methods = [score_of(PYTHON, "def rises"), score_of(PYTHON, "@property")]
    assert min(methods) > score_of(PYTHON, "height: float")
    assert max(methods) < score_of(PYTHON, "def high_water")


@pytest.mark.parametrize(
    "code, definition",
    [
        ("int a;\nint b;\n\n/* Adds.\n   Both. */\nstatic int add(int a, int b)\n{\n  return a + b;\n}\n", "/* Adds."),
        ("use std;\n\n/// Adds.\n#[inline]\npub fn add(a: i32) -> i32 {\n    a + 1;\n}\n", "/// Adds."),
        ("package main;\n\n// Add adds.\nfunc Add(a int) int {\n\treturn a;\n}\n", "// Add adds."),
        ("import x;\n\nexport const add = (a) => {\n  return a;\n};\n", "export const"),
    ],
)
def test_other_languages(code, definition):
    assert strongest(code, 1)[0].startswith(definition)


def test_a_contract_is_cut_at_articles_then_clauses():
    text = (
        "This agreement is made by the harbour and the ferry company today.\n\n"
        "ARTICLE I\nBERTHS\n\n1.1 The harbour keeps a berth free. It is marked.\n\n1.2 The ferry pays for it.\n\n"
        "ARTICLE II\nTERM\n\n2.1 The term is one year. It may be renewed.\n\n2.2 Either party may end it.\n"
    )
    assert strongest(text, 2) == ["ARTICLE I", "ARTICLE II"]
    assert score_of(text, "BERTHS") == 0
    assert score_of(text, "1.2 The") > score_of(text, "It is marked")


def test_numbers_of_any_depth_keep_scores_in_range():
    text = "Intro.\n" + "".join(f"{'.'.join('1' * n)} Clause of depth {n}.\n" for n in range(1, 40))
    found = Structural().boundaries(text)
    assert len(found.chars) == 39 and found.scores.min() > 0


def test_fenced_code_and_tables_hold_together():
    text = "Look.\n\n```\n# not a heading\n\ndef f(): pass\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nEnd of it.\n"
    paragraph = score_of(text, "End of it")
    for inside in ("# not", "def f", "|---", "| 1"):
        assert score_of(text, inside) < paragraph / 4


def test_comments_in_indented_examples_are_no_headings():
    text = "Run this::\n\n    # make room\n    $ df\n\nThen look at what it says about the disk.\n"
    assert score_of(text, "# make room") < score_of(text, "Then look")


def test_a_page_break_inside_a_sentence_is_weak():
    text = "The tide rises and\fthe water comes.\fA new page begins. It has a sentence."
    assert score_of(text, "A new page") > 0.6 > 0.3 > score_of(text, "the water")


def test_coarse_blocks_of_a_document_begin_at_headings():
    parts = texts(segment(TEXT, bounds=SizeBounds(16, 512)), 0.3)
    assert [part.splitlines()[0] for part in parts] == ["# Tides", "## Spring tides", "## Neap tides"]
