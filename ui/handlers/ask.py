"""Ask: a question in block mode, full mode, or both, and the conversation it belongs to."""

from collections.abc import Iterator
from dataclasses import replace

from blockrag.errors import BlockRAGError
from blockrag.events import Answer, Mode, Piece, Queued, Retrieved
from storage.errors import LimitError
from ui import strings
from ui.handlers.question_state import QuestionState, begin
from ui.open_collection import OpenCollection

REMEMBERED_CHARS = 1_000
"""Of the question and the answer before, that a follow-up question brings along."""


def ask(
    workspace: OpenCollection,
    question: str,
    modes: tuple[Mode, ...],
    k: int,
    max_new_tokens: int,
    before: QuestionState | None = None,
    *,
    follow_up: bool = False,
) -> Iterator[QuestionState]:
    """Answer in each mode, one after the other, yielding the exchange after every event. Closing it stops the answer.
    What was answered is kept in the conversation.

    An error of ours (no question, an empty index, a question too long) ends it and becomes part of the exchange.

    Parameters
    ----------
    before : QuestionState, optional
        The one before: its conversation goes on, its pinned blocks are given and its excluded ones are not.
    follow_up : bool
        Bring the question and the answer before along.
    """
    exchange = begin(question, modes, before)
    if exchange.error:
        yield exchange
        return
    prompt = _following(before, question) if follow_up and before else question
    try:
        admit(workspace, question)
        with workspace.meter.job(workspace.owner):
            for mode in modes:
                exchange.texts[mode] = ""
                yield exchange
                events = workspace.rag.ask(
                    prompt,
                    mode,
                    k,
                    max_new_tokens,
                    client_id=workspace.owner,
                    search=f"{before.question} {question}" if follow_up and before else None,
                    pinned=exchange.pinned,
                    excluded=exchange.excluded,
                )
                for event in events:
                    if isinstance(event, Retrieved):
                        _take_sources(exchange, event, workspace)
                    else:
                        _take(exchange, mode, event)
                    yield exchange
        keep(workspace, exchange)
    except BlockRAGError as error:
        exchange.error, exchange.stopped = str(error), True
    yield exchange


def admit(workspace: OpenCollection, question: str) -> None:
    """Let a question in, or raise LimitError."""
    most = workspace.meter.limits.question_chars
    if len(question) > most:
        raise LimitError(f"the question has {len(question):,} characters; at most {most:,} are read: shorten it")
    workspace.meter.question(workspace.owner)


def _following(before: QuestionState, question: str) -> str:
    answer = next(iter(before.texts.values()), "")[:REMEMBERED_CHARS]
    return strings.FOLLOWING.format(question=before.question[:REMEMBERED_CHARS], answer=answer, now=question)


def keep(workspace: OpenCollection, exchange: QuestionState) -> None:
    """Add what was answered to the conversation, which begins here where there is none."""
    answers = list(exchange.answers.values())
    if not answers:
        return
    conversations, collection_id = workspace.store.conversations, workspace.record.id
    if exchange.conversation is None:
        exchange.conversation = conversations.begin(collection_id, exchange.question)
    conversations.add(collection_id, exchange.conversation, answers)


def _take_sources(exchange: QuestionState, event: Retrieved, workspace: OpenCollection) -> None:
    """What was retrieved, and which of it was cached when the question came: before the first mode caches the rest."""
    engine = workspace.library.engine
    if not exchange.sources:
        exchange.cached = frozenset(s.number for s in event.sources if engine.kv_key(s.text) in engine.kv)
    exchange.sources, exchange.left_out = event.sources, event.left_out


def _take(exchange: QuestionState, mode: Mode, event: Queued | Piece | Answer) -> None:
    if isinstance(event, Piece):
        exchange.texts[mode] += event.text
    elif isinstance(event, Answer):
        exchange.answers[mode] = replace(event, question=exchange.question)  # without what came along
    exchange.ahead = event.ahead if isinstance(event, Queued) else 0
