"""Step 4 on the page: a question, its answers, what they cost, and their sources in their documents."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from blockrag.answer import Mode, Source
from ui import strings
from ui.blocks_step import reader
from ui.components import AnswerView, BlockView, SourcesView, TimesView
from ui.handlers import ask, blocks
from ui.handlers.ask import Exchange
from ui.visit import MODEL_QUEUE, Visit

CHOSEN: dict[str, tuple[Mode, ...]] = {"compare": ("block", "full"), "block": ("block",), "full": ("full",)}


class AskStep:
    """Layout and events of step 4."""

    def __init__(self, visit: Visit):
        self._visit = visit
        self.exchange = gr.State(Exchange())
        with gr.Row(elem_id="asking"):
            self.question = gr.Textbox(
                label=strings.QUESTION,
                placeholder=strings.QUESTION_PLACEHOLDER,
                elem_id="question",
                scale=8,
                min_width=300,
            )
            self.start = gr.Button(strings.ASK_BUTTON, variant="primary", elem_id="ask", scale=1, min_width=90)
            self.stop = gr.Button(strings.STOP, elem_id="stop-ask", scale=1, min_width=90)
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
        self._views = [self.exchange, self.times, self.block_answer, self.full_answer, self.sources]
        self._wire()

    def _wire(self) -> None:
        visit, quick = self._visit, {"show_progress": "hidden", "api_visibility": "private"}
        asked = gr.on(
            [self.start.click, self.question.submit],
            self._queued,
            [self.question, self.mode],
            self._views,
            queue=False,
            **quick,
        )
        running = asked.success(
            self._ask,
            [visit.id, self.question, self.mode, self.k, self.max_new_tokens],
            self._views,
            concurrency_id=MODEL_QUEUE,
            concurrency_limit=1,
            **quick,
        )
        self.stop.click(self._stopped, self.exchange, self._views, cancels=[running], **quick)
        shown = [self.sources, self.source]
        for clicked in (self.sources.show, self.block_answer.cite, self.full_answer.cite):
            clicked(self._show, [visit.id, self.exchange], shown, **quick)

    def _queued(self, question: str, mode: str) -> tuple[Any, ...]:
        return _drawn(ask.begin(question, CHOSEN[mode]))

    def _ask(
        self, workspace_id: str, question: str, mode: str, k: int, max_new_tokens: int
    ) -> Iterator[tuple[Any, ...]]:
        sources: tuple[Source, ...] = ()
        with self._visit.open(workspace_id) as workspace:
            for exchange in ask.ask(workspace, question, CHOSEN[mode], int(k), int(max_new_tokens)):
                *views, cards = _drawn(exchange)
                yield *views, gr.skip() if exchange.sources == sources else cards  # keeps the chosen card chosen
                sources = exchange.sources

    def _stopped(self, exchange: Exchange) -> tuple[Any, ...]:
        exchange.stopped = True
        return _drawn(exchange)

    def _show(self, workspace_id: str, exchange: Exchange, event: gr.EventData) -> tuple[Any, Any]:
        source = ask.find_source(exchange, int(event.number))
        with self._visit.open(workspace_id) as workspace:
            entry = workspace.entries.get(source.document_id) if source else None
            if source is None or entry is None:
                return ask.sources_view(exchange), blocks.source_view(workspace, None, 0, 0, "")
            caption = f"{source.document}, source {source.number}"
            view = blocks.source_view(workspace, entry.document, source.start, source.end, caption)
            return ask.sources_view(exchange, source.number), view


def _drawn(exchange: Exchange) -> tuple[Any, ...]:
    return (
        exchange,
        ask.times_view(exchange),
        ask.answer_view(exchange, "block"),
        ask.answer_view(exchange, "full"),
        ask.sources_view(exchange),
    )
