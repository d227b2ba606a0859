"""Ask: a question in block mode, full mode, or both, as the page draws it, and the conversation it belongs to."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from blockrag.answer import Answer, Mode, Piece, Queued, Report, Retrieved, Source
from blockrag.errors import BlockRAGError
from blockrag.pipeline import Place
from storage.errors import LimitError, NotFoundError
from ui import strings
from ui.workspace import Workspace

TITLES: dict[Mode, str] = {"block": strings.BLOCK_MODE, "full": strings.FULL_MODE}
STAGES = {
    "retrieval": "retrieval_ms",
    "KV load": "kv_load_ms",
    "encode": "encode_ms",
    "assembly": "assemble_ms",
    "prefill": "prefill_ms",
}

CARD_CHARS = 400
REMEMBERED_CHARS = 1_000
"""Of the question and the answer before, that a follow-up question brings along."""


@dataclass
class Exchange:
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


def begin(question: str, modes: tuple[Mode, ...], before: Exchange | None = None) -> Exchange:
    """The exchange as it is before the model's turn; stopped with an error where nothing was asked."""
    empty = not question.strip()
    exchange = Exchange(question, modes, stopped=empty, error=strings.EMPTY_QUESTION if empty else "")
    if before is not None:
        exchange.conversation = before.conversation
        exchange.pinned, exchange.excluded = before.pinned, before.excluded
    return exchange


def ask(
    workspace: Workspace,
    question: str,
    modes: tuple[Mode, ...],
    k: int,
    max_new_tokens: int,
    before: Exchange | None = None,
    *,
    follow_up: bool = False,
) -> Iterator[Exchange]:
    """Answer in each mode, one after the other, yielding the exchange after every event. Closing it stops the answer.
    What was answered is kept in the conversation.

    An error of ours (no question, an empty index, a question too long) ends it and becomes part of the exchange.

    Parameters
    ----------
    before : Exchange, optional
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
                    asker=workspace.owner,
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


def admit(workspace: Workspace, question: str) -> None:
    """Let a question in, or raise LimitError."""
    most = workspace.meter.limits.question_chars
    if len(question) > most:
        raise LimitError(f"the question has {len(question):,} characters; at most {most:,} are read: shorten it")
    workspace.meter.question(workspace.owner)


def _following(before: Exchange, question: str) -> str:
    answer = next(iter(before.texts.values()), "")[:REMEMBERED_CHARS]
    return strings.FOLLOWING.format(question=before.question[:REMEMBERED_CHARS], answer=answer, now=question)


def keep(workspace: Workspace, exchange: Exchange) -> None:
    """Add what was answered to the conversation, which begins here where there is none."""
    answers = list(exchange.answers.values())
    if not answers:
        return
    conversations, collection_id = workspace.store.conversations, workspace.record.id
    if exchange.conversation is None:
        exchange.conversation = conversations.begin(collection_id, exchange.question)
    conversations.add(collection_id, exchange.conversation, answers)


def _take_sources(exchange: Exchange, event: Retrieved, workspace: Workspace) -> None:
    """What was retrieved, and which of it was cached when the question came: before the first mode caches the rest."""
    engine = workspace.library.engine
    if not exchange.sources:
        exchange.cached = frozenset(s.number for s in event.sources if engine.kv_key(s.text) in engine.kv)
    exchange.sources, exchange.left_out = event.sources, event.left_out


def _take(exchange: Exchange, mode: Mode, event: Queued | Piece | Answer) -> None:
    if isinstance(event, Piece):
        exchange.texts[mode] += event.text
    elif isinstance(event, Answer):
        exchange.answers[mode] = replace(event, question=exchange.question)  # without what came along
    exchange.ahead = event.ahead if isinstance(event, Queued) else 0


def mark(exchange: Exchange, number: int, what: str) -> None:
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


def history(workspace: Workspace) -> list[tuple[str, int]]:
    """Title and id of the collection's conversations, for a menu."""
    return [(record.title, record.id) for record in workspace.store.conversations.of(workspace.record.id)]


def turns_view(workspace: Workspace, conversation: int | None) -> dict[str, Any]:
    """A conversation's questions with the beginnings of their answers."""
    turns = []
    if conversation is not None:
        try:
            found = workspace.store.conversations.turns(workspace.record.id, conversation)
        except NotFoundError:
            found = []
        for turn in found:
            answer = next(iter(turn.answers.values()), None)
            text = answer.text[:CARD_CHARS].strip() if answer else ""
            turns.append({"id": turn.id, "question": turn.question[:CARD_CHARS], "answer": text})
    return {"turns": turns, "saved": saved(workspace), "empty": strings.NO_HISTORY}


def recall(workspace: Workspace, conversation: int | None, turn_id: int) -> Exchange:
    """An exchange of a conversation as it was. An empty one where it is gone."""
    if conversation is None:
        return Exchange()
    try:
        turns = workspace.store.conversations.turns(workspace.record.id, conversation)
    except NotFoundError:
        return Exchange()
    for turn in turns:
        if turn.id == turn_id:
            answers = {mode: turn.answers[mode] for mode in TITLES if mode in turn.answers}
            texts = {mode: answer.text for mode, answer in answers.items()}
            return Exchange(
                turn.question,
                tuple(answers),
                turn.sources,
                turn.left_out,
                texts=texts,
                answers=answers,
                conversation=conversation,
            )
    return Exchange()


