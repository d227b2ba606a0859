"""Blocks on the page: which document, the slider, the segmenter, the blocks themselves, and another cut beside them."""

import html
from typing import Any

import gradio as gr

from blockrag.errors import SegmentationError
from blockrag.segment import DEFAULT_GRANULARITY, SEGMENTERS, SizeBounds
from ui import strings
from ui.components import BlockView
from ui.handlers import blocks, documents
from ui.session import QUICK, WORKING, Session, show_on, told, user_of


def segmenter_choices() -> list[tuple[str, str]]:
    """Sentence and name of every segmenter."""
    return [(strings.SEGMENTER_CHOICES.get(name, name.capitalize()), name) for name in SEGMENTERS]


class BlocksTab:
    """Layout and events of the tab."""

    def __init__(self, visit: Session):
        self._visit = visit
        bounds = SizeBounds()
        with gr.Row():
            self.document = gr.Dropdown(
                label=strings.DOCUMENT, choices=[], interactive=True, min_width=260, elem_id="document"
            )
            self.granularity = _slider(strings.GRANULARITY, strings.GRANULARITY_INFO, "granularity")
        with gr.Accordion(strings.SEGMENTER_SETTINGS, open=False):
            self.segmenter = gr.Radio(
                segmenter_choices(),
                value=visit.workspaces.segmenter,
                label=strings.SEGMENTER,
                info=strings.SEGMENTER_INFO,
                elem_id="segmenter",
            )
            with gr.Row(elem_classes="beside"):
                self.minimum = gr.Number(bounds.minimum, label=strings.MIN_TOKENS, precision=0, minimum=1)
                self.maximum = gr.Number(bounds.maximum, label=strings.MAX_TOKENS, precision=0, minimum=16)
                self.apply = gr.Button(strings.APPLY, elem_id="apply")
        self.view = BlockView({"empty": strings.NO_BLOCKS}, elem_id="blocks", server_functions=[reader(visit)])
        with gr.Accordion(strings.COMPARE, open=False, elem_id="compare"):
            with gr.Row(elem_classes="beside"):
                self.other_segmenter = gr.Dropdown(
                    segmenter_choices(), value=visit.workspaces.segmenter, label=strings.SEGMENTER, min_width=240
                )
                self.other_granularity = _slider(strings.GRANULARITY, "", "other-granularity")
                self.compare = gr.Button(strings.COMPARE_BUTTON, elem_id="show-compared", min_width=140)
            self.other = BlockView(
                {"empty": strings.COMPARE_NONE}, elem_id="compared", server_functions=[reader(visit)]
            )
        with gr.Row(elem_classes="actions"):
            self.next = gr.Button(strings.NEXT_INDEX, variant="primary", elem_id="next-index")
        self._wire()

    def _wire(self) -> None:
        visit, view = self._visit, self.view
        self.shown = [view, self.granularity, self.segmenter, self.minimum, self.maximum]
        self.document.change(self.choose, [visit.id, self.document], self.shown, **QUICK)
        self.granularity.change(
            self._cut, [visit.id, self.document, self.granularity], view, trigger_mode="always_last", **QUICK
        )
        self.apply.click(
            self._segment,
            [visit.id, self.document, self.segmenter, self.minimum, self.maximum],
            view,
            api_visibility="private",
            **WORKING,
        )
        self.compare.click(
            self._compare,
            [visit.id, self.document, self.other_segmenter, self.other_granularity],
            self.other,
            api_visibility="private",
            **WORKING,
        )
        for event, handler in ((view.toggle, self._toggle), (view.move, self._move), (view.place, self._place)):
            event(handler, visit.id, view, trigger_mode="multiple", **QUICK)
        for event, handler in ((view.undo, self._undo), (view.redo, self._redo)):
            event(handler, visit.id, view, trigger_mode="multiple", **QUICK)

    def refresh(self, visit: Any, document_id: str | None, request: gr.Request) -> Any:
        """The menu of documents, the last one chosen where the present choice is gone."""
        with self._visit.open(visit, request) as workspace:
            choices = documents.choices(workspace)
            known = any(document_id == id for _, id in choices)
            return gr.Dropdown(choices=choices, value=document_id if known else choices[-1][1] if choices else None)

    def choose(self, visit: Any, document_id: str | None, request: gr.Request) -> tuple[Any, ...]:
        """Show a document; the menu's change does not tell where two collections hold the same one."""
        with self._visit.open(visit, request) as workspace:
            entry = workspace.entry(document_id)
            if entry is None:
                return blocks.view(workspace, None), *[gr.skip()] * 4
            bounds = entry.cut.bounds
            view = blocks.view(workspace, document_id)
            return view, entry.granularity, entry.segmenter, bounds.minimum, bounds.maximum

    def _cut(self, visit: Any, document_id: str | None, granularity: float, request: gr.Request) -> dict[str, Any]:
        with self._visit.open(visit, request) as workspace:
            workspace.set_granularity(document_id or "", granularity)
            return blocks.view(workspace, document_id)

    def _segment(
        self,
        visit: Any,
        document_id: str | None,
        segmenter: str,
        minimum: int,
        maximum: int,
        request: gr.Request,
        bar: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio looks for it among the defaults)
    ) -> dict[str, Any]:
        with self._visit.open(visit, request) as workspace:
            bounds = SizeBounds(int(minimum or 0), int(maximum or 0))
            workspace.segment(document_id or "", segmenter, bounds, show_on(bar))
            return blocks.view(workspace, document_id)

    def _compare(
        self,
        visit: Any,
        document_id: str | None,
        segmenter: str,
        granularity: float,
        request: gr.Request,
        bar: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> dict[str, Any]:
        with self._visit.open(visit, request) as workspace:
            return blocks.compare(workspace, document_id, segmenter, granularity, show_on(bar))

    def _toggle(self, visit: Any, request: gr.Request, event: gr.EventData) -> dict[str, Any]:
        with self._visit.open(visit, request) as workspace:
            try:
                blocks.toggle(workspace, str(event.doc), int(event.char), bool(event.add))
            except SegmentationError as error:  # said, and the blocks shown as they are: another tab may have cut them
                gr.Warning(html.escape(str(error)))
            return blocks.view(workspace, str(event.doc))

    def _move(self, visit: Any, request: gr.Request, event: gr.EventData) -> dict[str, Any]:
        with self._visit.open(visit, request) as workspace:
            try:
                blocks.move(workspace, str(event.doc), int(event.char), 1 if int(event.by) > 0 else -1)
            except SegmentationError as error:
                gr.Warning(html.escape(str(error)))
            return blocks.view(workspace, str(event.doc))

    def _place(self, visit: Any, request: gr.Request, event: gr.EventData) -> dict[str, Any]:
        with self._visit.open(visit, request) as workspace:
            try:
                blocks.place(workspace, str(event.doc), int(event.char), int(event.to))
            except SegmentationError as error:
                gr.Warning(html.escape(str(error)))
            return blocks.view(workspace, str(event.doc))

    def _undo(self, visit: Any, request: gr.Request, event: gr.EventData) -> dict[str, Any]:
        with self._visit.open(visit, request) as workspace:
            workspace.undo(str(event.doc))
            return blocks.view(workspace, str(event.doc))

    def _redo(self, visit: Any, request: gr.Request, event: gr.EventData) -> dict[str, Any]:
        with self._visit.open(visit, request) as workspace:
            workspace.redo(str(event.doc))
            return blocks.view(workspace, str(event.doc))


def _slider(label: str, info: str, elem_id: str) -> gr.Slider:
    return gr.Slider(
        0, 1, DEFAULT_GRANULARITY, step=0.01, label=label, info=info or None, elem_id=elem_id, scale=2, min_width=300
    )


def reader(visit: Session) -> Any:
    """The function by which a view fetches a document's text. Anyone can call it, past the queue: it goes by the
    collection's token, which nobody can guess, and, where there is a login, by who is logged in."""

    def read_pieces(asked: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        with told():
            workspaces = visit.workspaces
            owner = workspaces.owner("", user_of(request)) if workspaces.access == "login" else None
            workspace = workspaces.open(owner, str(asked["workspace"]))
            return blocks.read_pieces(workspace, str(asked["doc"]), int(asked["first"]), int(asked["n"]))

    return read_pieces
