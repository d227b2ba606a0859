"""The Index tab: index all documents, watch, stop."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ui import strings
from ui.components.payloads import ProgressPayload
from ui.components.view import View
from ui.handlers import index
from ui.session import JOBS, QUICK, Session


class IndexTab:
    """Layout and events of the tab. `indexed` fires after indexing ended."""

    def __init__(self, session: Session):
        self._session = session
        gr.Markdown(strings.INDEX_EXPLAINED)
        self.view = View("progress", {"empty": strings.NOTHING_TO_INDEX}, elem_id="progress")
        with gr.Row(elem_classes="actions"):
            self.start = gr.Button(strings.INDEX_BUTTON, variant="primary", elem_id="index")
            self.stop = gr.Button(strings.STOP, elem_id="stop-index")
            self.next = gr.Button(strings.NEXT_ASK, elem_id="next-ask")
        started = self.start.click(self._start, session.visitor, self.view, queue=False, **QUICK)
        self.indexed = started.then(self._index, session.visitor, self.view, **QUICK, **JOBS)
        self.stop.click(self._stop, session.visitor, self.view, queue=False, **QUICK)

    def overview(self, visitor: Any, request: gr.Request) -> ProgressPayload:
        """Show what is indexed and what is not."""
        with self._session.open(visitor, request) as collection:
            return index.overview(collection)

    def _start(self, visitor: Any, request: gr.Request) -> ProgressPayload:
        with self._session.open(visitor, request) as collection:
            return index.start(collection)

    def _stop(self, visitor: Any, request: gr.Request) -> ProgressPayload:
        with self._session.open(visitor, request) as collection:
            return index.stop(collection)

    def _index(self, visitor: Any, request: gr.Request) -> Iterator[ProgressPayload]:
        with self._session.open(visitor, request) as collection:
            yield from index.index_all(collection)
