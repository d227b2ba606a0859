"""Documents on the page: upload, table, sample, remove; and the collections they are in."""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ui import strings
from ui.components import DocumentsView
from ui.handlers import collections, documents
from ui.session import QUICK, Session, show_on, user_of

SAMPLE = Path(__file__).parent.parent / "README.md"


class DocumentsTab:
    """Layout and events of the tab. Nothing can be loaded before `ready`; `changed` fire after the documents did, and
    `switched` after another collection was opened."""

    def __init__(self, visit: Session, collection: gr.Dropdown):
        self._visit, self._collection = visit, collection
        limits = visit.workspaces.limits
        self.upload = gr.File(
            label=strings.UPLOAD,
            show_label=False,
            file_count="multiple",
            height=170,
            elem_id="upload",
            interactive=False,
        )
        info = strings.UPLOAD_INFO.format(n_files=limits.n_files, megabytes=limits.file_bytes >> 20)
        gr.Markdown(info, elem_classes="aside")
        self.table = DocumentsView({"empty": strings.NO_DOCUMENTS}, elem_id="documents")
        with gr.Row(elem_classes="actions"):
            self.stop = gr.Button(strings.STOP_LOADING, elem_id="stop-loading", visible=False)
            self.go_on = gr.Button(strings.CONTINUE_LOADING, elem_id="continue-loading", visible=False)
            self.sample = gr.Button(strings.SAMPLE, elem_id="sample", interactive=False)
            self.next = gr.Button(strings.NEXT_BLOCKS, variant="primary", elem_id="next-blocks", interactive=False)
        self._manage()
        self._wire()

    def _manage(self) -> None:
        with gr.Accordion(strings.MANAGE, open=False, elem_id="manage"):
            with gr.Row(equal_height=True):
                self.name = gr.Textbox(
                    label=strings.COLLECTION_NAME,
                    info=strings.COLLECTION_NAME_INFO,
                    max_length=200,
                    elem_id="collection-name",
                    scale=2,
                )
                with gr.Column(scale=2, min_width=300), gr.Row():
                    self.create = gr.Button(strings.CREATE, elem_id="create", min_width=120)
                    self.rename = gr.Button(strings.RENAME, elem_id="rename", min_width=120)
                    self.delete = gr.Button(strings.DELETE_COLLECTION, variant="stop", elem_id="delete", min_width=120)
            with gr.Row():
                self.export = gr.Button(strings.EXPORT, elem_id="export", min_width=120)
                self.to_import = gr.UploadButton(
                    strings.IMPORT, file_types=[".zip"], elem_id="import", min_width=120, type="filepath"
                )
            self.exported = gr.File(label=strings.EXPORT, interactive=False, visible=False, elem_id="exported")

    def _wire(self) -> None:
        id, private = self._visit.id, {"api_visibility": "private"}
        loading = [self.upload, self.table, self.stop, self.go_on]
        uploaded = self.upload.upload(self._load, [id, self.upload], loading, concurrency_limit=4, **QUICK)
        went_on = self.go_on.click(self._go_on, id, loading, concurrency_limit=4, **QUICK)
        self.stop.click(self._stop, id, self.table, queue=False, **QUICK)
        sampled = self.sample.click(self._load_sample, id, self.table, **private)
        removed = self.table.remove(self._remove, id, self.table, **QUICK)
        self.changed = (uploaded, went_on, sampled, removed)
        chosen = self._collection.input(self._choose, [id, self._collection], id, **QUICK)
        created = self.create.click(self._create, [id, self.name], id, **QUICK)
        renamed = self.rename.click(self._rename, [id, self.name], id, **QUICK)
        deleted = self.delete.click(self._delete, [id, self.name], id, **QUICK)
        imported = self.to_import.upload(self._import, [id, self.to_import], id, **private)
        self.export.click(self._export, id, self.exported, **private)
        self.switched = (chosen, created, renamed, deleted, imported)

    def ready(self, visit: Any, request: gr.Request) -> tuple[Any, ...]:
        """A collection is open: open the doors, and show what is in it."""
        with self._visit.open(visit, request) as workspace:
            view = documents.view(workspace)
            return (
                gr.Dropdown(choices=collections.choices(workspace), value=workspace.id),
                gr.File(interactive=True),
                gr.Button(interactive=True),
                view,
                gr.Button(visible=bool(view["waiting"])),
                gr.File(visible=False, value=None),
                "",
            )

    @property
    def shown(self) -> list[Any]:
        """What `ready` sets."""
        return [self._collection, self.upload, self.sample, self.table, self.go_on, self.exported, self.name]

    def _load(self, visit: Any, paths: list[str], request: gr.Request) -> Iterator[tuple[Any, ...]]:
        with self._visit.open(visit, request) as workspace:
            documents.receive(workspace, [Path(path) for path in paths])
        yield from self._go_on(visit, request)

    def _go_on(self, visit: Any, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        with self._visit.open(visit, request) as workspace:
            for view in documents.read_waiting(workspace):
                yield gr.skip(), view, gr.Button(visible=True), gr.Button(visible=False)
            # the view once more: of two that come within milliseconds, Gradio may draw the first alone
            yield None, view, gr.Button(visible=False), gr.Button(visible=bool(view["waiting"]))

    def _stop(self, visit: Any, request: gr.Request) -> dict[str, Any]:
        with self._visit.open(visit, request) as workspace:
            return documents.stop(workspace)

    def _load_sample(
        self,
        visit: Any,
        request: gr.Request,
        bar: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio looks for it among the defaults)
    ) -> dict[str, Any]:
        with self._visit.open(visit, request) as workspace:
            return documents.load_sample(workspace, SAMPLE, show_on(bar))

    def _remove(self, visit: Any, request: gr.Request, event: gr.EventData) -> dict[str, Any]:
        with self._visit.open(visit, request) as workspace:
            return documents.remove(workspace, str(event.doc))

    def _choose(self, visit: dict, token: str, request: gr.Request) -> dict:
        chosen = {**visit, "collection": token}
        with self._visit.open(chosen, request):
            return chosen

    def _create(self, visit: dict, name: str, request: gr.Request) -> dict:
        with self._visit.open(visit, request) as workspace:
            return {**visit, "collection": collections.create(self._visit.workspaces, workspace, name)}

    def _rename(self, visit: dict, name: str, request: gr.Request) -> dict:
        with self._visit.open(visit, request) as workspace:
            collections.rename(workspace, name)
            return visit

    def _delete(self, visit: dict, name: str, request: gr.Request) -> dict:
        with self._visit.open(visit, request) as workspace:
            if not collections.delete(self._visit.workspaces, workspace, name):
                raise gr.Error(html.escape(strings.TYPE_NAME.format(name=workspace.record.name)), print_exception=False)
            gr.Info(strings.DELETED)
            return self._visit.workspaces.enter(visit, user_of(request))

    def _export(self, visit: dict, request: gr.Request) -> Any:
        with self._visit.open(visit, request) as workspace:
            return gr.File(value=str(collections.to_file(workspace)), visible=True)

    def _import(self, visit: dict, path: str, request: gr.Request) -> dict:
        with self._visit.open(visit, request) as workspace:
            return {**visit, "collection": collections.from_file(self._visit.workspaces, workspace, Path(path))}
