"""Ask a question in block mode, full mode or both, and keep the answers in conversations."""

from collections.abc import Iterator
from dataclasses import replace

from blockrag import arguments
from blockrag.errors import BlockRAGError
from blockrag.events import Answer, Mode, Piece, Queued, Retrieved
from blockrag.generate import Sampling
from storage.conversations import TurnRecord
from storage.errors import LimitError, NotFoundError
from ui import strings
from ui.components.payloads import TurnsPayload
from ui.handlers.question import EXCERPT_CHARS, TITLES, QuestionState, format_ms
from ui.open_collection import OpenCollection

MAX_K, MAX_NEW_TOKENS = 32, 512
FOLLOW_UP_CHARS = 1_000
"""Of the previous question and of its answer, that a follow-up includes."""


def ask(
    collection: OpenCollection,
    question: str,
    modes: tuple[Mode, ...],
    k: int,
    max_new_tokens: int,
    previous: QuestionState | None = None,
    *,
    follow_up: bool = False,
) -> Iterator[QuestionState]:
    """Answer in one mode after the other and save the answers in the conversation. Closing the iterator stops it.

    A BlockRAGError (no question, an empty index, a question too long) ends it and becomes part of the state.

    Parameters
    ----------
    k, max_new_tokens : int
        Blocks to retrieve and length of the answer; clipped to their limits.
    previous : QuestionState, optional
        The previous question: its conversation continues, its pinned blocks are used and its excluded ones are not.
    follow_up : bool
        Include the previous question and answer.

    Yields
    ------
    QuestionState
        The same object after every event.
    """
    state = QuestionState.begin(question, modes, previous)
    if state.error:
        yield state
        return
    prompt = _follow_up_prompt(previous, question) if follow_up and previous else question
    search = f"{previous.question} {question}" if follow_up and previous else None
    settings = collection.settings
    sampling = Sampling(settings["temperature"], settings["top_p"])
    try:
        admit(collection, question)
        with collection.limiter.job(collection.owner):
            for mode in modes:
                state.texts[mode] = ""
                yield state
                events = collection.pipeline.ask(
                    prompt,
                    mode,
                    clip(k, MAX_K),
                    clip(max_new_tokens, MAX_NEW_TOKENS),
                    client_id=collection.owner,
                    search=search,
                    pinned=state.pinned,
                    excluded=state.excluded,
                    sampling=sampling,
                )
                for event in events:
                    _update(state, mode, event, collection)
                    yield state
        _save(collection, state)
    except BlockRAGError as error:
        state.error, state.stopped = str(error), True
    yield state


def clip(value: float, limit: int) -> int:
    """Return a whole number from 1 to `limit`."""
    return min(max(int(value), 1), limit)


def admit(collection: OpenCollection, question: str) -> None:
    """Count a question. Raises LimitError if it is too long or one too many, ArgumentError if it has no whole text."""
    limits = collection.limiter.limits
    if len(arguments.text("question", question)) > limits.question_chars:
        raise LimitError(strings.QUESTION_TOO_LONG.format(n=len(question), limit=limits.question_chars))
    n_tokens = collection.library.engine.token_counter.count(question)
    if n_tokens > limits.question_tokens:
        raise LimitError(strings.QUESTION_TOO_MANY_TOKENS.format(n=n_tokens, limit=limits.question_tokens))
    collection.limiter.question(collection.owner)


def _follow_up_prompt(previous: QuestionState, question: str) -> str:
    answer = next(iter(previous.texts.values()), "")[:FOLLOW_UP_CHARS]
    return strings.FOLLOW_UP_PROMPT.format(question=previous.question[:FOLLOW_UP_CHARS], answer=answer, now=question)


def _update(
    state: QuestionState, mode: Mode, event: Queued | Retrieved | Piece | Answer, collection: OpenCollection
) -> None:
    if isinstance(event, Retrieved):
        engine = collection.library.engine
        if not state.sources:  # before the first mode caches the rest
            state.cached = frozenset(s.number for s in event.sources if engine.kv_key(s.text) in engine.kv)
        state.sources, state.left_out = event.sources, event.left_out
        return
    if isinstance(event, Piece):
        state.texts[mode] += event.text
    elif isinstance(event, Answer):
        state.answers[mode] = replace(event, question=state.question)  # without the previous question and answer
    state.ahead = event.ahead if isinstance(event, Queued) else 0


def _save(collection: OpenCollection, state: QuestionState) -> None:
    """Add the answers to the conversation, or start one with them."""
    answers = list(state.answers.values())
    if not answers:
        return
    conversations, collection_id = collection.store.conversations, collection.record.id
    if state.conversation is None:
        state.conversation = conversations.begin(collection_id, state.question)
    conversations.add(collection_id, state.conversation, answers)


def conversation_choices(collection: OpenCollection) -> list[tuple[str, int]]:
    """Return title and id of the collection's conversations, for a menu."""
    return [(record.title, record.id) for record in collection.store.conversations.of(collection.record.id)]


def turns_view(collection: OpenCollection, conversation: int | None) -> TurnsPayload:
    """Draw a conversation's questions with the beginnings of their answers."""
    payload: TurnsPayload = {"turns": [], "saved": _saved(collection), "empty": strings.NO_HISTORY}
    for turn in _turns(collection, conversation):
        answer = next(iter(turn.answers.values()), None)
        excerpt = answer.text[:EXCERPT_CHARS].strip() if answer else ""
        payload["turns"].append({"id": turn.id, "question": turn.question[:EXCERPT_CHARS], "answer": excerpt})
    return payload


def recall(collection: OpenCollection, conversation: int | None, turn_id: int) -> QuestionState:
    """Return a question of a conversation with its answers and sources; an empty state if it is gone."""
    turn = next((turn for turn in _turns(collection, conversation) if turn.id == turn_id), None)
    if turn is None:
        return QuestionState()
    answers = {mode: turn.answers[mode] for mode in TITLES if mode in turn.answers}
    return QuestionState(
        turn.question,
        tuple(answers),
        turn.sources,
        turn.left_out,
        texts={mode: answer.text for mode, answer in answers.items()},
        answers=answers,
        conversation=conversation,
    )


def _turns(collection: OpenCollection, conversation: int | None) -> list[TurnRecord]:
    if conversation is None:
        return []
    try:
        return list(collection.store.conversations.turns(collection.record.id, conversation))
    except NotFoundError:
        return []


def _saved(collection: OpenCollection) -> str:
    """Say what the cache has saved this collection so far."""
    n_answers, n_tokens, saved_ms = collection.store.conversations.saved(collection.record.id)
    if not n_answers:
        return ""
    text = strings.SAVED_TOKENS.format(n_tokens=n_tokens, n=n_answers)
    return text + (strings.SAVED_TIME.format(time=format_ms(saved_ms)) if saved_ms > 0 else "")
