"""The conversation: questions with their answers, the box to ask in, and the sources of an answer beside it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr

from blockrag.events import Mode
from blockrag.index import BlockRef
from storage.errors import LimitError, NotFoundError
from ui import strings
from ui.blocks_tab import text_reader
from ui.components.payloads import PagePayload
from ui.components.view import BlockView, View
from ui.handlers import ask, blocks, chosen, thread
from ui.handlers.question import Marks, QuestionState, sources_view, times_view
from ui.open_collection import OpenCollection
from ui.session import QUESTIONS, QUICK, Session, Updates

CHOSEN: dict[str, tuple[Mode, ...]] = {"compare": ("block", "full"), "block": ("block",), "full": ("full",)}

REDRAW_S = 0.1
"""Between two views of an answer that is being written."""

FOCUS = "() => document.querySelector('#question textarea').focus()"
GO_TO_SOURCES, GO_TO_SOURCE = (
    f"() => {{ if (innerWidth <= 900) document.querySelector('{id}').scrollIntoView({{ block: 'start' }}); }}"
    for id in ("#beside", "#source")
)
"""On a narrow screen the sources are below the conversation."""


@dataclass
class Shown:
    """What a page shows: the conversation, the turn whose sources it lists, the source that is open, what its reader
    marked, the documents that are asked (all, if there are none); and how many of its events are streaming answers
    now."""

    conversation: int | None = None
    turn: int | None = None
    number: int | None = None
    marks: Marks = field(default_factory=Marks)
    documents: tuple[str, ...] = ()
    streams: int = 0


class ConversationPanel:
    """Layout and events of the conversation and its sources. `open` sets `outputs`, `stream` sets `streamed`."""

    def __init__(self, session: Session):
        self._session, self._questions = session, session.service.questions
        self.shown = gr.State(Shown(), time_to_live=4 * 3600)

    def lay_out_thread(self) -> None:
        """Lay out the conversation and the box to ask in."""
        with gr.Row(elem_classes="beside", elem_id="conversations"):
            self.conversation = gr.Dropdown(
                label=strings.CONVERSATION,
                show_label=False,
                choices=[],
                interactive=True,
                elem_id="conversation",
                scale=3,
                container=False,
            )
            self.new = gr.Button(strings.NEW_CONVERSATION, elem_id="new-conversation", min_width=60)
            self.delete = gr.Button(strings.DELETE_CONVERSATION, elem_id="delete-conversation", min_width=60)
        self.thread = View("thread", {"turns": []}, scripts=["markdown"], elem_id="thread")
        self.scope = gr.Markdown(visible=False, elem_id="scope")
        with gr.Row(elem_id="asking"):
            self.question = gr.Textbox(
                label=strings.QUESTION,
                show_label=False,
                placeholder=strings.QUESTION_PLACEHOLDER,
                elem_id="question",
                lines=1,
                max_lines=6,
                scale=8,
                min_width=200,
                container=False,
            )
            self.start = gr.Button(strings.ASK_BUTTON, variant="primary", elem_id="ask", scale=1, min_width=72)
            self.stop = gr.Button(strings.STOP, elem_id="stop-ask", scale=1, min_width=72, interactive=False)
        with gr.Accordion(strings.MORE, open=False, elem_id="more"):
            self.follow_up = gr.Checkbox(
                True, label=strings.FOLLOW_UP, info=strings.FOLLOW_UP_INFO, elem_id="follow-up", container=False
            )
            with gr.Row():
                self.mode = gr.Radio(
                    list(strings.MODES.items()),
                    value="block",
                    label=strings.MODE,
                    info=strings.MODE_INFO,
                    elem_id="mode",
                )
                self.k = gr.Slider(1, ask.MAX_K, 8, step=1, label=strings.K, elem_id="k")
                self.max_new_tokens = gr.Slider(
                    8, ask.MAX_NEW_TOKENS, 96, step=8, label=strings.MAX_NEW_TOKENS, elem_id="length"
                )

    def lay_out_sources(self) -> None:
        """Lay out the sources of an answer."""
        gr.Markdown(strings.SOURCES, elem_classes="heading")
        self.sources = View("sources", {"empty": strings.NO_SOURCES}, elem_id="sources")
        self.source = BlockView(
            {"empty": strings.NO_SOURCE}, elem_id="source", server_functions=[text_reader(self._session)]
        )
        self.page = View("pdf_page", {}, elem_id="page")
        self.times = View("times", {"bars": []}, elem_id="times")

    def wire(self) -> None:
        """Connect the events."""
        visitor, shown = self._session.visitor, self.shown
        drawn = [
            self.thread,
            self.sources,
            self.times,
            self.stop,
            self.conversation,
            self.delete,
            self.scope,
            shown,
        ]
        self.streamed = drawn
        self.outputs = [*drawn, self.mode, self.k, self.max_new_tokens, self.source, self.page, visitor]
        options = [self.mode, self.k, self.max_new_tokens, self.follow_up]
        asking = {"trigger_mode": "multiple", **QUICK}
        submitted = gr.on(
            [self.start.click, self.question.submit],
            self._submit,
            [visitor, shown, self.question, *options],
            [*drawn, self.question, visitor],
            **asking,
        )
        clicked = self.thread.ask(self._submit_clicked, [visitor, shown, *options], [*drawn, visitor], **asking)
        compared = self.thread.compare(self._compare, [visitor, shown, self.max_new_tokens], drawn, **asking)
        longer = self.thread.longer(self._longer, [visitor, shown, self.max_new_tokens], drawn, **asking)
        for event in (submitted, clicked, compared, longer):
            event.success(self.stream, [visitor, shown], drawn, trigger_mode="multiple", **QUICK, **QUESTIONS)
        self.stop.click(self._stop, [visitor, shown], None, queue=False, **QUICK)
        edited = self.thread.edit(self._edit, None, self.question, queue=False, **QUICK)
        edited.then(None, None, None, js=FOCUS)
        cited = self.thread.cite(self._show_source, [visitor, shown], [*drawn, self.source], **QUICK)
        cited.then(None, None, None, js=GO_TO_SOURCE)
        self.thread.select(self._select, [visitor, shown], drawn, **QUICK).then(None, None, None, js=GO_TO_SOURCES)
        self.thread.rate(self._rate, [visitor, shown], drawn, **QUICK)
        opened = self.sources.show(self._show_source, [visitor, shown], [*drawn, self.source], **QUICK)
        for event in (cited, opened):
            event.success(self._show_page, [visitor, shown], self.page, **QUICK)
        for event, handler in ((self.sources.mark, self._mark), (self.sources.restore, self._restore)):
            event(handler, [visitor, shown], [shown, self.sources], **QUICK)
        chosen = self.conversation.input(
            self._choose, [visitor, shown, self.conversation], [*drawn, self.source, self.page, visitor], **QUICK
        )
        begun = self.new.click(self._begin, [visitor, shown], [*drawn, self.source, self.page, visitor], **QUICK)
        deleted = self.delete.click(self._delete, [visitor, shown], [*drawn, self.source, self.page, visitor], **QUICK)
        for event in (chosen, begun, deleted):
            event.success(self.stream, [visitor, shown], drawn, **QUICK, **QUESTIONS)

    def open(self, visitor: Any, shown: Shown, request: gr.Request) -> Updates:
        """Show a collection that was just opened: the conversation that this browser had open, and its owner's
        settings."""
        with self._session.open(visitor, request) as collection:
            settings = collection.settings
            known = [id for _, id in ask.conversation_choices(collection)]
            last = visitor.get("conversation") if isinstance(visitor, dict) else None
            return {
                **self._turn_to(collection, shown, last if last in known else None),
                self.mode: settings["mode"],
                self.k: settings["k"],
                self.max_new_tokens: settings["max_new_tokens"],
            }

    def stream(self, visitor: Any, shown: Shown, request: gr.Request) -> Iterator[Updates]:
        """Show the open conversation while it is answered, and how it ends."""
        with self._session.open(visitor, request) as collection:
            conversation, id = shown.conversation, collection.record.id
            version, sources, live, saved = -1, None, None, None
            shown.streams += 1
            try:
                while shown.conversation == conversation and self._questions.is_active(id, conversation):
                    if (seen := self._questions.wait(version, 1.0)) == version:
                        continue
                    version, now = seen, [state.key for state in self._questions.live(id, conversation)]
                    if now != live:
                        live, saved = now, thread.saved(collection, conversation)
                    updates = self.draw(collection, shown, saved, with_menu=False)
                    if updates[self.sources] == sources:
                        del updates[self.sources]  # keeps the selected card
                    else:
                        sources = updates[self.sources]
                    yield updates
                    time.sleep(REDRAW_S)
            finally:
                shown.streams -= 1
            if shown.conversation == conversation:
                yield self.draw(collection, shown)

    def draw(
        self,
        collection: OpenCollection,
        shown: Shown,
        saved: list[QuestionState] | None = None,
        *,
        with_menu: bool = True,
    ) -> Updates:
        """Draw the conversation as it is now. `saved` are its questions in the database, if they were read already."""
        conversation = shown.conversation  # may change meanwhile
        states = thread.thread(collection, self._questions, conversation, saved)
        state = thread.selection(states, shown.turn) or QuestionState()
        view = thread.view(collection, self._questions, conversation, states, state)
        updates: Updates = {
            self.thread: view,
            self.sources: sources_view(state, shown.marks, shown.number),
            self.times: times_view(state) if len(state.modes) > 1 else {"bars": []},
            self.stop: gr.Button(interactive=view["busy"]),
            self.shown: shown,
        }
        if with_menu:
            scope = chosen.scope(collection, shown.documents)
            updates[self.scope] = gr.Markdown(scope, visible=bool(scope))
            choices = ask.conversation_choices(collection)
            known = conversation in [id for _, id in choices]
            value = conversation if known else None
            updates[self.conversation] = gr.Dropdown(choices=choices, value=value)
            updates[self.delete] = gr.Button(interactive=known)
        return updates

    def _submit(
        self,
        visitor: Any,
        shown: Shown,
        question: str,
        mode: str,
        k: int,
        max_new_tokens: int,
        follow_up: bool,
        request: gr.Request,
    ) -> Updates:
        updates = self._ask(visitor, shown, question, mode, k, max_new_tokens, follow_up, request)
        return {**updates, self.question: ""}

    def _submit_clicked(
        self,
        visitor: Any,
        shown: Shown,
        mode: str,
        k: int,
        max_new_tokens: int,
        follow_up: bool,
        request: gr.Request,
        event: gr.EventData,
    ) -> Updates:
        return self._ask(visitor, shown, str(event.question), mode, k, max_new_tokens, follow_up, request)

    def _ask(
        self,
        visitor: Any,
        shown: Shown,
        question: str,
        mode: str,
        k: int,
        max_new_tokens: int,
        follow_up: bool,
        request: gr.Request,
    ) -> Updates:
        with self._session.open(visitor, request) as collection:
            state = ask.begin(
                collection, question, CHOSEN[mode], shown.conversation, shown.marks,
                follow_up=follow_up, documents=shown.documents,
            )  # fmt: skip
            self._answer(collection, state, partial(ask.answer, collection, state, k, max_new_tokens))
            shown.conversation, shown.turn, shown.number = state.conversation, None, None
            return {**self.draw(collection, shown), self._session.visitor: self._kept(collection, visitor, shown)}

    def _answer(self, collection: OpenCollection, state: QuestionState, answering: Any) -> None:
        if not self._questions.submit(collection, state, answering):
            raise LimitError(strings.TOO_MANY_WAITING)

    def _compare(self, visitor: Any, shown: Shown, length: int, request: gr.Request, event: gr.EventData) -> Updates:
        with self._session.open(visitor, request) as collection:
            states = thread.thread(collection, self._questions, shown.conversation)
            found = next((state for state in states if state.turn == int(event.turn)), QuestionState())
            mode: Mode = "block" if "full" in found.modes else "full"
            return self._again(collection, shown, int(event.turn), mode, length)

    def _longer(self, visitor: Any, shown: Shown, length: int, request: gr.Request, event: gr.EventData) -> Updates:
        with self._session.open(visitor, request) as collection:
            states = thread.thread(collection, self._questions, shown.conversation)
            found = next((state for state in states if state.turn == int(event.turn)), QuestionState())
            mode: Mode = next(iter(found.answers), "block")
            n_tokens = found.answers[mode].report.n_new_tokens if found.answers else length
            return self._again(collection, shown, int(event.turn), mode, 2 * n_tokens)

    def _again(self, collection: OpenCollection, shown: Shown, turn: int, mode: Mode, length: int) -> Updates:
        """Answer a saved question in this mode too, or again."""
        state = ask.again(collection, shown.conversation, turn, mode)
        if state is None:
            raise NotFoundError(strings.QUESTION_GONE)
        ask.admit(collection, state.question)
        self._answer(collection, state, partial(ask.answer, collection, state, ask.MAX_K, length, (mode,)))
        shown.turn, shown.number = turn, None
        return self.draw(collection, shown)

    def _stop(self, visitor: Any, shown: Shown, request: gr.Request) -> None:
        with self._session.open(visitor, request) as collection:
            self._questions.stop(collection.record.id, shown.conversation)

    def _edit(self, event: gr.EventData) -> str:
        return str(event.question)

    def _show_source(self, visitor: Any, shown: Shown, request: gr.Request, event: gr.EventData) -> Updates:
        """Open a source in its document: of the turn that cites it, or of the one whose sources are listed."""
        with self._session.open(visitor, request) as collection:
            shown.turn = getattr(event, "turn", None) or shown.turn
            states = thread.thread(collection, self._questions, shown.conversation)
            state = thread.selection(states, shown.turn) or QuestionState()
            source = state.source(int(event.number))
            view = blocks.source_view(collection, source, str(getattr(event, "statement", "")))
            shown.number = source.number if source and "empty" not in view else None
            return {**self.draw(collection, shown), self.source: view}

    def _show_page(self, visitor: Any, shown: Shown, request: gr.Request) -> PagePayload:
        """Show the page that the open source begins on."""
        with self._session.open(visitor, request) as collection:
            state = thread.selection(thread.thread(collection, self._questions, shown.conversation), shown.turn)
            return blocks.page_view(collection, state.source(shown.number) if state and shown.number else None)

    def _select(self, visitor: Any, shown: Shown, request: gr.Request, event: gr.EventData) -> Updates:
        with self._session.open(visitor, request) as collection:
            shown.turn, shown.number = int(event.turn), None
            return self.draw(collection, shown)

    def _rate(self, visitor: Any, shown: Shown, request: gr.Request, event: gr.EventData) -> Updates:
        with self._session.open(visitor, request) as collection:
            rating = {1: 1, -1: -1}.get(int(event.rating))
            collection.store.conversations.rate(collection.record.id, int(event.turn), str(event.mode), rating)
            return self.draw(collection, shown)

    def _mark(self, visitor: Any, shown: Shown, request: gr.Request, event: gr.EventData) -> Updates:
        with self._session.open(visitor, request) as collection:
            states = thread.thread(collection, self._questions, shown.conversation)
            state = thread.selection(states, shown.turn) or QuestionState()
            shown.marks.mark(state.source(int(event.number)), str(event.action))
            return {self.shown: shown, self.sources: sources_view(state, shown.marks, shown.number)}

    def _restore(self, visitor: Any, shown: Shown, request: gr.Request, event: gr.EventData) -> Updates:
        with self._session.open(visitor, request) as collection:
            shown.marks.restore(BlockRef(str(event.doc), int(event.start)))
            states = thread.thread(collection, self._questions, shown.conversation)
            state = thread.selection(states, shown.turn) or QuestionState()
            return {self.shown: shown, self.sources: sources_view(state, shown.marks, shown.number)}

    def _choose(self, visitor: Any, shown: Shown, conversation: int | None, request: gr.Request) -> Updates:
        with self._session.open(visitor, request) as collection:
            return self._turn_to(collection, shown, conversation, visitor)

    def _begin(self, visitor: Any, shown: Shown, request: gr.Request) -> Updates:
        with self._session.open(visitor, request) as collection:
            return self._turn_to(collection, shown, None, visitor)

    def _delete(self, visitor: Any, shown: Shown, request: gr.Request) -> Updates:
        with self._session.open(visitor, request) as collection:
            if shown.conversation is not None:
                self._questions.stop(collection.record.id, shown.conversation)
                collection.store.conversations.delete(collection.record.id, shown.conversation)
            return self._turn_to(collection, shown, None, visitor)

    def _turn_to(
        self, collection: OpenCollection, shown: Shown, conversation: int | None, visitor: Any = None
    ) -> Updates:
        shown.conversation, shown.turn, shown.number, shown.marks = conversation, None, None, Marks()
        kept = {} if visitor is None else {self._session.visitor: self._kept(collection, visitor, shown)}
        return {**self.draw(collection, shown), self.source: {"empty": strings.NO_SOURCE}, self.page: {}, **kept}

    @staticmethod
    def _kept(collection: OpenCollection, visitor: Any, shown: Shown) -> dict:
        """What the browser keeps, so that a reload shows the same conversation. A new visitor's collection has its
        number by now."""
        return {**visitor, "collection": collection.record.id, "conversation": shown.conversation}
