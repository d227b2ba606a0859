"""The Ask tab: a question, its answers, their cost and sources, and the conversations so far."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from blockrag.events import Mode
from ui import strings
from ui.blocks_tab import text_reader
from ui.components.view import BlockView, View
from ui.handlers import ask, blocks
from ui.handlers.question import QuestionState, answer_view, sources_view, times_view
from ui.session import QUESTIONS, QUICK, Session, Updates

CHOSEN: dict[str, tuple[Mode, ...]] = {"compare": ("block", "full"), "block": ("block",), "full": ("full",)}


class AskTab:
    """Layout and events of the tab. `open` sets `outputs`."""

    def __init__(self, session: Session):
        self._session = session
        self.state = gr.State(QuestionState(), time_to_live=4 * 3600)
        self._lay_out_question()
        with gr.Row():
            with gr.Column(min_width=300):
                self.block_answer = View("answer", {"empty": strings.NO_ANSWER}, elem_id="block-answer")
            with gr.Column(min_width=300):
                self.full_answer = View("answer", {"empty": strings.NO_FULL_ANSWER}, elem_id="full-answer")
            with gr.Column(min_width=300):
                self.times = View("times", {"empty": strings.NO_TIMES}, elem_id="times")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                gr.Markdown(strings.SOURCES, elem_classes="heading")
                self.sources = View("sources", {"empty": strings.NO_SOURCES}, elem_id="sources")
            with gr.Column(scale=3, min_width=300):
                gr.Markdown(strings.IN_DOCUMENT, elem_classes="heading")
                self.source = BlockView(
                    {"empty": strings.NO_SOURCE}, elem_id="source", server_functions=[text_reader(session)]
                )
        with gr.Accordion(strings.HISTORY, open=True, elem_id="history"):
            with gr.Row(elem_classes="beside"):
                self.conversation = gr.Dropdown(
                    label=strings.CONVERSATION, choices=[], interactive=True, elem_id="conversation", scale=3
                )
                self.new = gr.Button(strings.NEW_CONVERSATION, elem_id="new-conversation", min_width=140)
                self.delete = gr.Button(strings.DELETE_CONVERSATION, elem_id="delete-conversation", min_width=100)
            self.turns = View("turns", {"empty": strings.NO_HISTORY}, elem_id="turns")
        self._answer_outputs = [self.state, self.times, self.block_answer, self.full_answer, self.sources]
        self._conversation_outputs = [self.conversation, self.turns, *self._answer_outputs]
        self.outputs = [*self._conversation_outputs, self.mode, self.k, self.max_new_tokens, self.source]
        self._wire()

    def _lay_out_question(self) -> None:
        with gr.Row(elem_id="asking"):
            self.question = gr.Textbox(
                label=strings.QUESTION,
                placeholder=strings.QUESTION_PLACEHOLDER,
                elem_id="question",
                scale=8,
                min_width=300,
            )
            self.start = gr.Button(strings.ASK_BUTTON, variant="primary", elem_id="ask", scale=1, min_width=80)
            self.stop = gr.Button(strings.STOP, elem_id="stop-ask", scale=1, min_width=80)
            self.again = gr.Button(strings.ASK_AGAIN, elem_id="again", scale=1, min_width=80)
        self.follow_up = gr.Checkbox(False, label=strings.FOLLOW_UP, elem_id="follow-up", container=False)
        with gr.Accordion(strings.MORE, open=False), gr.Row():
            self.mode = gr.Radio(
                list(strings.MODES.items()), value="compare", label=strings.MODE, info=strings.MODE_INFO, elem_id="mode"
            )
            self.k = gr.Slider(1, ask.MAX_K, 8, step=1, label=strings.K, elem_id="k")
            self.max_new_tokens = gr.Slider(
                8, ask.MAX_NEW_TOKENS, 96, step=8, label=strings.MAX_NEW_TOKENS, elem_id="length"
            )

    def _wire(self) -> None:
        visitor, outputs, conversation = self._session.visitor, self._answer_outputs, self._conversation_outputs
        for trigger in ([self.start.click, self.question.submit], [self.again.click]):
            queued = gr.on(trigger, self._queue, [self.question, self.mode], outputs, queue=False, **QUICK)
            options = [self.mode, self.k, self.max_new_tokens, self.state, self.follow_up]
            running = queued.success(self._ask, [visitor, self.question, *options], outputs, **QUICK, **QUESTIONS)
            running.then(self._list_conversations, [visitor, self.state], [self.conversation, self.turns], **QUICK)
            self.stop.click(self._stop, self.state, outputs, cancels=[running], **QUICK)
        for clicked in (self.sources.show, self.block_answer.cite, self.full_answer.cite):
            clicked(self._show_source, [visitor, self.state], [self.sources, self.source], **QUICK)
        self.sources.mark(self._mark, self.state, [self.state, self.sources], **QUICK)
        self.turns.recall(self._recall, [visitor, self.conversation], [self.question, *outputs], **QUICK)
        self.conversation.input(
            self._open_conversation, [visitor, self.conversation], [self.turns, self.state], **QUICK
        )
        self.new.click(self._begin, visitor, conversation, **QUICK)
        self.delete.click(self._delete, [visitor, self.conversation], conversation, **QUICK)

    def open(self, visitor: Any, request: gr.Request) -> Updates:
        """Show a collection that was just opened: its conversations and its owner's settings."""
        with self._session.open(visitor, request) as collection:
            settings = collection.settings
        return {
            **self._begin(visitor, request),
            self.mode: settings["mode"],
            self.k: settings["k"],
            self.max_new_tokens: settings["max_new_tokens"],
            self.source: {"empty": strings.NO_SOURCE},
        }

    def _queue(self, question: str, mode: str) -> Updates:
        updates = self._draw(QuestionState.begin(question, CHOSEN[mode]))
        del updates[self.state]  # the question that is about to start needs the previous one
        return updates

    def _ask(
        self,
        visitor: Any,
        question: str,
        mode: str,
        k: int,
        max_new_tokens: int,
        previous: QuestionState,
        follow_up: bool,
        request: gr.Request,
    ) -> Iterator[Updates]:
        drawn = None
        with self._session.open(visitor, request) as collection:
            for state in ask.ask(collection, question, CHOSEN[mode], k, max_new_tokens, previous, follow_up=follow_up):
                updates = self._draw(state)
                if state.sources == drawn:
                    del updates[self.sources]  # keeps the selected card
                yield updates
                drawn = state.sources

    def _stop(self, state: QuestionState) -> Updates:
        state.stopped = True
        return self._draw(state)

    def _show_source(self, visitor: Any, state: QuestionState, request: gr.Request, event: gr.EventData) -> Updates:
        source = state.source(int(event.number))
        with self._session.open(visitor, request) as collection:
            view = blocks.source_view(collection, source)
            number = source.number if source and "empty" not in view else None
            return {self.sources: sources_view(state, number), self.source: view}

    def _mark(self, state: QuestionState, event: gr.EventData) -> Updates:
        state.mark(int(event.number), str(event.action))
        return {self.state: state, self.sources: sources_view(state)}

    def _list_conversations(self, visitor: Any, state: QuestionState, request: gr.Request) -> Updates:
        with self._session.open(visitor, request) as collection:
            choices = ask.conversation_choices(collection)
            return {
                self.conversation: gr.Dropdown(choices=choices, value=state.conversation),
                self.turns: ask.turns_view(collection, state.conversation),
            }

    def _open_conversation(self, visitor: Any, conversation: int | None, request: gr.Request) -> Updates:
        with self._session.open(visitor, request) as collection:
            return {
                self.turns: ask.turns_view(collection, conversation),
                self.state: QuestionState(conversation=conversation),
            }

    def _recall(self, visitor: Any, conversation: int | None, request: gr.Request, event: gr.EventData) -> Updates:
        with self._session.open(visitor, request) as collection:
            state = ask.recall(collection, conversation, int(event.turn))
            return {self.question: state.question, **self._draw(state)}

    def _begin(self, visitor: Any, request: gr.Request) -> Updates:
        state = QuestionState()
        return {**self._list_conversations(visitor, state, request), **self._draw(state)}

    def _delete(self, visitor: Any, conversation: int | None, request: gr.Request) -> Updates:
        with self._session.open(visitor, request) as collection:
            if conversation is not None:
                collection.store.conversations.delete(collection.record.id, conversation)
        return self._begin(visitor, request)

    def _draw(self, state: QuestionState) -> Updates:
        return {
            self.state: state,
            self.times: times_view(state),
            self.block_answer: answer_view(state, "block"),
            self.full_answer: answer_view(state, "full"),
            self.sources: sources_view(state),
        }
