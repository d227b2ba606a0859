"""Conversations: questions, their answers in each mode, and the blocks that the model was given."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from blockrag.events import Answer, Citation, Report, Source
from blockrag.index import labels
from storage import models
from storage.database import Database
from storage.errors import NotFoundError

TITLE_CHARS = 80


@dataclass(frozen=True)
class ConversationRecord:
    """A conversation; its title is its first question."""

    id: int
    title: str
    created_s: float


@dataclass(frozen=True)
class TurnRecord:
    """A question with its answers, their ratings (1 or -1) and its sources. Sources from deleted documents are gone."""

    id: int
    question: str
    asked_s: float
    sources: tuple[Source, ...]
    left_out: tuple[Source, ...]
    answers: dict[str, Answer]
    is_follow_up: bool = False
    ratings: dict[str, int] = field(default_factory=dict)


class Conversations:
    """The conversations of a database."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time):
        self._database = database
        self._clock = clock

    def begin(self, collection_id: int, title: str) -> int:
        """Begin a conversation and return its id. Raises NotFoundError if there is no such collection."""
        with self._database.write() as session:
            if session.get(models.Collection, collection_id) is None:
                raise NotFoundError("there is no such collection")
            row = models.Conversation(
                collection_id=collection_id, title=" ".join(title.split())[:TITLE_CHARS], created_s=self._clock()
            )
            session.add(row)
            session.flush()
            return row.id

    def add(
        self, collection_id: int, conversation_id: int, answers: Sequence[Answer], is_follow_up: bool = False
    ) -> int:
        """Add a question with its answers, one for each mode, all with the same sources. Returns the turn's id.

        Raises
        ------
        NotFoundError
            If this collection has no such conversation.
        """
        with self._database.write() as session:
            _owned(session, collection_id, conversation_id)
            first = answers[0]
            turn = models.Turn(
                conversation_id=conversation_id,
                question=_text(first.question),
                asked_s=self._clock(),
                is_follow_up=is_follow_up,
            )
            session.add(turn)
            session.flush()
            known = _document_ids(session, collection_id, {s.document_id for s in (*first.sources, *first.left_out)})
            for source, left_out in [(s, False) for s in first.sources] + [(s, True) for s in first.left_out]:
                if source.document_id in known:  # not deleted while the answer was written
                    session.add(
                        models.Source(
                            turn_id=turn.id,
                            number=source.number,
                            document_id=known[source.document_id],
                            start=source.start,
                            end=source.end,
                            score=source.score,
                            n_tokens=source.n_tokens,
                            left_out=left_out,
                            page=source.page,
                            text=source.text.encode("utf-8", "surrogatepass"),
                        )
                    )
            for answer in answers:
                session.add(_answer_row(turn.id, answer))
            return turn.id

    def put_answer(self, collection_id: int, turn_id: int, answer: Answer) -> None:
        """Add another mode's answer to a question, or replace it. Raises NotFoundError."""
        with self._database.write() as session:
            _owned_turn(session, collection_id, turn_id)
            session.merge(_answer_row(turn_id, answer))

    def rate(self, collection_id: int, turn_id: int, mode: str, rating: int | None) -> None:
        """Rate an answer 1 or -1, or take the rating back. Raises NotFoundError."""
        with self._database.write() as session:
            _owned_turn(session, collection_id, turn_id)
            row = session.get(models.Answer, (turn_id, mode))
            if row is None:
                raise NotFoundError("there is no such answer")
            row.rating = rating

    def of(self, collection_id: int) -> list[ConversationRecord]:
        """A collection's conversations, newest first."""
        query = (
            select(models.Conversation)
            .where(models.Conversation.collection_id == collection_id)
            .order_by(models.Conversation.id.desc())
        )
        with self._database.read() as session:
            return [ConversationRecord(row.id, row.title, row.created_s) for row in session.scalars(query)]

    def turns(self, collection_id: int, conversation_id: int) -> list[TurnRecord]:
        """A conversation's turns, oldest first. Raises NotFoundError."""
        query = select(models.Turn).where(models.Turn.conversation_id == conversation_id).order_by(models.Turn.id)
        with self._database.read() as session:
            _owned(session, collection_id, conversation_id)
            return [_turn(session, row) for row in session.scalars(query)]

    def saved(self, collection_id: int) -> tuple[int, int, float]:
        """Number of a collection's answers in block mode, the tokens that they reused from the cache, and the
        milliseconds that they saved before the first token, over questions that were answered in both modes."""
        query = (
            select(models.Answer.turn_id, models.Answer.mode, models.Answer.report)
            .join(models.Turn, models.Turn.id == models.Answer.turn_id)
            .join(models.Conversation, models.Conversation.id == models.Turn.conversation_id)
            .where(models.Conversation.collection_id == collection_id)
        )
        ttft: dict[int, dict[str, float]] = {}
        n_answers = n_tokens = 0
        with self._database.read() as session:
            for turn_id, mode, text in session.execute(query):
                report = json.loads(text)
                ttft.setdefault(turn_id, {})[mode] = report["ttft_ms"]
                if mode == "block":
                    n_answers, n_tokens = n_answers + 1, n_tokens + report["n_tokens_saved"]
        both = [times["full"] - times["block"] for times in ttft.values() if len(times) == 2]
        return n_answers, n_tokens, sum(both)

    def delete(self, collection_id: int, conversation_id: int) -> None:
        """Remove a conversation. Raises NotFoundError."""
        with self._database.write() as session:
            _owned(session, collection_id, conversation_id)
            session.execute(delete(models.Conversation).where(models.Conversation.id == conversation_id))
        self._database.wipe_deleted()


