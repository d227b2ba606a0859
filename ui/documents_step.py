"""Step 1 on the page: upload, table, sample, remove."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ui import strings
from ui.handlers import documents
from ui.visit import Visit

SAMPLE = Path(__file__).parent.parent / "README.md"


class DocumentsStep:
    """Layout and events of step 1. Nothing can be loaded before `ready`; `changed` fires after the documents did."""

    def __init__(self, visit: Visit):
        self._visit = visit
        self.upload = gr.File(
            label=strings.UPLOAD, file_count="multiple", height=180, elem_id="upload", interactive=False
        )
        self.table = gr.Dataframe(
            headers=strings.DOCUMENT_HEADERS,
            datatype="str",
            column_count=len(strings.DOCUMENT_HEADERS),
            interactive=False,
            wrap=True,
            elem_id="documents",
            show_label=False,
            column_widths=["34%", "12%", "14%", "10%", "30%"],
        )
        with gr.Row():
            self.sample = gr.Button(strings.SAMPLE, elem_id="sample", scale=2, interactive=False)
            self.chosen = gr.Dropdown(
                label=strings.REMOVE_CHOICE, choices=[], interactive=True, container=False, elem_id="to-remove", scale=2
            )
            self.remove = gr.Button(strings.REMOVE, variant="stop", elem_id="remove", scale=1)
        self.next = gr.Button(strings.NEXT_BLOCKS, variant="primary", elem_id="next-blocks")
        self._wire()

    def _wire(self) -> None:
        changes = [self.upload, self.table]
        uploaded = self.upload.upload(
            self._load, [self._visit.id, self.upload], changes, concurrency_limit=4, api_visibility="private"
        )
        sampled = self.sample.click(self._load_sample, self._visit.id, self.table, api_visibility="private")
        removed = self.remove.click(self._remove, [self._visit.id, self.chosen], self.table, api_visibility="private")
        self.changed = (uploaded, sampled, removed)

    def ready(self, workspace_id: str) -> tuple[Any, Any, list[documents.Row]]:
        """The visit has a workspace: open the doors, and show what is in it."""
        with self._visit.open(workspace_id) as workspace:
            return gr.File(interactive=True), gr.Button(interactive=True), documents.rows(workspace)

    def _load(self, workspace_id: str, paths: list[str]) -> Iterator[tuple[Any, Any]]:
        with self._visit.open(workspace_id) as workspace:
            for rows in documents.load_files(workspace, [Path(path) for path in paths]):
                yield gr.skip(), rows
            yield None, rows

    def _load_sample(self, workspace_id: str) -> list[documents.Row]:
        with self._visit.open(workspace_id) as workspace:
            return documents.load_sample(workspace, SAMPLE)

    def _remove(self, workspace_id: str, document_id: str | None) -> list[documents.Row]:
        with self._visit.open(workspace_id) as workspace:
            if document_id:
                workspace.remove(document_id)
            return documents.rows(workspace)
