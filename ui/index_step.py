"""Step 3 on the page: index, watch, stop."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ui import strings
from ui.components import ProgressView
from ui.handlers import index
from ui.visit import MODEL_QUEUE, Visit


class IndexStep:
    """Layout and events of step 3."""

    def __init__(self, visit: Visit):
        self._visit = visit
        gr.Markdown(strings.INDEX_EXPLAINED)
        with gr.Row():
            self.start = gr.Button(strings.INDEX_BUTTON, variant="primary", elem_id="index", scale=3)
            self.stop = gr.Button(strings.STOP, variant="stop", elem_id="stop-index", scale=1)
        self.view = ProgressView({"empty": strings.NOTHING_TO_INDEX}, elem_id="progress")
        self.next = gr.Button(strings.NEXT_ASK, variant="primary", elem_id="next-ask")
        running = self.start.click(
            self._index,
            visit.id,
            self.view,
            concurrency_id=MODEL_QUEUE,
            concurrency_limit=1,
            show_progress="hidden",
            api_visibility="private",
        )
        self.stop.click(self.overview, visit.id, self.view, cancels=[running], api_visibility="private")

    def overview(self, workspace_id: str) -> dict[str, Any]:
        """What is indexed and what is not."""
        with self._visit.open(workspace_id) as workspace:
            return index.overview(workspace)

    def _index(self, workspace_id: str) -> Iterator[dict[str, Any]]:
        with self._visit.open(workspace_id) as workspace:
            yield index.overview(workspace)
            yield from index.index_all(workspace)
