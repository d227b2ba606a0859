"""Draw a conversation: its questions and answers, those being answered included, and what can be done with them."""

from blockrag.events import Answer, Mode
from ui import strings
from ui.components.payloads import ThreadAnswer, ThreadPayload, ThreadTurn
from ui.handlers import ask
from ui.handlers.question import QuestionState, headline
from ui.open_collection import OpenCollection
from ui.questions import Questions


def view(
    collection: OpenCollection,
    questions: Questions,
    conversation: int | None,
    states: list[QuestionState],
    shown: QuestionState,
) -> ThreadPayload:
    """Draw the questions of a conversation; `shown` is the one whose sources are listed."""
    busy = questions.is_active(collection.record.id, conversation)
    is_sample, has_documents = (False, True) if busy else _has_sample(collection)
    asked = {state.question for state in states}
    return {
        "turns": [_turn(state, is_selected=state is shown and len(states) > 1) for state in states],
        "suggestions": [q for q in strings.SAMPLE_QUESTIONS if q not in asked] if is_sample else [],
        "busy": busy,
        "welcome": "" if states else strings.WELCOME_READY if has_documents else strings.WELCOME,
        "sample": "" if has_documents else strings.SAMPLE,
        "saved": ask.saved(collection) if states and not busy else "",
    }


def thread(
    collection: OpenCollection,
    questions: Questions,
    conversation: int | None,
    known: list[QuestionState] | None = None,
) -> list[QuestionState]:
    """The questions of a conversation, oldest first, those being answered included; `known` are the saved ones."""
    live = questions.live(collection.record.id, conversation)
    running = {state.turn: state for state in live if state.turn is not None}
    states = saved(collection, conversation) if known is None else known
    return [running.get(state.turn or 0, state) for state in states] + [state for state in live if state.turn is None]


def saved(collection: OpenCollection, conversation: int | None) -> list[QuestionState]:
    """The questions of a conversation that are in the database."""
    return [ask.recall(collection, turn) for turn in ask.turns(collection, conversation)]


def selection(states: list[QuestionState], selected: int | None) -> QuestionState | None:
    """The question whose sources are shown: the selected turn, or the last that has sources."""
    found = next((state for state in states if selected is not None and state.turn == selected), None)
    return found or next((state for state in reversed(states) if state.sources), None)


def _has_sample(collection: OpenCollection) -> tuple[bool, bool]:
    """Return whether the collection has the sample, and whether it has any document or waiting file."""
    id, store = collection.record.id, collection.store
    names = [record.name for record in store.documents.of(id)]
    names += [upload.name for upload in store.documents.uploads(id) if upload.state == "waiting"]
    return strings.SAMPLE_NAME in names, bool(names)


def _turn(state: QuestionState, *, is_selected: bool) -> ThreadTurn:
    is_done = bool(state.answers) and not _is_running(state)
    first = next(iter(state.answers.values()), None)
    both = "block" in state.answers and "full" in state.answers
    return {
        "id": state.turn or 0,
        "key": f"turn-{state.turn}" if state.turn else state.key,
        "question": state.question,
        "note": strings.AS_FOLLOW_UP if state.is_follow_up else "",
        "notes": list(first.report.notes) if first else [],
        "answers": [_answer(state, mode) for mode in state.modes if mode in state.texts],
        "status": _status(state),
        "failed": bool(state.error),
        "cost": headline(state),
        "detail": _detail(state, first) if first and not both else "",
        "selected": is_selected,
        "sources": len(state.sources),
        "compare": strings.COMPARE_ANSWERS if is_done and not both and state.sources else "",
        "longer": strings.WRITE_MORE if is_done and first and first.stopped == "length" else "",
        "done": is_done or state.stopped,
    }


def _is_running(state: QuestionState) -> bool:
    return not state.stopped and any(mode not in state.answers for mode in state.modes)


def _answer(state: QuestionState, mode: Mode) -> ThreadAnswer:
    answer = state.answers.get(mode)
    ended = strings.ENDED.get(answer.stopped, "") if answer else ""
    return {
        "mode": mode,
        "title": strings.ANSWER_TITLES[mode] if len(state.modes) > 1 or mode == "full" else "",
        "text": state.texts[mode],
        "ended": ended,
        "busy": answer is None and not state.stopped,
        "citations": [(c.start, c.end, c.number) for c in answer.citations] if answer else [],
        "rating": state.ratings.get(mode, 0),
    }


def _status(state: QuestionState) -> str:
    """Say what a question waits for, or why it ended without an answer."""
    if state.error:
        return state.error
    if state.stopped:
        return "" if state.answers else strings.STOPPED
    if not _is_running(state):
        return ""
    if state.is_waiting:
        return strings.WAITING_FOR_DOCUMENTS
    if state.ahead:
        return strings.AHEAD.format(n=state.ahead)
    if not state.texts:
        return strings.QUEUED
    return "" if any(state.texts[mode] for mode in state.texts if mode not in state.answers) else strings.READING


def _detail(state: QuestionState, answer: Answer) -> str:
    report = answer.report
    parts = []
    if report.n_tokens_saved:
        total = report.n_tokens_saved + report.n_prefill_tokens
        parts.append(strings.REUSED_OF.format(n=report.n_tokens_saved, total=total))
    if report.n_new_tokens:
        parts.append(strings.ANSWER_DONE.format(n=report.n_new_tokens, rate=report.tokens_per_s))
    if state.left_out:
        parts.append(strings.LEFT_OUT_N.format(n=len(state.left_out)))
    return " · ".join(parts)
