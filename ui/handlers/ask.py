"""Ask a question in block mode, full mode or both, and keep the answers in conversations."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace

from blockrag import arguments
from blockrag.cite import cite
from blockrag.errors import BlockRAGError
from blockrag.events import Answer, Event, Mode, Piece, Queued, Report, Retrieved, Source
from blockrag.generate import Sampling
from blockrag.index import BlockRef
from blockrag.retrieval import Retrieval
from storage.conversations import TurnRecord
from storage.errors import LimitError, NotFoundError
from ui import strings
from ui.handlers.chosen import chosen_of
from ui.handlers.question import Marks, QuestionState, format_ms
from ui.open_collection import OpenCollection

MAX_K, MAX_NEW_TOKENS = 32, 512
MODES: tuple[Mode, ...] = ("block", "full")
FOLLOW_UP_CHARS = 1_000
"""Of the previous question and of its answer, that a follow-up includes."""

MAX_NAMED = 5
"""Documents that a note names."""

SHORT_WORDS = 3
"""A question of so few words is taken for a follow-up."""

WAIT_STEP_S = 0.25

_LEANS = re.compile(
    r"^\W*(?:and|but|so|or|also|then|what about|how about|what else|why|really|more|explain|tell me more)\b"
    r"|\b(?:it|its|they|them|their|theirs|he|him|his|she|her|hers|these|those|the same|the former|the latter)\b"
    r"|\b(?:this|that)(?=\W*$|\s+(?:is|was|are|were|has|had|does|did|do)\b)",
    re.IGNORECASE,
)
"""What points back to the question before."""


def begin(
    collection: OpenCollection,
    question: str,
    modes: tuple[Mode, ...],
    conversation: int | None = None,
    marks: Marks | None = None,
    *,
    follow_up: bool = True,
    documents: tuple[str, ...] = (),
) -> QuestionState:
    """Admit a question to a conversation, which is begun if there is none.

    Parameters
    ----------
    marks : Marks, optional
        Blocks that it must have, or must not have.
    follow_up : bool
        Include the previous question and its answer if the question points back to them.
    documents : tuple of str
        Ids of the documents to answer from; all, if it is empty.

    Raises
    ------
    LimitError
        If it is empty, too long, or one too many.
    NotFoundError
        If all documents to answer from are gone.
    """
    if not question.strip():
        raise LimitError(strings.EMPTY_QUESTION)
    if documents and not chosen_of(collection, documents):
        raise NotFoundError(strings.CHOSEN_GONE)
    admit(collection, question)
    if not collection.record.id:
        raise LimitError(strings.ASK_NO_DOCUMENTS)
    earlier = turns(collection, conversation)
    if conversation is None or not earlier and not _exists(collection, conversation):
        conversation = collection.store.conversations.begin(collection.record.id, question)
    marks = marks or Marks()
    state = QuestionState(question, modes, conversation=conversation, pinned=marks.pinned, excluded=marks.excluded)
    state.documents = documents
    if follow_up and earlier and leans_back(question):
        state.is_follow_up, state.previous = True, recall(collection, earlier[-1])
    return state


def leans_back(question: str) -> bool:
    """Return whether a question is understood only with the one before."""
    return len(question.split()) <= SHORT_WORDS or bool(_LEANS.search(question))


def admit(collection: OpenCollection, question: str) -> None:
    """Count a question. Raises LimitError if it is too long or one too many, ArgumentError if it has no whole text."""
    limits = collection.limiter.limits
    if len(arguments.text("question", question)) > limits.question_chars:
        raise LimitError(strings.QUESTION_TOO_LONG.format(n=len(question), limit=limits.question_chars))
    n_tokens = collection.library.engine.token_counter.count(question)
    if n_tokens > limits.question_tokens:
        raise LimitError(strings.QUESTION_TOO_MANY_TOKENS.format(n=n_tokens, limit=limits.question_tokens))
    collection.limiter.question(collection.owner)


def answer(
    collection: OpenCollection, state: QuestionState, k: int, max_new_tokens: int, modes: tuple[Mode, ...] = ()
) -> Iterator[QuestionState]:
    """Answer a question in one mode after the other, and save each answer. Of a state that is stopped meanwhile, what
    there is is saved.

    A BlockRAGError (an empty index, a question too long) ends it and becomes part of the state.

    Parameters
    ----------
    k, max_new_tokens : int
        Blocks to retrieve and length of the answer; clipped to their limits.
    modes : tuple of str
        Of a question that is answered already: the modes to answer it in (again), from the same sources.

    Yields
    ------
    QuestionState
        The same object after every event.
    """
    state.stopped, state.error = False, ""
    try:
        yield from _documents_read(collection, state)
        with collection.limiter.job(collection.owner):
            for mode in modes or state.modes:
                if state.stopped:
                    break
                yield from _answer_in(collection, state, mode, k, max_new_tokens, is_again=bool(modes))
    except BlockRAGError as error:
        state.error, state.stopped = str(error), True
    yield state


def again(collection: OpenCollection, conversation: int | None, turn_id: int, mode: Mode) -> QuestionState | None:
    """Return a saved question, to be answered in this mode too, or again; None if it is gone."""
    earlier = turns(collection, conversation)
    number = next((n for n, turn in enumerate(earlier) if turn.id == turn_id), None)
    if number is None:
        return None
    state = replace(recall(collection, earlier[number]), conversation=conversation)
    if earlier[number].is_follow_up and number:
        state.previous = recall(collection, earlier[number - 1])
    state.modes = tuple(known for known in MODES if known in (*state.modes, mode))
    for known in (state.texts, state.answers, state.first_token_ms):
        known.pop(mode, None)
    state.pinned = tuple(BlockRef(source.document_id, source.start) for source in state.sources)
    return state


def _documents_read(collection: OpenCollection, state: QuestionState) -> Iterator[QuestionState]:
    """Wait while nothing that is asked is indexed, but will be. Raises LimitError if nothing will be."""
    while not _indexed(collection, state.documents):
        jobs, id = collection.store.jobs, collection.record.id
        uploads = [upload for upload in collection.store.documents.uploads(id) if upload.state == "waiting"]
        requests = [request for request in jobs.requests(id).values() if not request.reason]
        if not (uploads or requests or collection.worker.running(id)) or jobs.is_paused(id):
            if state.documents:
                raise LimitError(strings.CHOSEN_NOT_INDEXED)
            has_documents = bool(uploads or collection.store.documents.of(id))
            raise LimitError(strings.ASK_NOT_INDEXED if has_documents else strings.ASK_NO_DOCUMENTS)
        state.is_waiting = True
        yield state
        if state.stopped:
            return
        time.sleep(WAIT_STEP_S)
    state.is_waiting = False


def _indexed(collection: OpenCollection, documents: tuple[str, ...]) -> list[str]:
    """Return the ids of these documents that are indexed; of all, if it is empty."""
    indexed = collection.store.blocks.starts(collection.record.id, collection.library.made_by)
    records = collection.store.documents.of(collection.record.id)
    return [r.document_id for r in records if r.id in indexed and (not documents or r.document_id in documents)]


def _answer_in(
    collection: OpenCollection, state: QuestionState, mode: Mode, k: int, max_new_tokens: int, *, is_again: bool
) -> Iterator[QuestionState]:
    settings, sources = collection.settings, state.sources
    state.texts[mode] = ""
    yield state
    prompt, search = _prompt(state)
    events = collection.pipeline.ask(
        prompt,
        mode,
        len(sources) if is_again else clip(k, MAX_K),
        clip(max_new_tokens, MAX_NEW_TOKENS),
        client_id=collection.client_id,
        search=search,
        pinned=state.pinned,
        excluded=() if is_again else state.excluded,
        sampling=Sampling(settings["temperature"], settings["top_p"]),
        retrieval=Retrieval(by=settings["by"], documents=() if is_again else _scope(collection, state)),
    )
    try:
        for event in events:
            if state.stopped:
                break
            if is_again and isinstance(event, Retrieved) and _spans(event.sources) != _spans(sources):
                raise LimitError(strings.SOURCES_CHANGED)
            _update(state, mode, event, collection)
            if mode in state.answers:  # saved before it is shown: what can be done with it needs its turn
                _save(collection, state, mode)
            yield state
    finally:
        events.close()
        if mode not in state.answers and state.texts[mode]:  # stopped: what there is stays
            state.answers[mode] = _partial(collection, state, mode)
            _save(collection, state, mode)
    yield state


def _scope(collection: OpenCollection, state: QuestionState) -> list[str]:
    return _indexed(collection, state.documents) if state.documents else []


def _with_scope(collection: OpenCollection, state: QuestionState, answer: Answer) -> Answer:
    """Add to an answer's notes that not all documents were searched."""
    names = [record.name for record in chosen_of(collection, state.documents)]
    if not names:
        return answer
    text = strings.SEARCHED_ONE if len(names) == 1 else strings.SEARCHED_N
    told = ", ".join(names[:MAX_NAMED]) + (" …" if len(names) > MAX_NAMED else "")
    note = text.format(name=names[0], n=len(names), names=told)
    return replace(answer, report=replace(answer.report, notes=(*answer.report.notes, note)))


