"""The documents beside the conversation: upload, list, remove; and the collections that hold them."""

import html
from pathlib import Path
from typing import Any

import gradio as gr

from ui import strings
from ui.chosen_panel import ChosenPanel
from ui.components.payloads import DocumentsPayload
from ui.components.view import View
from ui.conversation_panel import Shown
from ui.handlers import collections, documents, index
from ui.preferences import PreferenceError
from ui.session import JOBS, PRIVATE, QUICK, Session, Updates, address_of, user_errors

ENCODINGS = (
    "utf-8",
    "cp1252",
    "iso-8859-15",
    "cp1250",
    "cp1251",
    "koi8-r",
    "utf-16",
    "shift_jis",
    "gb18030",
    "big5",
    "euc-kr",
)
"""Offered in the menu; others can be typed."""

FETCHES: dict[str, Any] = {"concurrency_id": "fetch", "concurrency_limit": 8}
"""For web addresses: a slow server keeps others waiting for 30 s."""


class DocumentsPanel:
    """Layout and events of the panel. `open` sets `outputs` and allows uploads. `changed` events fire after documents
    were added or removed here, `switched` events after another collection was opened."""

    def __init__(self, session: Session, menu: gr.Dropdown, shown: gr.State):
        self._session, self._menu, self._shown = session, menu, shown
        limits = session.service.limits
        self.upload = gr.File(
            label=strings.UPLOAD,
            show_label=False,
            file_count="multiple",
            height=132,
            elem_id="upload",
            interactive=False,
        )
        info = strings.UPLOAD_INFO.format(n_files=limits.n_files, megabytes=limits.file_bytes >> 20)
        gr.Markdown(info, elem_classes="aside")
        self.table = View("documents", {"empty": strings.NO_DOCUMENTS}, elem_id="documents")
        self.chosen = ChosenPanel(session, shown, self.table)
        with gr.Accordion(strings.MORE_WAYS, open=False, elem_id="more-ways"):
            self.url = gr.Textbox(
                label=strings.URL,
                info=strings.URL_INFO,
                placeholder="https://",
                max_length=2000,
                submit_btn=strings.URL_ADD,
                elem_id="url",
            )
            self.folder = gr.UploadButton(
                strings.FOLDER_ADD, file_count="directory", type="filepath", elem_id="folder", size="md"
            )
            self.sync = gr.Textbox(
                label=strings.SYNC,
                info=strings.SYNC_INFO,
                max_length=1000,
                submit_btn=strings.SYNC_START,
                visible=session.service.is_personal,
                elem_id="sync",
            )
            self.text_name = gr.Textbox(label=strings.PASTE_NAME, max_length=200, elem_id="text-name")
            self.text = gr.Textbox(label=strings.PASTE, lines=4, max_lines=10, elem_id="text")
            self.add_text = gr.Button(strings.PASTE_ADD, elem_id="add-text", size="md")
        with gr.Accordion(strings.HOW_READ, open=False, elem_id="how-read"):
            self.ocr = gr.Checkbox(
                False,
                label=strings.OCR,
                info=strings.OCR_INFO if documents.has_ocr() else strings.OCR_MISSING,
                interactive=documents.has_ocr(),
                elem_id="ocr",
                container=False,
            )
            self.encoding = gr.Dropdown(
                ["", *ENCODINGS],
                value="",
                label=strings.FILE_ENCODING,
                info=strings.FILE_ENCODING_INFO,
                allow_custom_value=True,
                elem_id="encoding",
            )
        self._lay_out_collections()
        self.outputs = [menu, self.upload, self.table, self.exported, self.name, *self.chosen.outputs]
        self._wire()

    def _lay_out_collections(self) -> None:
        with gr.Accordion(strings.MANAGE, open=False, elem_id="manage"):
            self.name = gr.Textbox(
                label=strings.COLLECTION_NAME,
                info=strings.COLLECTION_NAME_INFO,
                max_length=200,
                elem_id="collection-name",
            )
            with gr.Row(elem_classes="tight"):
                self.create = gr.Button(strings.CREATE, elem_id="create", min_width=110, size="md")
                self.rename = gr.Button(strings.RENAME, elem_id="rename", min_width=90, size="md")
                self.export = gr.Button(strings.EXPORT, elem_id="export", min_width=110, size="md")
                self.to_import = gr.UploadButton(
                    strings.IMPORT, file_types=[".zip"], elem_id="import", min_width=110, type="filepath", size="md"
                )
                self.delete = gr.Button(
                    strings.DELETE_COLLECTION, variant="stop", elem_id="delete", min_width=110, size="md"
                )
            self.exported = gr.File(label=strings.EXPORT, interactive=False, visible=False, elem_id="exported")

    def _wire(self) -> None:
        visitor = self._session.visitor
        loaded = [self.upload, self.table]
        how = [self._shown, self.encoding, self.ocr]
        uploaded = self.upload.upload(self._load, [visitor, self.upload, *how], loaded, **QUICK)
        foldered = self.folder.upload(self._load_folder, [visitor, self.folder, *how], self.table, **QUICK)
        synced = self.sync.submit(self._sync, [visitor, self.sync, *how], self.table, **QUICK)
        fetched = self.url.submit(
            self._fetch, [visitor, self.url, self._shown], [self.url, self.table], **PRIVATE, **FETCHES
        )
        texts = [self.text_name, self.text]
        pasted = self.add_text.click(self._paste, [visitor, *texts, self._shown], [*texts, self.table], **QUICK)
        removed = self.table.remove(self._remove, [visitor, self._shown], self.table, **QUICK)
        self.changed = (uploaded, foldered, synced, fetched, pasted, removed, *self.chosen.changed)
        chosen = self._menu.input(self._choose, [visitor, self._menu], visitor, **QUICK)
        created = self.create.click(self._create, [visitor, self.name], visitor, **QUICK)
        renamed = self.rename.click(self._rename, [visitor, self.name], visitor, **QUICK)
        deleted = self.delete.click(self._delete, [visitor, self.name], visitor, **QUICK)
        imported = self.to_import.upload(self._import, [visitor, self.to_import], visitor, **PRIVATE, **JOBS)
        self.export.click(self._export, visitor, self.exported, **PRIVATE)
        self.switched = (chosen, created, renamed, deleted, imported)

    def open(self, visitor: Any, shown: Shown, request: gr.Request) -> Updates:
        """Show the open collection and allow uploads."""
        with self._session.open(visitor, request) as collection:
            shown.documents = ()
            return {
                self._menu: gr.Dropdown(choices=collections.choices(collection), value=collection.token),
                self.upload: gr.File(interactive=True),
                self.table: documents.view(collection),
                self.exported: gr.File(visible=False, value=None),
                self.name: "",
                **self.chosen.update(collection, shown, choice_changed=True),
            }

    def _load(
        self, visitor: Any, paths: list[str], shown: Shown, encoding: str | None, ocr: bool, request: gr.Request
    ) -> Updates:
        with self._session.open(visitor, request) as collection:
            documents.receive(collection, [Path(path) for path in paths], encoding or "", ocr)
            return {self.upload: None, self.table: documents.view(collection, shown.documents)}

    def _load_folder(
        self, visitor: Any, paths: list[str], shown: Shown, encoding: str | None, ocr: bool, request: gr.Request
    ) -> DocumentsPayload:
        with self._session.open(visitor, request) as collection:
            said = documents.receive_folder(collection, [Path(path) for path in paths], encoding or "", ocr)
            if said:
                gr.Info(html.escape(said))
            return documents.view(collection, shown.documents)

    def _sync(
        self, visitor: Any, folder: str, shown: Shown, encoding: str | None, ocr: bool, request: gr.Request
    ) -> DocumentsPayload:
        with self._session.open(visitor, request) as collection:
            if not self._session.service.may_manage(address_of(request)):
                raise PreferenceError(strings.SYNC_ELSEWHERE)
            gr.Info(html.escape(documents.sync_folder(collection, folder, encoding or "", ocr)))
            return documents.view(collection, shown.documents)

    def _fetch(self, visitor: Any, url: str, shown: Shown, request: gr.Request) -> Updates:
        with self._session.open(visitor, request) as collection:
            documents.receive_url(collection, url)
            return {self.url: "", self.table: documents.view(collection, shown.documents)}

    def _paste(self, visitor: Any, name: str, text: str, shown: Shown, request: gr.Request) -> Updates:
        with self._session.open(visitor, request) as collection:
            documents.receive_text(collection, name, text)
            return {self.text_name: "", self.text: "", self.table: documents.view(collection, shown.documents)}

    def _remove(self, visitor: Any, shown: Shown, request: gr.Request, event: gr.EventData) -> DocumentsPayload:
        with self._session.open(visitor, request) as collection:
            return documents.remove(collection, str(event.doc), shown.documents)

    def _choose(self, visitor: dict, token: str, request: gr.Request) -> dict:
        with user_errors():
            return self._session.choose(token, request)

    def _create(self, visitor: dict, name: str, request: gr.Request) -> dict:
        with self._session.open(visitor, request) as collection:
            return {"collection": self._session.service.create(collection.owner, name, address_of(request)).id}

    def _rename(self, visitor: dict, name: str, request: gr.Request) -> dict:
        with self._session.open(visitor, request) as collection:
            collection.keep()
            collection.store.collections.rename(collection.record.id, name)
            return {**visitor, "collection": collection.record.id}

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
            token = collections.from_file(self._session.service, collection, Path(path), address_of(request))
            imported = self._session.service.open(collection.owner, token)
            if imported.settings["auto_index"]:
                index.start(imported)
            return self._session.choose(token, request)