def _owned(session: Session, collection_id: int, conversation_id: int) -> None:
    row = session.get(models.Conversation, conversation_id)
    if row is None or row.collection_id != collection_id:
        raise NotFoundError("there is no such conversation")


def _owned_turn(session: Session, collection_id: int, turn_id: int) -> None:
    turn = session.get(models.Turn, turn_id)
    if turn is None:
        raise NotFoundError("there is no such question")
    _owned(session, collection_id, turn.conversation_id)


def _document_ids(session: Session, collection_id: int, wanted: set[str]) -> dict[str, int]:
    query = select(models.Document.document_id, models.Document.id).where(
        models.Document.collection_id == collection_id, models.Document.document_id.in_(wanted)
    )
    return {document_id: id for document_id, id in session.execute(query)}


def _text(text: str) -> str:
    """Replace NUL, which PostgreSQL's text cannot hold, and halves of characters, which UTF-8 cannot."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _answer_row(turn_id: int, answer: Answer) -> models.Answer:
    citations = [[c.start, c.end, c.number, c.support] for c in answer.citations]
    return models.Answer(
        turn_id=turn_id,
        mode=answer.report.mode,
        text=_text(answer.text),
        stopped=answer.stopped,
        report=json.dumps(answer.report.to_dict()),
        citations=json.dumps(citations),
    )


def _turn(session: Session, row: models.Turn) -> TurnRecord:
    sources, left_out = _sources(session, row.id)
    answers, ratings = {}, {}
    for kept in session.scalars(select(models.Answer).where(models.Answer.turn_id == row.id)):
        report = json.loads(kept.report)
        if kept.rating:
            ratings[kept.mode] = kept.rating
        answers[kept.mode] = Answer(
            question=row.question,
            text=kept.text,
            sources=sources,
            report=Report(**{**report, "notes": tuple(report["notes"])}),
            citations=tuple(Citation(*citation) for citation in json.loads(kept.citations)),
            stopped=kept.stopped,  # type: ignore[arg-type]
            left_out=left_out,
        )
    return TurnRecord(row.id, row.question, row.asked_s, sources, left_out, answers, row.is_follow_up, ratings)


def _sources(session: Session, turn_id: int) -> tuple[tuple[Source, ...], tuple[Source, ...]]:
    query = (
        select(models.Source, models.Document)
        .join(models.Document, models.Document.id == models.Source.document_id)
        .where(models.Source.turn_id == turn_id)
        .order_by(models.Source.number)
    )
    rows = session.execute(query).all()
    names = labels([(document.name, document.source) for _, document in rows])
    found: tuple[list[Source], list[Source]] = ([], [])
    for (row, document), name in zip(rows, names, strict=True):
        source = Source(
            number=row.number,
            document=name,
            document_id=document.document_id,
            start=row.start,
            end=row.end,
            text=row.text.decode("utf-8", "surrogatepass"),
            score=row.score,
            n_tokens=row.n_tokens,
            page=row.page,
            source=document.source,
        )
        found[row.left_out].append(source)
    return tuple(found[0]), tuple(found[1])
