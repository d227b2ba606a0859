"""Ask on the page: a question, its answers, what they cost, their sources in their documents, and what was asked
before."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from blockrag.events import Mode, Source
from ui import strings
from ui.blocks_tab import reader
from ui.components import AnswerView, BlockView, SourcesView, TimesView, TurnsView
from ui.handlers import ask, blocks, conversations, question_views
from ui.handlers.question_state import QuestionState, begin, find_source, mark
from ui.session import ASKING, QUICK, Session

CHOSEN: dict[str, tuple[Mode, ...]] = {"compare": ("block", "full"), "block": ("block",), "full": ("full",)}


class AskTab:
    """Layout and events of the tab."""

    def __init__(self, visit: Session):
        self._visit = visit
        self.exchange = gr.State(QuestionState(), time_to_live=4 * 3600)
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
            self.again = gr.Button(strings.RETRY, elem_id="again", scale=1, min_width=80)
        self.follow_up = gr.Checkbox(False, label=strings.FOLLOW_UP, elem_id="follow-up", container=False)
        with gr.Accordion(strings.MORE, open=False), gr.Row():
            self.mode = gr.Radio(
                list(strings.MODES.items()), value="compare", label=strings.MODE, info=strings.MODE_INFO, elem_id="mode"
            )
            self.k = gr.Slider(1, 32, 8, step=1, label=strings.K, elem_id="k")
            self.max_new_tokens = gr.Slider(8, 512, 96, step=8, label=strings.MAX_NEW_TOKENS, elem_id="length")
        with gr.Row():
            with gr.Column(min_width=300):
                self.block_answer = AnswerView({"empty": strings.NO_ANSWER}, elem_id="block-answer")
            with gr.Column(min_width=300):
                self.full_answer = AnswerView({"empty": strings.NO_FULL_ANSWER}, elem_id="full-answer")
            with gr.Column(min_width=300):
                self.times = TimesView({"empty": strings.NO_TIMES}, elem_id="times")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                gr.Markdown(strings.SOURCES, elem_classes="heading")
                self.sources = SourcesView({"empty": strings.NO_SOURCES}, elem_id="sources")
            with gr.Column(scale=3, min_width=300):
                gr.Markdown(strings.IN_DOCUMENT, elem_classes="heading")
                self.source = BlockView(
                    {"empty": strings.NO_SOURCE}, elem_id="source", server_functions=[reader(visit)]
                )
        with gr.Accordion(strings.HISTORY, open=True, elem_id="history"):
            with gr.Row(elem_classes="beside"):
                self.conversation = gr.Dropdown(
                    label=strings.CONVERSATION, choices=[], interactive=True, elem_id="conversation", scale=3
                )
                self.fresh = gr.Button(strings.NEW_CONVERSATION, elem_id="new-conversation", min_width=140)
                self.delete = gr.Button(strings.DELETE_CONVERSATION, elem_id="delete-conversation", min_width=100)
            self.turns = TurnsView({"empty": strings.NO_HISTORY}, elem_id="turns")
        self._views = [self.exchange, self.times, self.block_answer, self.full_answer, self.sources]
        self._wire()

    def _wire(self) -> None:
        id, talk = self._visit.id, [self.conversation, self.turns]
        for trigger in ([self.start.click, self.question.submit], [self.again.click]):
            asked = gr.on(
                trigger, self._queued, [self.question, self.mode, self.exchange], self._views, queue=False, **QUICK
            )
            settings = [self.mode, self.k, self.max_new_tokens, self.exchange, self.follow_up]
            running = asked.success(self._ask, [id, self.question, *settings], self._views, **QUICK, **ASKING)
            running.then(self._history, [id, self.exchange], talk, **QUICK)
            self.stop.click(self._stopped, self.exchange, self._views, cancels=[running], **QUICK)
        for clicked in (self.sources.show, self.block_answer.cite, self.full_answer.cite):
            clicked(self._show, [id, self.exchange], [self.sources, self.source], **QUICK)
        self.sources.mark(self._mark, self.exchange, [self.exchange, self.sources], **QUICK)
        self.turns.recall(self._recall, [id, self.conversation], [self.question, *self._views], **QUICK)
        self.conversation.input(self._open, [id, self.conversation], [self.turns, self.exchange], **QUICK)
        self.fresh.click(self._begin, id, [*talk, *self._views], **QUICK)
        self.delete.click(self._delete, [id, self.conversation], [*talk, *self._views], **QUICK)

    def opened(self, visit: Any, request: gr.Request) -> tuple[Any, ...]:
        """A collection was opened: its conversations, none of them begun, and the visitor's settings."""
        with self._visit.open(visit, request) as workspace:
            settings = workspace.settings
            talk = self._begin(visit, request)
            return *talk, settings["mode"], settings["k"], settings["max_new_tokens"], {"empty": strings.NO_SOURCE}

    @property
    def shown(self) -> list[Any]:
        """What `opened` sets."""
        return [
            self.conversation, self.turns, *self._views, self.mode, self.k, self.max_new_tokens, self.source,
        ]  # fmt: skip

    def _queued(self, question: str, mode: str, before: QuestionState) -> tuple[Any, ...]:
        _, *views = _drawn(begin(question, CHOSEN[mode]))
        return before, *views  # the exchange before stays, for what follows it

    def _ask(
        self,
        visit: Any,
        question: str,
        mode: str,
        k: int,
        max_new_tokens: int,
        before: QuestionState,
        follow_up: bool,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        sources: tuple[Source, ...] = ()
        with self._visit.open(visit, request) as workspace:
            modes, most = CHOSEN[mode], min(max(int(max_new_tokens), 1), 512)
            for exchange in ask.ask(
                workspace, question, modes, min(max(int(k), 1), 32), most, before, follow_up=follow_up
            ):
                *views, cards = _drawn(exchange)
                yield *views, gr.skip() if exchange.sources == sources else cards  # keeps the chosen card chosen
                sources = exchange.sources

    def _stopped(self, exchange: QuestionState) -> tuple[Any, ...]:
        exchange.stopped = True
        return _drawn(exchange)

    def _show(self, visit: Any, exchange: QuestionState, request: gr.Request, event: gr.EventData) -> tuple[Any, Any]:
        source = find_source(exchange, int(event.number))
        with self._visit.open(visit, request) as workspace:
            entry = workspace.entry(source.document_id) if source else None
            if source is None or entry is None:
                return question_views.sources_view(exchange), blocks.source_view(workspace, None, 0, 0, "")
            caption = f"{source.document}, source {source.number}"
            view = blocks.source_view(workspace, entry.document, source.start, source.end, caption)
            return question_views.sources_view(exchange, source.number), view

    def _mark(self, exchange: QuestionState, event: gr.EventData) -> tuple[QuestionState, Any]:
        mark(exchange, int(event.number), str(event.what))
        return exchange, question_views.sources_view(exchange)

    def _history(self, visit: Any, exchange: QuestionState, request: gr.Request) -> tuple[Any, Any]:
        with self._visit.open(visit, request) as workspace:
            menu = gr.Dropdown(choices=conversations.history(workspace), value=exchange.conversation)
            return menu, conversations.turns_view(workspace, exchange.conversation)

    def _open(self, visit: Any, conversation: int | None, request: gr.Request) -> tuple[Any, QuestionState]:
        with self._visit.open(visit, request) as workspace:
            return conversations.turns_view(workspace, conversation), QuestionState(conversation=conversation)

    def _recall(self, visit: Any, conversation: int | None, request: gr.Request, event: gr.EventData) -> tuple:
        with self._visit.open(visit, request) as workspace:
            exchange = conversations.recall(workspace, conversation, int(event.turn))
            return exchange.question, *_drawn(exchange)

    def _begin(self, visit: Any, request: gr.Request) -> tuple[Any, ...]:
        with self._visit.open(visit, request) as workspace:
            menu = gr.Dropdown(choices=conversations.history(workspace), value=None)
            return menu, conversations.turns_view(workspace, None), *_drawn(QuestionState())

    def _delete(self, visit: Any, conversation: int | None, request: gr.Request) -> tuple[Any, ...]:
        with self._visit.open(visit, request) as workspace:
            if conversation is not None:
                workspace.store.conversations.delete(workspace.record.id, conversation)
        return self._begin(visit, request)


def _drawn(exchange: QuestionState) -> tuple[Any, ...]:
    return (
        exchange,
        question_views.times_view(exchange),
        question_views.answer_view(exchange, "block"),
        question_views.answer_view(exchange, "full"),
        question_views.sources_view(exchange),
    )
