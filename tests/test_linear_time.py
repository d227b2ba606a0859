"""The time for a text grows with its length, whatever the text: 160,000 regional indicators once took 44 s."""

import gc
import time
from collections.abc import Callable

import pytest

from blockrag.cite import cite
from blockrag.documents import Document, Limits, media, worker
from blockrag.documents.base64_runs import without_base64
from blockrag.documents.document import Content
from blockrag.documents.text import decode_content
from blockrag.errors import BlockRAGError
from blockrag.events import Source
from blockrag.segment import HFTokenCounter, Segmentation, SizeBounds, Structural
from blockrag.segment.layout import read_layout
from tests.tiny import tiny_tokenizer

pytestmark = pytest.mark.slow

N_CHARS, TIMES = 4_000, 4
MOST_RATIO, NOISE_S = 2 * TIMES, 0.1

UNITS = {
    "regional indicators": "\U0001f1e9", "combining marks": "e\u0301", "marks alone": "\u0301", "joiners": "\U0001f468\u200d",
    "jamo": "\u1100", "bidirectional marks": "\u202e", "spaces": " ", "blank lines": "\n", "blank lines of Windows": "\r\n",
    "lines of spaces": "  \n", "stops": ". ", "stops and quotes": '."', "initials": "a. ", "numbers": "1.1.1.",
    "brackets": "[", "parentheses": "a a(", "less than": "<", "tags": "<p", "hashes": "# ", "stars": "**a", "backticks": "`",
    "open fences": "```\n", "tildes": "~", "pipes": "|", "quoted lines": "> ", "base64": "aB3+", "data URIs": "data:a/b;",
    "setext": "a\n=\n", "LaTeX": "\\begin{figure}\n", "org blocks": "#+begin_a\n", "drawers": "* a\n:PROPERTIES:\n:a: b\n",
    "AsciiDoc blocks": "----\n", "directives": ".. code::\n\n", "JSON": '{"a":[', "quotation marks": '"', "cues": "00:00 --> ",
    "voices": "<v a>", "entities": "&amp", "names": "Ann: hi\n", "stamps": "2024-01-01 10:00:00 a\n", "refusals": "documents is not ",
}  # fmt: skip


def tree(text: str) -> None:
    document = Document("a.txt", media.TEXT, text)
    Segmentation.create(document, Structural(), HFTokenCounter(tiny_tokenizer()), SizeBounds()).blocks(0.5)


def layouts(text: str) -> None:
    for kind in (media.MARKDOWN, media.RST, media.ASCIIDOC, media.ORG, media.TEX, media.CSV, media.JSONL, media.SRT,
                 media.LOG, media.CONFIG):  # fmt: skip
        read_layout(text, kind)


def citing(text: str) -> None:
    cite(f"{text} A river is long. ", [Source(1, "d", "i", 0, len(text), text, 0.5, 7, source="s")])


def reading(text: str) -> None:
    for kind in (
        media.JSON,
        media.JSONL,
        media.CSV,
        media.SRT,
        media.HTML,
        media.EML,
        media.MBOX,
        media.RTF,
        media.NOTEBOOK,
    ):
        worker._answer(kind, "f", text.encode(), Limits())


STAGES: dict[str, Callable[[str], object]] = {
    "tree": tree,
    "layouts": layouts,
    "citing": citing,
    "reading": reading,
    "decoding": lambda text: decode_content("f", text.encode()),
    "base64": lambda text: without_base64(Content(text)),
}


def seconds(stage: Callable[[str], object], text: str) -> float:
    started = time.process_time()
    try:
        stage(text)
    except BlockRAGError:  # a refusal is an answer, if it comes in time
        pass
    return time.process_time() - started


@pytest.mark.parametrize("name", UNITS)
def test_time_grows_with_length(name):
    def text(n: int) -> str:
        return (UNITS[name] * (n // len(UNITS[name]) + 1))[:n] + "x"

    gc.collect()
    gc.disable()
    try:
        for stage, run in STAGES.items():
            for _ in range(3):  # a busy machine may disturb one
                short, long = (seconds(run, text(n)) for n in (N_CHARS, TIMES * N_CHARS))
                if long < MOST_RATIO * short + NOISE_S:
                    break
            else:
                pytest.fail(
                    f"{stage}: {short:.3f} s for {N_CHARS:,} characters, {long:.3f} s for {TIMES} times as many"
                )
    finally:
        gc.enable()


def test_many_openers_of_blocks_that_end_far_away_take_little_time():
    """Each opener searched the whole text for its own end."""
    for opener in ("\\begin{{figure}}\n", "#+begin_{:x}\n", "```a{}\n"):
        text = "".join(opener.format(i) for i in range(20_000)) + "\\end{figure}\n"
        assert seconds(layouts, text) < 5, opener
