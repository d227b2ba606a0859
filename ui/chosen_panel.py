"""What can be done with the documents that are chosen in the list. Questions are answered from these alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from ui import strings
from ui.conversation_panel import Shown
from ui.handlers import chosen, documents
from ui.open_collection import OpenCollection
from ui.session import JOBS, PRIVATE, QUICK, Session, Updates, with_progress


class ChosenPanel:
    """Layout and events of the panel, which is hidden while no document is chosen. `update` sets `outputs`; `changed`
    events fire after documents were changed here. `table` is the list of documents."""

    def __init__(self, session: Session, shown: gr.State, table: Any):
        self._session, self._shown, self._table = session, shown, table
        with gr.Column(visible=False, elem_id="chosen") as self.panel:
            self.about = gr.Markdown(elem_id="chosen-about")
            with gr.Row(elem_classes="tight") as self.actions:
                self.all = gr.Button(strings.CHOOSE_ALL, elem_id="choose-all", min_width=110, size="sm")
                self.recut = gr.Button(strings.RECUT, elem_id="recut", min_width=80, size="sm")
                self.delete = gr.Button(strings.DELETE_CHOSEN, elem_id="delete-chosen", min_width=70, size="sm")
            with gr.Row(visible=False, elem_classes="tight") as self.asked:
                self.sure = gr.Button(variant="stop", elem_id="delete-sure", min_width=110, size="sm")
                self.keep = gr.Button(strings.KEEP, elem_id="keep", min_width=70, size="sm")
            with gr.Column(visible=False, elem_id="chosen-one") as self.one:
                self.name = gr.Textbox(
                    label=strings.RENAME_DOCUMENT,
                    max_length=200,
                    submit_btn=strings.RENAME,
                    elem_id="new-name",
                )
                self.replace = gr.UploadButton(strings.REPLACE, elem_id="replace", size="sm", type="filepath")
        self.outputs = [self.panel, self.about, self.actions, self.asked, self.sure, self.one, self.name]
        self._wire()

    def _wire(self) -> None:
        inputs = [self._session.visitor, self._shown]
        outputs = [*self.outputs, self._table]
        self.delete.click(self._ask, inputs, [self.actions, self.asked, self.sure], queue=False, **QUICK)
        self.keep.click(self._asked, None, [self.actions, self.asked], queue=False, **QUICK)
        self.changed = (
            self.sure.click(self._delete, inputs, outputs, **QUICK),
            self.all.click(self._choose_all, inputs, outputs, queue=False, **QUICK),
            self.name.submit(self._rename, [*inputs, self.name], outputs, **QUICK),
            self.replace.upload(self._replace, [*inputs, self.replace], outputs, **QUICK),
            self.recut.click(self._recut, inputs, outputs, **PRIVATE, **JOBS),
        )

    def update(self, collection: OpenCollection, shown: Shown, *, choice_changed: bool = False) -> Updates:
        """Show what is chosen. The text that is being typed and the question whether to delete stay, unless the choice
        changed."""
        records = chosen.chosen_of(collection, shown.documents)
        updates: Updates = {
            self.panel: gr.Column(visible=bool(shown.documents)),
            self.about: chosen.scope(collection, shown.documents),
            self.one: gr.Column(visible=len(records) == 1),
        }
        if choice_changed:
            updates |= {
                **self._asked(),
                self.name: records[0].name if len(records) == 1 else "",
            }
        return updates

    def _after(self, collection: OpenCollection, shown: Shown) -> Updates:
        table = documents.view(collection, shown.documents)
        return {**self.update(collection, shown, choice_changed=True), self._table: table}

    def _ask(self, visitor: Any, shown: Shown) -> Updates:
        label = strings.DELETE_SURE.format(n=len(shown.documents))
        return {self.actions: gr.Row(visible=False), self.asked: gr.Row(visible=True), self.sure: gr.Button(label)}

    def _asked(self) -> Updates:
        return {self.actions: gr.Row(visible=True), self.asked: gr.Row(visible=False)}

    def _choose_all(self, visitor: Any, shown: Shown, request: gr.Request) -> Updates:
        shown.documents = ()
        return self._do(visitor, shown, request, lambda collection: None)

    def _delete(self, visitor: Any, shown: Shown, request: gr.Request) -> Updates:
        ids, shown.documents = shown.documents, ()
        return self._do(visitor, shown, request, lambda collection: chosen.remove_all(collection, ids))

    def _rename(self, visitor: Any, shown: Shown, name: str, request: gr.Request) -> Updates:
        return self._do(visitor, shown, request, lambda c: chosen.rename(c, shown.documents[0], name))

    def _replace(self, visitor: Any, shown: Shown, path: str, request: gr.Request) -> Updates:
        (replaced,) = shown.documents
        return self._do(visitor, shown, request, lambda c: documents.receive(c, [Path(path)], replaced=replaced))

    def _recut(
        self,
        visitor: Any,
        shown: Shown,
        request: gr.Request,
        bar: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio looks for it among the defaults)
    ) -> Updates:
        return self._do(visitor, shown, request, lambda c: chosen.recut(c, shown.documents, with_progress(bar)))

    def _do(self, visitor: Any, shown: Shown, request: gr.Request, work: Callable[[OpenCollection], None]) -> Updates:
        with self._session.open(visitor, request) as collection:
            work(collection)
            return self._after(collection, shown)
