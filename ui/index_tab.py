"""The Index tab: which documents are indexed, and where their KV is; index by hand, stop."""

from typing import Any

import gradio as gr

from ui import strings
from ui.components.payloads import ProgressPayload
from ui.components.view import View
from ui.handlers import index
from ui.session import QUICK, Session


class IndexTab:
    """Layout and events of the tab."""

    def __init__(self, session: Session):
        self._session = session
        gr.Markdown(strings.INDEX_EXPLAINED)
        self.view = View("progress", {"empty": strings.NOTHING_TO_INDEX}, elem_id="progress")
        with gr.Row(elem_classes="actions"):
            self.start = gr.Button(strings.INDEX_BUTTON, variant="primary", elem_id="index")
            self.stop = gr.Button(strings.STOP, elem_id="stop-index")
        self.start.click(self._start, session.visitor, self.view, queue=False, **QUICK)
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
