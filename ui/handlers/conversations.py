"""Conversations that a collection keeps: for a menu, as the page lists them, and an exchange of one as it was."""

from typing import Any

from storage.errors import NotFoundError
from ui import strings
from ui.handlers.question_state import QuestionState
from ui.handlers.question_views import CARD_CHARS, TITLES, time_text
from ui.open_collection import OpenCollection


def history(workspace: OpenCollection) -> list[tuple[str, int]]:
    """Title and id of the collection's conversations, for a menu."""
    return [(record.title, record.id) for record in workspace.store.conversations.of(workspace.record.id)]


def turns_view(workspace: OpenCollection, conversation: int | None) -> dict[str, Any]:
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


def recall(workspace: OpenCollection, conversation: int | None, turn_id: int) -> QuestionState:
    """An exchange of a conversation as it was. An empty one where it is gone."""
    if conversation is None:
        return QuestionState()
    try:
        turns = workspace.store.conversations.turns(workspace.record.id, conversation)
    except NotFoundError:
        return QuestionState()
    for turn in turns:
        if turn.id == turn_id:
            answers = {mode: turn.answers[mode] for mode in TITLES if mode in turn.answers}
            texts = {mode: answer.text for mode, answer in answers.items()}
            return QuestionState(
                turn.question,
                tuple(answers),
                turn.sources,
                turn.left_out,
                texts=texts,
                answers=answers,
                conversation=conversation,
            )
    return QuestionState()


def saved(workspace: OpenCollection) -> str:
    """What block KV has saved this collection so far."""
    n_answers, n_tokens, saved_ms = workspace.store.conversations.saved(workspace.record.id)
    if not n_answers:
        return ""
    answers = "one answer" if n_answers == 1 else f"{n_answers} answers"
    total = f"{n_tokens:,} tokens were not computed again over {answers}"
    return total + (f"; {time_text(saved_ms)} less waiting where both modes were measured" if saved_ms > 0 else "")
