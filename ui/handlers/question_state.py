"""One question and what has come of it so far. Knows no collection and no model."""

from dataclasses import dataclass, field

from blockrag.events import Answer, Mode, Source
from blockrag.pipeline import Place
from ui import strings


@dataclass
class QuestionState:
    """One question and what has come of it so far: all that the page shows of it.

    `ahead` others are answered first. `pinned` and `excluded` are blocks of its sources that the next question shall
    have, or not have.
    """

    question: str = ""
    modes: tuple[Mode, ...] = ()
    sources: tuple[Source, ...] = ()
    left_out: tuple[Source, ...] = ()
    cached: frozenset[int] = frozenset()
    texts: dict[Mode, str] = field(default_factory=dict)
    answers: dict[Mode, Answer] = field(default_factory=dict)
    stopped: bool = False
    error: str = ""
    ahead: int = 0
    conversation: int | None = None
    pinned: tuple[Place, ...] = ()
    excluded: tuple[Place, ...] = ()


def begin(question: str, modes: tuple[Mode, ...], before: QuestionState | None = None) -> QuestionState:
    """The exchange as it is before the model's turn; stopped with an error where nothing was asked."""
    empty = not question.strip()
    exchange = QuestionState(question, modes, stopped=empty, error=strings.EMPTY_QUESTION if empty else "")
    if before is not None:
        exchange.conversation = before.conversation
        exchange.pinned, exchange.excluded = before.pinned, before.excluded
    return exchange


def mark(exchange: QuestionState, number: int, what: str) -> None:
    """Pin a source for the next question, exclude it, or, where that is so already, take it back."""
    source = find_source(exchange, number)
    if source is None:
        return
    place = (source.document_id, source.start)
    pinned, excluded = place in exchange.pinned, place in exchange.excluded
    exchange.pinned = tuple(p for p in exchange.pinned if p != place)
    exchange.excluded = tuple(p for p in exchange.excluded if p != place)
    if what == "pin" and not pinned:
        exchange.pinned += (place,)
    if what == "exclude" and not excluded:
        exchange.excluded += (place,)


def find_source(exchange: QuestionState, number: int) -> Source | None:
    """The source of this number."""
    return next((source for source in exchange.sources if source.number == number), None)
