"""The Documents tab: upload, list, sample, remove; and the collections that hold the documents."""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ui import strings
from ui.components.payloads import DocumentsPayload
from ui.components.view import View
from ui.handlers import collections, documents
from ui.session import JOBS, PRIVATE, QUICK, Session, Updates, address_of, user_errors, with_progress

SAMPLE = Path(__file__).parent.parent / "README.md"


class DocumentsTab:
    """Layout and events of the tab. `open` sets `outputs` and allows uploads. `changed` events fire after the documents
    changed, `switched` events after another collection was opened."""

    def __init__(self, session: Session, menu: gr.Dropdown):
        self._session, self._menu = session, menu
        limits = session.service.limits
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
        self.table = View("documents", {"empty": strings.NO_DOCUMENTS}, elem_id="documents")
        with gr.Row(elem_classes="actions"):
            self.stop = gr.Button(strings.STOP_LOADING, elem_id="stop-loading", visible=False)
            self.resume = gr.Button(strings.RESUME_LOADING, elem_id="resume-loading", visible=False)
            self.sample = gr.Button(strings.SAMPLE, elem_id="sample", interactive=False)
            self.next = gr.Button(strings.NEXT_BLOCKS, variant="primary", elem_id="next-blocks", interactive=False)
        self._lay_out_collections()
        self.outputs = [menu, self.upload, self.sample, self.table, self.resume, self.exported, self.name]
        self._wire()

    def _lay_out_collections(self) -> None:
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
        visitor = self._session.visitor
        loading = [self.upload, self.table, self.stop, self.resume]
        uploaded = self.upload.upload(self._load, [visitor, self.upload], loading, concurrency_limit=4, **QUICK)
        resumed = self.resume.click(self._read_waiting, visitor, loading, concurrency_limit=4, **QUICK)
        self.stop.click(self._stop, visitor, self.table, queue=False, **QUICK)
        sampled = self.sample.click(self._load_sample, visitor, self.table, **PRIVATE)
        removed = self.table.remove(self._remove, visitor, self.table, **QUICK)
        self.changed = (uploaded, resumed, sampled, removed)
        chosen = self._menu.input(self._choose, [visitor, self._menu], visitor, **QUICK)
        created = self.create.click(self._create, [visitor, self.name], visitor, **QUICK)
        renamed = self.rename.click(self._rename, [visitor, self.name], visitor, **QUICK)
        deleted = self.delete.click(self._delete, [visitor, self.name], visitor, **QUICK)
        imported = self.to_import.upload(self._import, [visitor, self.to_import], visitor, **PRIVATE, **JOBS)
        self.export.click(self._export, visitor, self.exported, **PRIVATE)
        self.switched = (chosen, created, renamed, deleted, imported)

    def open(self, visitor: Any, request: gr.Request) -> Updates:
        """Show the open collection and allow uploads."""
        with self._session.open(visitor, request) as collection:
            view = documents.view(collection)
            return {
                self._menu: gr.Dropdown(choices=collections.choices(collection), value=collection.token),
                self.upload: gr.File(interactive=True),
                self.sample: gr.Button(interactive=True),
                self.table: view,
                self.resume: gr.Button(visible=bool(view["waiting"])),
                self.exported: gr.File(visible=False, value=None),
                self.name: "",
            }

    def _load(self, visitor: Any, paths: list[str], request: gr.Request) -> Iterator[Updates]:
        with self._session.open(visitor, request) as collection:
            documents.receive(collection, [Path(path) for path in paths])
        yield from self._read_waiting(visitor, request)

    def _read_waiting(self, visitor: Any, request: gr.Request) -> Iterator[Updates]:
        with self._session.open(visitor, request) as collection:
            for view in documents.read_waiting(collection):
                yield {self.table: view, self.stop: gr.Button(visible=True), self.resume: gr.Button(visible=False)}
            # the last view again: of two that arrive within milliseconds, Gradio may draw only the first
            yield {
                self.upload: None,
                self.table: view,
                self.stop: gr.Button(visible=False),
                self.resume: gr.Button(visible=bool(view["waiting"])),
            }

    def _stop(self, visitor: Any, request: gr.Request) -> DocumentsPayload:
        with self._session.open(visitor, request) as collection:
            return documents.stop(collection)

    def _load_sample(
        self,
        visitor: Any,
        request: gr.Request,
        bar: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio looks for it among the defaults)
    ) -> DocumentsPayload:
        with self._session.open(visitor, request) as collection:
            return documents.load_sample(collection, SAMPLE, with_progress(bar))

    def _remove(self, visitor: Any, request: gr.Request, event: gr.EventData) -> DocumentsPayload:
        with self._session.open(visitor, request) as collection:
            return documents.remove(collection, str(event.doc))

    def _choose(self, visitor: dict, token: str, request: gr.Request) -> dict:
        with user_errors():
            return self._session.choose(token, request)

    def _create(self, visitor: dict, name: str, request: gr.Request) -> dict:
        with self._session.open(visitor, request) as collection:
            return {"collection": self._session.service.create(collection.owner, name, address_of(request)).id}

    def _rename(self, visitor: dict, name: str, request: gr.Request) -> dict:
        with self._session.open(visitor, request) as collection:
            collection.store.collections.rename(collection.record.id, name)
            return visitor

    def _delete(self, visitor: dict, name: str, request: gr.Request) -> dict:
        service = self._session.service
        with self._session.open(visitor, request) as collection:
            if not collections.delete(service, collection, name):
                message = strings.TYPE_NAME.format(name=collection.record.name)
                raise gr.Error(html.escape(message), print_exception=False)
            gr.Info(strings.DELETED)
            return self._session.enter(visitor, None, request)

    def _export(self, visitor: dict, request: gr.Request) -> Any:
        with self._session.open(visitor, request) as collection:
            return gr.File(value=str(collections.to_file(collection)), visible=True)

    def _import(self, visitor: dict, path: str, request: gr.Request) -> dict:
        with self._session.open(visitor, request) as collection:
            token = collections.from_file(self._session.service, collection, Path(path))
            return self._session.choose(token, request)
