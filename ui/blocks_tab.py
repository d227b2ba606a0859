"""The Blocks tab: a document, its granularity and segmenter, its blocks to edit, another segmentation to compare."""

import html
from collections.abc import Callable
from typing import Any

import gradio as gr

from blockrag.errors import SegmentationError
from blockrag.segment import DEFAULT_GRANULARITY, SEGMENTERS, SizeBounds
from ui import strings
from ui.components.payloads import BlocksPayload, TextPage
from ui.components.view import BlockView
from ui.handlers import blocks, documents
from ui.open_collection import OpenCollection
from ui.session import JOBS, PRIVATE, QUICK, Session, Updates, user_errors, user_of, with_progress


def segmenter_choices() -> list[tuple[str, str]]:
    """Return description and name of every segmenter, for a menu."""
    return [(strings.SEGMENTER_CHOICES.get(name, name.capitalize()), name) for name in SEGMENTERS]


class BlocksTab:
    """Layout and events of the tab. `choose` sets `outputs`."""

    def __init__(self, session: Session):
        self._session = session
        bounds, reader = SizeBounds(), text_reader(session)
        with gr.Row():
            self.document = gr.Dropdown(
                label=strings.DOCUMENT, choices=[], interactive=True, min_width=260, elem_id="document"
            )
            self.granularity = _slider(strings.GRANULARITY, strings.GRANULARITY_INFO, "granularity")
        with gr.Accordion(strings.SEGMENTER_SETTINGS, open=False):
            self.segmenter = gr.Radio(
                segmenter_choices(),
                value=session.service.segmenter,
                label=strings.SEGMENTER,
                info=strings.SEGMENTER_INFO,
                elem_id="segmenter",
            )
            with gr.Row(elem_classes="beside"):
                self.minimum = gr.Number(bounds.minimum, label=strings.MIN_TOKENS, precision=0, minimum=1)
                self.maximum = gr.Number(bounds.maximum, label=strings.MAX_TOKENS, precision=0, minimum=16)
                self.apply = gr.Button(strings.APPLY, elem_id="apply")
        self.view = BlockView({"empty": strings.NO_BLOCKS}, elem_id="blocks", server_functions=[reader])
        with gr.Accordion(strings.COMPARE, open=False, elem_id="compare"):
            with gr.Row(elem_classes="beside"):
                self.other_segmenter = gr.Dropdown(
                    segmenter_choices(), value=session.service.segmenter, label=strings.SEGMENTER, min_width=240
                )
                self.other_granularity = _slider(strings.GRANULARITY, "", "other-granularity")
                self.compare = gr.Button(strings.COMPARE_BUTTON, elem_id="show-compared", min_width=140)
            self.compared = BlockView({"empty": strings.COMPARE_NONE}, elem_id="compared", server_functions=[reader])
        self.outputs = [self.view, self.granularity, self.segmenter, self.minimum, self.maximum]
        self._wire()

    def _wire(self) -> None:
        visitor, view = self._session.visitor, self.view
        self.document.change(self.choose, [visitor, self.document], self.outputs, **QUICK)
        self.granularity.change(
            self._set_granularity,
            [visitor, self.document, self.granularity],
            view,
            trigger_mode="always_last",
            **QUICK,
        )
        self.apply.click(
            self._segment,
            [visitor, self.document, self.segmenter, self.minimum, self.maximum],
            view,
            **PRIVATE,
            **JOBS,
        )
        self.compare.click(
            self._compare,
            [visitor, self.document, self.other_segmenter, self.other_granularity],
            self.compared,
            **PRIVATE,
            **JOBS,
        )
        for event, handler in (
            (view.toggle, self._toggle),
            (view.move, self._move),
            (view.drop, self._drop),
            (view.undo, self._undo),
            (view.redo, self._redo),
        ):
            event(handler, visitor, view, trigger_mode="multiple", **QUICK)

    def fill_menu(self, visitor: Any, document_id: str | None, request: gr.Request) -> Any:
        """Fill the menu of documents. If the chosen one, or the one of the address, is gone, choose the last."""
        with self._session.open(visitor, request) as collection:
            return self.menu(collection, document_id or visitor.get("document"))

    @staticmethod
    def menu(collection: OpenCollection, document_id: str | None) -> Any:
        """The menu of documents, with this one chosen, or the last if it is gone."""
        choices = documents.choices(collection)
        known = any(document_id == id for _, id in choices)
        return gr.Dropdown(choices=choices, value=document_id if known else choices[-1][1] if choices else None)

    def choose(self, visitor: Any, document_id: str | None, request: gr.Request) -> Updates:
        """Show a document. Call it after the collection changed too: the menu sends no change event if both collections
        hold the same document."""
        with self._session.open(visitor, request) as collection:
            updates: Updates = {self.view: blocks.view(collection, document_id)}
            if document := collection.find(document_id):
                saved = document.saved
                updates |= {self.granularity: saved.granularity, self.segmenter: saved.segmenter}
                updates |= {self.minimum: saved.bounds.minimum, self.maximum: saved.bounds.maximum}
            return updates

    def _set_granularity(
        self, visitor: Any, document_id: str | None, granularity: float, request: gr.Request
    ) -> BlocksPayload:
        with self._session.open(visitor, request) as collection:
            collection.set_granularity(document_id or "", granularity)
            return blocks.view(collection, document_id)

    def _segment(
        self,
        visitor: Any,
        document_id: str | None,
        segmenter: str,
        minimum: int,
        maximum: int,
        request: gr.Request,
        bar: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio looks for it among the defaults)
    ) -> BlocksPayload:
        with self._session.open(visitor, request) as collection:
            bounds = SizeBounds(int(minimum or 0), int(maximum or 0))
            collection.segment(document_id or "", segmenter, bounds, with_progress(bar))
            return blocks.view(collection, document_id)

    def _compare(
        self,
        visitor: Any,
        document_id: str | None,
        segmenter: str,
        granularity: float,
        request: gr.Request,
        bar: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> BlocksPayload:
        with self._session.open(visitor, request) as collection:
            return blocks.compare(collection, document_id, segmenter, granularity, with_progress(bar))

    def _toggle(self, visitor: Any, request: gr.Request, event: gr.EventData) -> BlocksPayload:
        return self._edit(
            visitor, request, event, lambda c, doc: blocks.toggle(c, doc, int(event.char), bool(event.add))
        )

    def _move(self, visitor: Any, request: gr.Request, event: gr.EventData) -> BlocksPayload:
        by = 1 if int(event.by) > 0 else -1
        return self._edit(visitor, request, event, lambda c, doc: blocks.move(c, doc, int(event.char), by))

    def _drop(self, visitor: Any, request: gr.Request, event: gr.EventData) -> BlocksPayload:
        return self._edit(
            visitor, request, event, lambda c, doc: blocks.move_to(c, doc, int(event.char), int(event.to))
        )

    def _undo(self, visitor: Any, request: gr.Request, event: gr.EventData) -> BlocksPayload:
        return self._edit(visitor, request, event, OpenCollection.undo)

    def _redo(self, visitor: Any, request: gr.Request, event: gr.EventData) -> BlocksPayload:
        return self._edit(visitor, request, event, OpenCollection.redo)

    def _edit(
        self, visitor: Any, request: gr.Request, event: gr.EventData, edit: Callable[[OpenCollection, str], None]
    ) -> BlocksPayload:
        """Edit the document that the event names and draw it. If the edit is refused, for example because another tab
        changed the blocks, say why and draw the blocks as they are."""
        with self._session.open(visitor, request) as collection:
            document_id = str(event.doc)
            try:
                edit(collection, document_id)
            except SegmentationError as error:
                gr.Warning(html.escape(str(error)))
            return blocks.view(collection, document_id)


def _slider(label: str, info: str, elem_id: str) -> gr.Slider:
    return gr.Slider(
        0, 1, DEFAULT_GRANULARITY, step=0.01, label=label, info=info or None, elem_id=elem_id, scale=2, min_width=300
    )


def text_reader(session: Session) -> Any:
    """Return the function by which a view fetches a document's text. Anyone can call it, outside the queue: it requires
    the collection's unguessable token and, if there is a login, the right user."""

    def read_pieces(query: dict[str, Any], request: gr.Request) -> TextPage:
        with user_errors():
            service = session.service
            owner = service.owner("", user_of(request)) if service.access == "login" else None
            collection = service.open(owner, str(query["collection"]))
            return blocks.read_pieces(collection, str(query["doc"]), int(query["first"]), int(query["n"]))

    return read_pieces