def _spans(sources: tuple[Source, ...]) -> list[tuple[str, int, str]]:
    return [(source.document_id, source.start, source.text) for source in sources]


def _prompt(state: QuestionState) -> tuple[str, str | None]:
    """Return the question as the model gets it, and what to search for, if not for the question itself."""
    previous = state.previous
    if previous is None:
        return state.question, None
    said = next(iter(previous.texts.values()), "")[:FOLLOW_UP_CHARS]
    asked = previous.question[:FOLLOW_UP_CHARS]
    prompt = strings.FOLLOW_UP_PROMPT.format(question=asked, answer=said, now=state.question)
    return prompt, f"{previous.question} {state.question}"


def clip(value: float, limit: int) -> int:
    """Return a whole number from 1 to `limit`."""
    return min(max(int(value), 1), limit)


def _update(state: QuestionState, mode: Mode, event: Event, collection: OpenCollection) -> None:
    state.ahead = event.ahead if isinstance(event, Queued) else 0
    if isinstance(event, Retrieved) and not state.sources:  # of the first mode; the others get the same
        engine = collection.library.engine
        state.cached = frozenset(s.number for s in event.sources if engine.kv_key(s.text) in engine.kv)
        state.sources, state.left_out = event.sources, event.left_out
    elif isinstance(event, Piece):
        state.texts[mode] += event.text
        if event.ttft_ms is not None:
            state.first_token_ms[mode] = event.ttft_ms
    elif isinstance(event, Answer):
        question = state.question  # without the one before
        event = _with_scope(collection, state, event)
        state.answers[mode] = replace(event, question=question, sources=state.sources, left_out=state.left_out)


