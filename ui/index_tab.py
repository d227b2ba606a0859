"""Index on the page: index, watch, stop."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ui import strings
from ui.components import ProgressView
from ui.handlers import index
from ui.session import QUICK, WORKING, Session


class IndexTab:
    """Layout and events of the tab."""

    def __init__(self, visit: Session):
        self._visit = visit
        gr.Markdown(strings.INDEX_EXPLAINED)
        self.view = ProgressView({"empty": strings.NOTHING_TO_INDEX}, elem_id="progress")
        with gr.Row(elem_classes="actions"):
            self.start = gr.Button(strings.INDEX_BUTTON, variant="primary", elem_id="index")
            self.stop = gr.Button(strings.STOP, elem_id="stop-index")
            self.next = gr.Button(strings.NEXT_ASK, elem_id="next-ask")
        self._wire()

    def _wire(self) -> None:
        id = self._visit.id
        started = self.start.click(self._start, id, self.view, queue=False, **QUICK)
        self.indexed = started.then(self._index, id, self.view, **QUICK, **WORKING)
        self.stop.click(self._stop, id, self.view, queue=False, **QUICK)

    def overview(self, visit: Any, request: gr.Request) -> dict[str, Any]:
        """What is indexed and what is not."""
        with self._visit.open(visit, request) as workspace:
            return index.overview(workspace)

    def _start(self, visit: Any, request: gr.Request) -> dict[str, Any]:
        with self._visit.open(visit, request) as workspace:
            return index.start(workspace)

    def _stop(self, visit: Any, request: gr.Request) -> dict[str, Any]:
        with self._visit.open(visit, request) as workspace:
            return index.stop(workspace)

    def _index(self, visit: Any, request: gr.Request) -> Iterator[dict[str, Any]]:
        with self._visit.open(visit, request) as workspace:
            yield from index.index_all(workspace)
