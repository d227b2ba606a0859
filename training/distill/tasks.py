"""Questions built from a text itself, with answers that stand in it. Knows texts and chance, no tokens and no network.

Each task takes the blocks' texts and a source of chance, and gives a question with its answer, or None where the text
does not lend itself. Nothing is written by hand and no model is asked: the answer is always a span of the blocks, or
`UNSAID`. The same seed gives the same questions.

- `go_on`: some words of a block; what follows them.
- `find_section`: a sentence; the heading of the section that it stands in.
- `who_said`: the beginning of a turn of a conversation; the name before it.
- `fill_gap`: a sentence without a name, number or long word that stands nowhere else in the blocks; that span.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

UNSAID = "The documents do not say."
"""The answer where they do not."""

LEAST_WORDS = 6

_TURN = re.compile(r"^\W{0,4}([A-Z][\w.' -]{0,40}?)\W{0,4}: +(\S.{30,})$", re.M)
_SENTENCE = re.compile(r"[^\s.!?][^.!?\n]{40,260}[.!?](?=\s|$)")
_HEADING_MARKS = " \t#=*-_~.:"
_RARE = re.compile(r"\b(?:\d[\d.,]*\d|[A-Z][\w'-]+(?: [A-Z][\w'-]+)+|[A-Za-z][a-z-]{8,})\b")


@dataclass(frozen=True)
class Passage:
    """A block's text and, where it begins with one, its heading."""

    text: str
    heading: str = ""


@dataclass(frozen=True)
class Asked:
    """A question, its answer, and the task that made it; an answer that is not `complete` was cut off."""

    question: str
    answer: str
    task: str
    complete: bool = True


Task = Callable[[Sequence[Passage], random.Random], Asked | None]


def go_on(passages: Sequence[Passage], draw: random.Random) -> Asked | None:
    """What follows some words."""
    text = draw.choice(passages).text
    words = list(re.finditer(r"\S+", text))
    n_quoted, n_asked = draw.randint(6, 12), draw.randint(10, 28)
    if len(words) < n_quoted + n_asked:
        return None
    first = draw.randint(0, len(words) - n_quoted - n_asked)
    last = first + n_quoted
    quoted = text[words[first].start() : words[last - 1].end()]
    if not _stands_once(quoted, passages):
        return None
    answer = text[words[last].start() : words[last + n_asked - 1].end()]
    return Asked(f'What follows after "{_on_one_line(quoted)}"?', answer, "go on")


def find_section(passages: Sequence[Passage], draw: random.Random) -> Asked | None:
    """The heading above a sentence."""
    headed = [passage for passage in passages if passage.heading.strip(_HEADING_MARKS)]
    if len({passage.heading for passage in headed}) < 2:
        return None
    passage = draw.choice(headed)
    sentence = _draw_sentence(passage.text.replace(passage.heading, "", 1), draw)
    if sentence is None or not _stands_once(sentence, passages):
        return None
    heading = passage.heading.strip(_HEADING_MARKS)
    return Asked(f'In which section is it said that "{_on_one_line(sentence)}"?', heading, "find the section")


def who_said(passages: Sequence[Passage], draw: random.Random) -> Asked | None:
    """The name before a turn."""
    turns = [turn for passage in passages for turn in _TURN.findall(passage.text)]
    if len({name for name, _ in turns}) < 2:
        return None
    name, said = draw.choice(turns)
    begun = " ".join(said.split()[: draw.randint(8, 20)])
    if len(begun.split()) < LEAST_WORDS or len({other for other, words in turns if words.startswith(begun)}) > 1:
        return None
    return Asked(f'Who said "{begun}"?', name.strip(), "who said it")


def fill_gap(passages: Sequence[Passage], draw: random.Random) -> Asked | None:
    """A span that stands nowhere else."""
    sentence = _draw_sentence(draw.choice(passages).text, draw)
    if sentence is None:
        return None
    spans = [found for found in _RARE.finditer(sentence, 1) if _stands_once(found.group(), passages)]
    if not spans:
        return None
    span = draw.choice(spans)
    gapped = f"{sentence[: span.start()]}____{sentence[span.end() :]}"
    return Asked(f'What stands in the gap: "{_on_one_line(gapped)}"?', span.group(), "fill the gap")


TASKS: tuple[Task, ...] = (fill_gap, fill_gap, who_said, find_section, go_on)
"""In the order in which chance takes them; what stands twice comes twice as often."""


def ask(passages: Sequence[Passage], draw: random.Random) -> Asked | None:
    """A question by a task that chance chooses; by another where the text does not lend itself."""
    tasks = list(TASKS)
    draw.shuffle(tasks)
    return next((asked for asked in (task(passages, draw) for task in tasks) if asked is not None), None)


def ask_unsaid(passages: Sequence[Passage], elsewhere: Sequence[Passage], draw: random.Random) -> Asked | None:
    """A question about another text, whose answer these blocks do not contain."""
    if not passages or not elsewhere:
        return None
    for task in (fill_gap, who_said):
        asked = task(elsewhere, draw)
        if asked and not any(asked.answer.casefold() in passage.text.casefold() for passage in passages):
            return Asked(asked.question, UNSAID, "unsaid")
    return None


def _draw_sentence(text: str, draw: random.Random) -> str | None:
    sentences = [found.group() for found in _SENTENCE.finditer(text)]
    sentences = [sentence for sentence in sentences if len(sentence.split()) >= LEAST_WORDS]
    return draw.choice(sentences) if sentences else None


def _stands_once(span: str, passages: Sequence[Passage]) -> bool:
    return sum(passage.text.count(span) for passage in passages) == 1


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