def _partial(collection: OpenCollection, state: QuestionState, mode: Mode) -> Answer:
    """Return what there is of an answer that was stopped. Its report knows the time to the first token alone."""
    text, first = state.texts[mode], state.first_token_ms.get(mode, 0.0)
    report = Report(mode, 0, 0, 0, 0, 0, first, 0, 0, 0, 0, 0)
    answer = Answer(state.question, text, state.sources, report, cite(text, state.sources), "closed", state.left_out)
    return _with_scope(collection, state, answer)


def _save(collection: OpenCollection, state: QuestionState, mode: Mode) -> None:
    """Add an answer to the conversation, with its question if that is not there yet."""
    conversations, id = collection.store.conversations, collection.record.id
    if state.turn is not None:
        conversations.put_answer(id, state.turn, state.answers[mode])
    elif state.conversation is not None:
        state.turn = conversations.add(id, state.conversation, [state.answers[mode]], state.is_follow_up)


def conversation_choices(collection: OpenCollection) -> list[tuple[str, int]]:
    """Return title and id of the collection's conversations, newest first, for a menu."""
    return [(record.title, record.id) for record in collection.store.conversations.of(collection.record.id)]


def turns(collection: OpenCollection, conversation: int | None) -> list[TurnRecord]:
    """Return the questions of a conversation, oldest first; none if it is gone."""
    if conversation is None:
        return []
    try:
        return list(collection.store.conversations.turns(collection.record.id, conversation))
    except NotFoundError:
        return []


def recall(collection: OpenCollection, turn: TurnRecord) -> QuestionState:
    """Return a question of a conversation with its answers and sources."""
    answers = {mode: turn.answers[mode] for mode in MODES if mode in turn.answers}
    report = answers["block"].report if "block" in answers else None
    was_cached = report is not None and report.kv_hits and not report.kv_misses
    return QuestionState(
        turn.question,
        tuple(answers),
        turn.sources,
        turn.left_out,
        frozenset(source.number for source in turn.sources) if was_cached else frozenset(),
        texts={mode: answer.text for mode, answer in answers.items()},
        answers=answers,
        turn=turn.id,
        is_follow_up=turn.is_follow_up,
        ratings={mode: turn.ratings[mode] for mode in answers if mode in turn.ratings},
        key=f"turn-{turn.id}",
    )


def saved(collection: OpenCollection) -> str:
    """Say what the cache has saved this collection so far."""
    n_answers, n_tokens, saved_ms = collection.store.conversations.saved(collection.record.id)
    if not n_answers:
        return ""
    text = strings.SAVED_TOKENS.format(n_tokens=n_tokens, n=n_answers)
    return text + (strings.SAVED_TIME.format(time=format_ms(saved_ms)) if saved_ms > 0 else "")


def _exists(collection: OpenCollection, conversation: int) -> bool:
    return any(record.id == conversation for record in collection.store.conversations.of(collection.record.id))
