"""Step 2 on the page: which document, the slider, the segmenter, the blocks themselves."""

import html
from typing import Any

import gradio as gr

from blockrag.errors import SegmentationError
from blockrag.segment import DEFAULT_GRANULARITY, SizeBounds
from ui import strings
from ui.components import BlockView
from ui.handlers import blocks, documents
from ui.visit import MODEL_QUEUE, Visit
from ui.workspace import Entry, Workspace


class BlocksStep:
    """Layout and events of step 2."""

    def __init__(self, visit: Visit):
        self._visit = visit
        bounds = SizeBounds()
        with gr.Row():
            self.document = gr.Dropdown(
                label=strings.DOCUMENT, choices=[], interactive=True, min_width=260, elem_id="document"
            )
            self.granularity = gr.Slider(
                0,
                1,
                DEFAULT_GRANULARITY,
                step=0.01,
                label=strings.GRANULARITY,
                info=strings.GRANULARITY_INFO,
                elem_id="granularity",
                scale=2,
                min_width=300,
            )
        with gr.Accordion(strings.SEGMENTER_SETTINGS, open=False):
            self.segmenter = gr.Radio(
                [(text, name) for name, text in strings.SEGMENTER_CHOICES.items()],
                value=visit.workspaces.segmenter,
                label=strings.SEGMENTER,
                info=strings.SEGMENTER_INFO,
                elem_id="segmenter",
            )
            with gr.Row(equal_height=True):
                self.minimum = gr.Number(bounds.minimum, label=strings.MIN_TOKENS, precision=0, minimum=1)
                self.maximum = gr.Number(bounds.maximum, label=strings.MAX_TOKENS, precision=0, minimum=16)
                self.apply = gr.Button(strings.APPLY, elem_id="apply")
        self.view = BlockView({"empty": strings.NO_BLOCKS}, elem_id="blocks", server_functions=[reader(visit)])
        with gr.Row(elem_classes="actions"):
            self.next = gr.Button(strings.NEXT_INDEX, variant="primary", elem_id="next-index")
        self._wire()

    def _wire(self) -> None:
        visit, view = self._visit, self.view
        quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        self.document.change(self._choose, [visit.id, self.document], [view, self.granularity, self.segmenter], **quick)
        self.granularity.change(
            self._cut,
            [visit.id, self.document, self.granularity],
            view,
            trigger_mode="always_last",
            **quick,
        )
        self.apply.click(
            self._segment,
            [visit.id, self.document, self.segmenter, self.minimum, self.maximum],
            view,
            concurrency_id=MODEL_QUEUE,
            concurrency_limit=1,
            api_visibility="private",
        )
        view.toggle(self._toggle, visit.id, view, trigger_mode="multiple", **quick)
        view.undo(self._undo, visit.id, view, trigger_mode="multiple", **quick)

    def refresh(self, workspace_id: str, document_id: str | None) -> Any:
        """The menu of documents, the last one chosen where the present choice is gone."""
        with self._visit.open(workspace_id) as workspace:
            choices = documents.choices(workspace)
            known = document_id in workspace.entries
            return gr.Dropdown(choices=choices, value=document_id if known else choices[-1][1] if choices else None)

    def _choose(self, workspace_id: str, document_id: str | None) -> tuple[Any, Any, Any]:
        with self._visit.open(workspace_id) as workspace:
            entry = workspace.entries.get(document_id or "")
            if entry is None:
                return blocks.view(workspace, None), gr.skip(), gr.skip()
            return blocks.view(workspace, document_id), entry.granularity, entry.segmenter

    def _cut(self, workspace_id: str, document_id: str | None, granularity: float) -> dict[str, Any]:
        with self._visit.open(workspace_id) as workspace:
            if document_id in workspace.entries:
                workspace.entries[document_id].granularity = granularity
            return blocks.view(workspace, document_id)

    def _segment(
        self, workspace_id: str, document_id: str | None, segmenter: str, minimum: int, maximum: int
    ) -> dict[str, Any]:
        with self._visit.open(workspace_id) as workspace:
            if document_id in workspace.entries:
                workspace.segment(document_id, segmenter, SizeBounds(int(minimum), int(maximum)))
            return blocks.view(workspace, document_id)

    def _toggle(self, workspace_id: str, event: gr.EventData) -> dict[str, Any]:
        with self._visit.open(workspace_id) as workspace:
            entry = _entry(workspace, event)
            try:
                blocks.toggle(workspace, entry, int(event.char), bool(event.add))
            except SegmentationError as error:  # said, and the blocks shown as they are: another tab may have cut them
                gr.Warning(html.escape(str(error)))
            return blocks.view(workspace, entry.document.sha256)

    def _undo(self, workspace_id: str, event: gr.EventData) -> dict[str, Any]:
        with self._visit.open(workspace_id) as workspace:
            entry = _entry(workspace, event)
            blocks.undo(workspace, entry)
            return blocks.view(workspace, entry.document.sha256)


def _entry(workspace: Workspace, event: gr.EventData) -> Entry:
    """The document an event of the view speaks of: the browser's word, so that it is looked up, not believed."""
    entry = workspace.entries.get(str(event.doc))
    if entry is None:
        raise SegmentationError(strings.REMOVED)
    return entry


def reader(visit: Visit) -> Any:
    """The function by which a view fetches a document's text; anyone can call it, so that the id must be right."""

    def read_pieces(asked: dict[str, Any]) -> dict[str, Any]:
        with visit.open(str(asked["workspace"])) as workspace:
            return blocks.read_pieces(workspace, str(asked["doc"]), int(asked["first"]), int(asked["n"]))

    return read_pieces
