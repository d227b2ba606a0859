"""Step 1 on the page: upload, table, sample, remove."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ui import strings
from ui.components import DocumentsView
from ui.handlers import documents
from ui.visit import Visit

SAMPLE = Path(__file__).parent.parent / "README.md"


class DocumentsStep:
    """Layout and events of step 1. Nothing can be loaded before `ready`; `changed` fire after the documents did."""

    def __init__(self, visit: Visit):
        self._visit = visit
        self.upload = gr.File(
            label=strings.UPLOAD,
            show_label=False,
            file_count="multiple",
            height=170,
            elem_id="upload",
            interactive=False,
        )
        gr.Markdown(strings.UPLOAD_INFO, elem_classes="aside")
        self.table = DocumentsView({"empty": strings.NO_DOCUMENTS}, elem_id="documents")
        with gr.Row(elem_classes="actions"):
            self.sample = gr.Button(strings.SAMPLE, elem_id="sample", interactive=False)
            self.next = gr.Button(strings.NEXT_BLOCKS, variant="primary", elem_id="next-blocks", interactive=False)
        self._wire()

    def _wire(self) -> None:
        id, private = self._visit.id, {"api_visibility": "private"}
        uploaded = self.upload.upload(
            self._load, [id, self.upload], [self.upload, self.table], concurrency_limit=4, **private
        )
        sampled = self.sample.click(self._load_sample, id, self.table, **private)
        removed = self.table.remove(self._remove, id, self.table, show_progress="hidden", **private)
        self.changed = (uploaded, sampled, removed)

    def ready(self, workspace_id: str) -> tuple[Any, Any, dict[str, Any]]:
        """The visit has a workspace: open the doors, and show what is in it."""
        with self._visit.open(workspace_id) as workspace:
            return gr.File(interactive=True), gr.Button(interactive=True), documents.view(workspace)

    def _load(self, workspace_id: str, paths: list[str]) -> Iterator[tuple[Any, Any]]:
        with self._visit.open(workspace_id) as workspace:
            for view in documents.load_files(workspace, [Path(path) for path in paths]):
                yield gr.skip(), view
            yield None, gr.skip()

    def _load_sample(self, workspace_id: str) -> dict[str, Any]:
        with self._visit.open(workspace_id) as workspace:
            return documents.load_sample(workspace, SAMPLE)

    def _remove(self, workspace_id: str, event: gr.EventData) -> dict[str, Any]:
        with self._visit.open(workspace_id) as workspace:
            workspace.remove(str(event.doc))
            return documents.view(workspace)