def saved(workspace: Workspace) -> str:
    """What block KV has saved this collection so far."""
    n_answers, n_tokens, saved_ms = workspace.store.conversations.saved(workspace.record.id)
    if not n_answers:
        return ""
    answers = "one answer" if n_answers == 1 else f"{n_answers} answers"
    total = f"{n_tokens:,} tokens were not computed again over {answers}"
    return total + (f"; {_time(saved_ms)} less waiting where both modes were measured" if saved_ms > 0 else "")


def answer_view(exchange: Exchange, mode: Mode) -> dict[str, Any]:
    """The answer of one mode."""
    if mode not in exchange.modes:
        return {"empty": strings.NO_ANSWER if mode == "block" else strings.NO_FULL_ANSWER}
    answer, text = exchange.answers.get(mode), exchange.texts.get(mode)
    if answer is not None:
        report = answer.report
        state = f"{report.n_new_tokens} tokens, {report.tokens_per_s:.0f} a second"
    elif exchange.stopped:
        state = exchange.error or strings.STOPPED
    else:
        state = _state(text, exchange.ahead)
    return {
        "title": TITLES[mode],
        "text": text or "",
        "state": state,
        "busy": answer is None and text is not None and not exchange.stopped,
        "citations": [{"end": c.end, "number": c.number} for c in answer.citations] if answer else [],
    }


def _state(text: str | None, ahead: int) -> str:
    if ahead:
        return strings.AHEAD.format(n=ahead)
    return strings.QUEUED if text is None else strings.READING if not text else ""


def sources_view(exchange: Exchange, shown: int | None = None) -> dict[str, Any]:
    """Cards of the sources."""
    cards = [_card(source, exchange) for source in exchange.sources]
    return {"sources": cards, "shown": shown, "empty": strings.NO_SOURCES}


def _card(source: Source, exchange: Exchange) -> dict[str, Any]:
    where = f"page {source.page}" if source.page else f"characters {source.start:,} to {source.end:,}"
    place = (source.document_id, source.start)
    return {
        "number": source.number,
        "title": source.document,
        "detail": f"{where} · {source.n_tokens} tokens · similarity {source.score:.2f}",
        "badge": strings.CACHED if source.number in exchange.cached else "",
        "text": source.text[:CARD_CHARS].strip(),
        "pinned": place in exchange.pinned,
        "excluded": place in exchange.excluded,
    }


def times_view(exchange: Exchange) -> dict[str, Any]:
    """Time to first token of each mode, and what the cache saved."""
    bars = [_bar(mode, exchange) for mode in exchange.modes if mode in exchange.texts]
    reports = {mode: answer.report for mode, answer in exchange.answers.items()}
    return {
        "bars": bars,
        "headline": _headline(reports),
        "detail": _detail(exchange, reports),
        "empty": strings.NO_TIMES,
    }


def _bar(mode: Mode, exchange: Exchange) -> dict[str, Any]:
    answer = exchange.answers.get(mode)
    if answer is None:
        return {"name": TITLES[mode], "total": 0, "pending": not exchange.stopped, "stages": [], "done": 0}
    report = answer.report
    stages = [{"name": name, "ms": getattr(report, key)} for name, key in STAGES.items()]
    writing = 1000 * (report.n_new_tokens - 1) / report.tokens_per_s if report.tokens_per_s else 0
    done = report.ttft_ms + writing
    return {"name": TITLES[mode], "total": report.ttft_ms, "pending": False, "stages": stages, "done": done}


def _headline(reports: dict[Mode, Report]) -> str:
    if "block" not in reports:
        return "First token" + (f" after {_time(reports['full'].ttft_ms)}" if "full" in reports else "")
    block = reports["block"].ttft_ms
    if "full" not in reports:
        return f"First token after {_time(block)}"
    full = reports["full"].ttft_ms
    ratio = f"{full / block:.1f} times sooner" if block <= full else f"{block / full:.1f} times later"
    return f"First token after {_time(block)} instead of {_time(full)}: {ratio}"


def _detail(exchange: Exchange, reports: dict[Mode, Report]) -> str:
    notes: list[str] = []
    if "block" in reports:
        report = reports["block"]
        hits = ", ".join(f"{n} from {tier}" for tier, n in report.kv_hits.items()) or "none cached"
        notes.append(
            f"{report.n_tokens_saved:,} of {report.n_tokens_saved + report.n_prefill_tokens:,} tokens were not "
            f"computed ({hits})."
        )
        notes += report.notes
    if exchange.left_out:
        numbers = ", ".join(str(source.number) for source in exchange.left_out)
        notes.append(f"Left out for want of room in the model's context: blocks {numbers}.")
    return " ".join(notes)


def _time(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"


def find_source(exchange: Exchange, number: int) -> Source | None:
    """The source of this number."""
    return next((source for source in exchange.sources if source.number == number), None)
