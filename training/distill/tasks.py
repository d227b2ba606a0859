"""Synthetic questions about a text, whose answers are spans of it.

A task takes the texts of blocks and a random generator, and returns a question with its answer, or None if the text is
unsuitable. No model is involved: the answer is a span of the blocks, or `NO_ANSWER`. The same seed gives the same
questions.

- `_continue_quote`: given some words of a block, which words follow?
- `_find_section`: given a sentence, which heading is above it?
- `_find_speaker`: given the beginning of a turn of a conversation, whose turn is it?
- `_fill_gap`: given a sentence with a gap, which name, number or long word (unique in the blocks) is missing?
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NO_ANSWER = "The documents do not say."
"""The answer to a question that the documents do not answer."""

MIN_WORDS = 6

_TURN = re.compile(r"^\W{0,4}([A-Z][\w.' -]{0,40}?)\W{0,4}: +(\S.{30,})$", re.M)
_SENTENCE = re.compile(r"[^\s.!?][^.!?\n]{40,260}[.!?](?=\s|$)")
_HEADING_MARKS = " \t#=*-_~.:"
_RARE = re.compile(r"\b(?:\d[\d.,]*\d|[A-Z][\w'-]+(?: [A-Z][\w'-]+)+|[A-Za-z][a-z-]{8,})\b")


@dataclass(frozen=True)
class Passage:
    """Text of a block, and the heading it begins with, if any."""

    text: str
    heading: str = ""


@dataclass(frozen=True)
class QAPair:
    """A question, its answer, and the task that made it. An answer that is not `complete` was truncated."""

    question: str
    answer: str
    task: str
    complete: bool = True


Task = Callable[[Sequence[Passage], random.Random], QAPair | None]


def _continue_quote(passages: Sequence[Passage], draw: random.Random) -> QAPair | None:
    """Ask which words follow a quotation."""
    text = draw.choice(passages).text
    words = list(re.finditer(r"\S+", text))
    n_quoted, n_asked = draw.randint(6, 12), draw.randint(10, 28)
    if len(words) < n_quoted + n_asked:
        return None
    first = draw.randint(0, len(words) - n_quoted - n_asked)
    last = first + n_quoted
    quoted = text[words[first].start() : words[last - 1].end()]
    if not _is_unique(quoted, passages):
        return None
    answer = text[words[last].start() : words[last + n_asked - 1].end()]
    return QAPair(f'What follows after "{_on_one_line(quoted)}"?', answer, "go on")


def _find_section(passages: Sequence[Passage], draw: random.Random) -> QAPair | None:
    """Ask for the heading above a sentence."""
    headed = [passage for passage in passages if passage.heading.strip(_HEADING_MARKS)]
    if len({passage.heading for passage in headed}) < 2:
        return None
    passage = draw.choice(headed)
    sentence = _draw_sentence(passage.text.replace(passage.heading, "", 1), draw)
    if sentence is None or not _is_unique(sentence, passages):
        return None
    heading = passage.heading.strip(_HEADING_MARKS)
    return QAPair(f'In which section is it said that "{_on_one_line(sentence)}"?', heading, "find the section")


def _find_speaker(passages: Sequence[Passage], draw: random.Random) -> QAPair | None:
    """Ask whose turn a quotation is."""
    turns = [turn for passage in passages for turn in _TURN.findall(passage.text)]
    if len({name for name, _ in turns}) < 2:
        return None
    name, text = draw.choice(turns)
    beginning = " ".join(text.split()[: draw.randint(8, 20)])
    if len(beginning.split()) < MIN_WORDS or len({other for other, words in turns if words.startswith(beginning)}) > 1:
        return None
    return QAPair(f'Who said "{beginning}"?', name.strip(), "who said it")


def _fill_gap(passages: Sequence[Passage], draw: random.Random) -> QAPair | None:
    """Ask for a span that occurs only once."""
    sentence = _draw_sentence(draw.choice(passages).text, draw)
    if sentence is None:
        return None
    spans = [found for found in _RARE.finditer(sentence, 1) if _is_unique(found.group(), passages)]
    if not spans:
        return None
    span = draw.choice(spans)
    gapped = f"{sentence[: span.start()]}____{sentence[span.end() :]}"
    return QAPair(f'What stands in the gap: "{_on_one_line(gapped)}"?', span.group(), "fill the gap")


TASKS: tuple[Task, ...] = (_fill_gap, _fill_gap, _find_speaker, _find_section, _continue_quote)
"""`_fill_gap` is listed twice: it is tried first twice as often."""


def make_question(passages: Sequence[Passage], draw: random.Random) -> QAPair | None:
    """Make a question by the first task, in random order, for which the text is suitable."""
    tasks = list(TASKS)
    draw.shuffle(tasks)
    return next((pair for pair in (task(passages, draw) for task in tasks) if pair is not None), None)


def make_unanswerable(passages: Sequence[Passage], elsewhere: Sequence[Passage], draw: random.Random) -> QAPair | None:
    """Make a question about another text, whose answer these blocks do not contain."""
    if not passages or not elsewhere:
        return None
    for task in (_fill_gap, _find_speaker):
        pair = task(elsewhere, draw)
        if pair and not any(pair.answer.casefold() in passage.text.casefold() for passage in passages):
            return QAPair(pair.question, NO_ANSWER, "unanswerable")
    return None


def _draw_sentence(text: str, draw: random.Random) -> str | None:
    sentences = [found.group() for found in _SENTENCE.finditer(text)]
    sentences = [sentence for sentence in sentences if len(sentence.split()) >= MIN_WORDS]
    return draw.choice(sentences) if sentences else None


def _is_unique(span: str, passages: Sequence[Passage]) -> bool:
    return sum(passage.text.count(span) for passage in passages) == 1


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
