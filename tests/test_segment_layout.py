"""Where formats let blocks begin: never behind a heading, not inside fences, at records only; and forced cuts."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.documents import Document, load, media
from blockrag.segment import SEGMENTERS, Segmentation, SizeBounds, find_candidates, make_segmenter
from blockrag.segment.forced import forced_cuts
from blockrag.segment.layout import read_layout
from blockrag.segment.markup import find_markup
from blockrag.segment.records import record_starts
from tests.document_files import FIELD
from tests.segmenting import bpe_counter, embed

SMALL = SizeBounds(8, 64)
GRANULARITIES = (0.0, 0.3, 0.6, 1.0)
every_segmenter = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "neural" else []) for name in SEGMENTERS]
)


def cut(document: Document, name: str = "structural", bounds: SizeBounds = SMALL) -> Segmentation:
    segmenter = make_segmenter(name, counter=bpe_counter(), embed=embed)
    return Segmentation.create(document, segmenter, bpe_counter(), bounds)


def starts(segmentation: Segmentation, granularity: float) -> list[int]:
    return [block.start for block in segmentation.blocks(granularity)]


def headings(document: Document) -> list[str]:
    found, _ = find_markup(document.text, document.media_type)
    return [document.text[heading.start : heading.end] for heading in found]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("c08_nested_fence.md", ["# Guide", "## Real section", "## Last section"]),
        ("c36_paper.tex", ["\\section{Tides}", "\\subsection{Locks}", "\\section{Fees}"]),
        ("c36_notes.org", ["* Tides", "** High", "* Fees"] * 4),
        ("c37_long.adoc", ["== Channel 0", "=== Depths 0", "== Channel 1"]),
        ("c37_long.rst", ["Channel 0\n=========", "Depths 0\n--------", "Channel 1\n========="]),
        ("c37_long.tex", ["\\section{Channel 0}\n\\label{s0}", "\\subsection{Depths 0}"]),
        ("c36_conf.yaml", []),
    ],
)
def test_headings_of_every_markup_are_found(name, expected):
    assert headings(load(FIELD / name))[: len(expected)] == expected


@pytest.mark.parametrize("name", ["c36_paper.tex", "c36_notes.org", "c37_long.adoc", "c37_long.rst", "c37_long.tex"])
def test_headings_are_the_best_boundaries(name):
    document = load(FIELD / name)
    found, _ = find_markup(document.text, document.media_type)
    scored = make_segmenter("structural", counter=bpe_counter()).boundaries(
        document.text, media_type=document.media_type
    )
    at = dict(zip(scored.chars.tolist(), scored.scores.tolist(), strict=True))
    scores = [at[heading.start] for heading in found if heading.start in at]
    assert min(scores) >= 0.7 > max(score for char, score in at.items() if char not in {h.start for h in found})


@every_segmenter
@pytest.mark.parametrize(
    "file",
    ["c36_paper.tex", "c36_notes.org", "c37_long.adoc", "c37_long.rst", "c37_long.tex", "c08b_nested_fence_long.md"],
)
def test_no_heading_of_the_field_ends_a_block(name, file):
    segmentation = cut(load(FIELD / file), name, SizeBounds(8, 256))
    for granularity in GRANULARITIES:
        assert ends_in_heading(segmentation, granularity) == []


SECTIONS = st.lists(
    st.sampled_from(
        ["# One\n\n", "## Two\n", "### Three\n\n\n", "Title\n=====\n\n", "Text of a few words. And more of them.\n\n",
         "A line\nand another\n", "```\n# no\n\ncode()\n```\n\n", "- item one\n- item two\n", "word " * 60 + "\n\n",
         "~~~~\n```\n# no\n~~~~\n"]
    ),
    min_size=1, max_size=14,
)  # fmt: skip


def ends_in_heading(segmentation: Segmentation, granularity: float) -> list[str]:
    """Blocks but the last whose last line is a heading."""
    text = segmentation.document.text
    found, _ = find_markup(text, segmentation.document.media_type)
    blocks = segmentation.blocks(granularity)[:-1]
    ends = [len(text[: block.end].rstrip()) for block in blocks]
    return [text[h.start : h.end] for h in found for end in ends if h.start < end <= h.end]


@every_segmenter
@given(parts=SECTIONS, bounds=st.sampled_from([SizeBounds(1, 32), SizeBounds(4, 64), SizeBounds(32, 512)]))
@settings(deadline=None, max_examples=15)
def test_no_heading_is_the_last_line_of_its_block(name, parts, bounds):
    document = Document("a.md", media.MARKDOWN, "".join(parts))
    segmentation = cut(document, name, bounds)
    coarser: set[int] = set()
    for granularity in GRANULARITIES:
        blocks = segmentation.blocks(granularity)
        assert "".join(document.text[b.start : b.end] for b in blocks) == document.text
        assert coarser <= (coarser := {b.start for b in blocks})
        assert all(b.n_tokens <= bounds.maximum for b in blocks)
        headings_only = all(part.startswith(("#", "Title")) for part in parts)
        assert headings_only or not ends_in_heading(segmentation, granularity) or _has_chain(parts, bounds)


PROSE = ["Text of a few words. And more of them.\n\n", "word " * 40 + "\n\n", "One line.\nAnother one.\n\n"]
MARKUPS = {
    media.MARKDOWN: (["# A\n", "> # Quoted\n\n", "a\nUnder\n=====\n\n", "## B ##\n"],
                     ["<!--\n# no\n-->\n\n", "<pre>\n# no\n</pre>\n\n"]),
    media.TEX: (["\\section{A}\n", "\\subsection*{B}\n\\label{b}\n\n"], ["\\begin{verbatim}\n\\section{no}\n\\end{verbatim}\n\n"]),
    media.RST: (["=====\nTitle\n=====\n\n", "Head\n----\n\n"], [".. code-block:: c\n\n   No\n   --\n\n"]),
    media.ORG: (["* A :tag:\n:PROPERTIES:\n:ID: x\n:END:\n", "** TODO B\n"], ["#+begin_src c\n* no\n#+end_src\n\n"]),
    media.ASCIIDOC: (["== A\n\n", "=== B\n", "Under\n-----\n\n"], ["----\n== no\n----\n\n"]),
}  # fmt: skip


@every_segmenter
@given(
    data=st.data(), kind=st.sampled_from([*MARKUPS]), bounds=st.sampled_from([SizeBounds(4, 64), SizeBounds(32, 512)])
)
@settings(deadline=None, max_examples=25)
def test_no_heading_of_any_markup_is_the_last_line_of_its_block(name, data, kind, bounds):
    heads, others = MARKUPS[kind]
    parts = st.tuples(st.sampled_from(heads), st.lists(st.sampled_from([*PROSE, *others]), min_size=1, max_size=4))
    sections = data.draw(st.lists(parts, min_size=1, max_size=5))
    front = "---\ntitle: T\n# no\n---\n\n" if kind == media.MARKDOWN else ""
    text = front + "".join(head + "".join(rest) for head, rest in sections)
    segmentation = cut(Document("a", kind, text), name, bounds)
    assert all("no" not in found.split() for found in headings(segmentation.document)[1:])
    for granularity in GRANULARITIES:
        assert ends_in_heading(segmentation, granularity) == []


def _has_chain(parts: list[str], bounds: SizeBounds) -> bool:
    """Whether headings stand side by side for longer than the maximum, so that they must be cut apart."""
    run = longest = 0
    for part in parts:
        run = run + len(part) if part.startswith(("#", "Title")) else 0
        longest = max(longest, run)
    return longest > bounds.maximum // 2


@pytest.mark.parametrize("name", ["c08_nested_fence.md", "c08b_nested_fence_long.md"])
def test_no_boundary_inside_a_fence_that_holds_another(name):
    document = load(FIELD / name)
    begin, end = document.text.index("````markdown"), document.text.index("## Real section")
    for segmenter in ("structural", "fixed", "similarity"):
        for granularity in GRANULARITIES:
            inside = [c for c in starts(cut(document, segmenter, SizeBounds(8, 512)), granularity) if begin < c < end]
            assert not inside, (segmenter, granularity)


@pytest.mark.parametrize(
    "text, units",
    [
        ("````\n```\na\n```\n````\nb", ["````\n```\na\n```\n````"]),
        ("```\na\n~~~\nb\n```\nc", ["```\na\n~~~\nb\n```"]),
        ("```py\na\n````\nc", ["```py\na\n````"]),
        ("``` a`b ```\nc", []),
        ("~~~ a`b\nc\n~~~", ["~~~ a`b\nc\n~~~"]),
        ("```\nnever closed\n# comment\n", ["```\nnever closed\n# comment\n"]),
        ("- ```\n  in a list\n\n# Head\n", []),
        ("```\na\n``` b\n```\n", ["```\na\n``` b\n```"]),
    ],
)
def test_fences_are_those_of_commonmark(text, units):
    _, found = find_markup(text, media.MARKDOWN)
    assert [text[start:end] for start, end in found] == units


def test_comments_in_a_fence_that_is_never_closed_are_no_headings():
    text = "# Head\n\nText.\n\n```sh\n# comment\nmake\n\n## comment\n"
    headings, _ = find_markup(text, media.MARKDOWN)
    assert [text[heading.start : heading.end] for heading in headings] == ["# Head"]
    headings, units = find_markup(text, media.JSON)  # a turn of a chat may leave it open
    assert len(headings) == 3 and not units


@pytest.mark.parametrize(
    "text", ["# a\n" * 60_000, "```\n" * 60_001, "\\begin{verbatim}\n" * 50_000, "a\n=\n" * 50_000]
)
@pytest.mark.parametrize("kind", [media.MARKDOWN, media.TEX, media.RST, media.TEXT])
def test_hostile_markup_takes_linear_time(text, kind):
    begun = time.process_time()
    read_layout(text, kind)
    assert time.process_time() - begun < 5


# Records


@every_segmenter
@pytest.mark.parametrize(
    "file", ["c16_multiline.csv", "c25a.srt", "c25b.vtt", "c35_records.jsonl", "c36_log.log", "c11_whatsapp.txt"]
)
def test_blocks_of_the_field_begin_at_records(name, file):
    document = load(FIELD / file)
    records = {0, *record_starts(document.text, document.media_type).tolist()}
    assert len(records) > 10
    for granularity in GRANULARITIES:
        found = starts(cut(document, name, SizeBounds(8, 512)), granularity)
        assert set(found) <= records
        assert len(found) > 1 or granularity < 1


def test_rows_with_line_breaks_are_one_record():
    text = load(FIELD / "c16_multiline.csv").text
    found = [text[char:].split(",")[0] for char in record_starts(text, media.CSV).tolist()]
    assert found[:5] == ["id", "1", "2", "3", "4"] and found[1:] == [str(i + 1) for i in range(len(found) - 1)]


@pytest.mark.parametrize(
    "text, kind, expected",
    [
        ('a;b\n1;"x\ny"\n\n2;z\n', media.CSV, ["a", "1", "2"]),
        ('a\tb\n1\t5" pipe\n2\tz\n', media.TSV, ["a", "1", "2"]),
        ("just words\nand more\n", media.CSV, None),
        ('{"a": 1}\n{"a": 2}\n', media.JSONL, ["{", "{"]),
        ("Ida: hello\n\nPer: yes\n", media.JSONL, None),
        ("# c\na:\n  b: |\n    x. Y.\n\n    # no\n  c: 1\n", media.CONFIG, ["#", "a", "b", "c"]),
        ("2024-03-01 10:00 a\nTrace\n2024-03-01 10:01 b\n2024-03-01 10:02 c\n", media.LOG, ["2", "2", "2"]),
        ("Mar  1 10:00:00 host a\nMar  1 10:00:01 host b\nMar 12 10:00:02 host c\n", media.LOG, ["M", "M", "M"]),
        ("No times here.\nNone at all.\n", media.LOG, None),
        ('1.2.3.4 - - [01/Mar/2024:10:00:03 +0000] "GET /"\n' * 3, media.LOG, ["1", "1", "1"]),
        ("<13>1 2024-03-01T10:00:02Z h a - - - m\n" * 3, media.LOG, ["<", "<", "<"]),
        ("INFO  2024-03-01 10:00:02 a\n  at b\n" * 3, media.LOG, ["I", "I", "I"]),
        ("I0301 10:00:02.123456 1234 file.cc:12] a\n" * 3, media.LOG, ["I", "I", "I"]),
        ('{"ts": 1}\n' * 3, media.LOG, ["{", "{", "{"]),
        ('a = """\nx\n[no]\n"""\nb = 1\n', media.CONFIG, ["a", "b"]),
        ("a:\n- |\n  - no\n  text\nb: 2\n", media.CONFIG, ["a", "-", "b"]),
        ("a = 1 \\\n  2 \\\n  3\nb = 4\n", media.CONFIG, ["a", "b"]),
    ],
)
def test_records(text, kind, expected):
    found = record_starts(text, kind)
    assert (None if found is None else [text[char] for char in found.tolist()]) == expected


@given(
    st.text(alphabet='ab,;"\n\t ', max_size=80),
    st.sampled_from([media.CSV, media.TSV, media.JSONL, media.LOG, media.CONFIG]),
)
@settings(deadline=None, max_examples=200)
def test_record_starts_increase_and_are_visible(text, kind):
    found = record_starts(text, kind)
    if found is not None:
        assert np.all(np.diff(found) > 0)
        assert all(not text[char].isspace() for char in found.tolist())


# Forced cuts


@pytest.mark.parametrize(
    "text, before",
    [
        ("alpha beta; " + "gamma " * 8, "gamma"),
        ("one two three four；" + "五六七八九十" * 4, "五"),
        ("一二三四五六七、八九十一二三四五", "八"),
        ('{"a":1},' + '{"b":2}', "{"),
        ("the parties agree on (a) the price and the", "(a)"),
        ("tide and moon tide and moon", "tide and moon"),
        ("བོད་ཡིག་ཡིན་ནོ་བོད་ཡིག", "ནོ"),
        ("「行く」と彼は言った「来る」と", "と"),
    ],
)
def test_a_forced_cut_prefers_clauses_then_words(text, before):
    middle = len(text) // 2
    assert text[next(forced_cuts(text, 0, len(text), middle)) :].startswith(before)


def test_a_long_sentence_is_cut_at_its_semicolons():
    clause = "the warden keeps a list of all vessels that pass under the bridge at night; "
    document = Document("a.txt", media.TEXT, clause * 30)
    for start in starts(cut(document, bounds=SizeBounds(8, 64)), 0.0)[1:]:
        assert document.text[:start].endswith("; ")


def test_a_quotation_in_japanese_is_not_parted_from_its_verb():
    text = "「もう行く。」と彼は言った。次の文です。"
    assert [text[char:] for char in find_candidates(text).tolist()] == ["」と彼は言った。次の文です。", "次の文です。"][
        -1:
    ]
