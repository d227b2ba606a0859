"""The page: the conversation first, what lies behind it in tabs, and how they follow what happens."""

from typing import Any

import gradio as gr

from ui import addresses, api, strings
from ui.benchmarks_tab import BenchmarksTab
from ui.blocks_tab import BlocksTab
from ui.collection_service import CollectionService
from ui.components.payloads import StatusPayload
from ui.components.view import View
from ui.conversation_panel import ConversationPanel, Shown
from ui.documents_panel import DocumentsPanel
from ui.handlers import chosen as chosen_handlers
from ui.handlers import documents as documents_handlers
from ui.handlers import index as index_handlers
from ui.handlers import settings as settings_handlers
from ui.handlers.collections import DOWNLOAD_S
from ui.handlers.kv_cache import TierMonitor
from ui.index_tab import IndexTab
from ui.inputs import CheckedBlocks
from ui.kv_cache_tab import KVCacheTab
from ui.session import QUICK, Session, Updates
from ui.settings_tab import SettingsTab

DELETE_CACHE = (60, DOWNLOAD_S)
"""How often, and from what age, in seconds, Gradio deletes its copies of uploads and downloads. Equal files of all
visitors are one copy, so nothing else may delete them."""

BROWSER_STATE = "blockrag-collection"
"""Key of the number of the open collection in the browser. It is no secret, so neither is the key that encrypts it."""

FORMER_STATE = "blockrag-visit"
"""Key under which browsers kept the visitor's secret before there was a cookie."""

TICK_S = 1.5
"""How often a page asks whether anything has changed."""

DRAWER = "() => document.querySelector('#home').classList.toggle('drawer')"


def build(service: CollectionService, monitor: TierMonitor, former_key: str | None = None) -> gr.Blocks:
    """Return the page, not yet served. Earlier versions encrypted what browsers keep with `former_key`."""
    options = {"title": strings.TITLE, "analytics_enabled": False, "fill_width": True, "delete_cache": DELETE_CACHE}
    with CheckedBlocks(**options) as page:
        session = Session(service, monitor, gr.BrowserState({}, storage_key=BROWSER_STATE, secret=BROWSER_STATE))
        former = gr.BrowserState({}, storage_key=FORMER_STATE, secret=former_key) if former_key else gr.State({})
        _Page(session, page, former)
        api.publish(service)
    return page


class _Page:
    """Layout and events that concern several parts."""

    def __init__(self, session: Session, page: gr.Blocks, former: gr.BrowserState | gr.State):
        self._session = session
        with gr.Row(elem_id="top", equal_height=True):
            gr.Markdown(f"# {strings.TITLE}\n{strings.TAGLINE}", elem_id="title")
            self.status = View("status", {}, elem_id="status")
            menu = gr.Dropdown(
                label=strings.COLLECTION,
                show_label=False,
                container=False,
                choices=[],
                interactive=True,
                elem_id="collection",
                min_width=220,
                scale=0,
            )
        self.conversation = ConversationPanel(session)
        self._tab = gr.State(strings.ASK)
        with gr.Tabs(elem_id="steps") as tabs:
            with gr.Tab(strings.ASK, id="ask"):
                self._lay_out_home(menu)
            with gr.Tab(strings.BLOCKS, id="blocks"):
                self.blocks = BlocksTab(session)
            with gr.Tab(strings.INDEX, id="index") as index_tab:
                self.index = IndexTab(session)
            with gr.Tab(strings.CACHE, id="cache") as kv_cache_tab:
                kv_cache = KVCacheTab(session)
            with gr.Tab(strings.BENCHMARKS, id="benchmarks"):
                BenchmarksTab(session)
            with gr.Tab(strings.SETTINGS, id="settings"):
                self.settings = SettingsTab(session)
        service = session.service
        footer = strings.FOOTERS[service.access] + (strings.EXPIRES if service.expires else "")
        gr.Markdown(footer, elem_id="footer")
        self._seen = gr.State({}, time_to_live=4 * 3600)
        self.conversation.wire()
        self._wire_open(page, former)
        self._wire_changes()
        self.choose_model.click(lambda: gr.Tabs(selected="settings"), None, tabs, queue=False, **QUICK)
        tabs.select(self._select, None, self._tab, queue=False, **QUICK)
        index_tab.select(self.index.overview, session.visitor, self.index.view, **QUICK)
        kv_cache_tab.select(kv_cache.overview, session.visitor, kv_cache.view, **QUICK)

    def _lay_out_home(self, menu: gr.Dropdown) -> None:
        drawer = gr.Button(strings.DOCUMENTS, elem_id="open-drawer")
        drawer.click(None, None, None, js=DRAWER)
        with gr.Row(elem_id="home"):
            with gr.Column(elem_id="side", scale=0, min_width=260):
                gr.Markdown(strings.DOCUMENTS, elem_classes="heading")
                self.documents = DocumentsPanel(self._session, menu, self.conversation.shown)
            with gr.Column(elem_id="middle", scale=1, min_width=300):
                self.conversation.lay_out_thread()
                with gr.Row(elem_id="model"):
                    self.model = gr.Markdown(settings_handlers.model_line(self._session.service), elem_classes="aside")
                    self.choose_model = gr.Button(strings.CHOOSE_MODEL, size="sm", elem_id="choose-model")
            with gr.Column(elem_id="beside", scale=0, min_width=300):
                self.conversation.lay_out_sources()

    def _wire_open(self, page: gr.Blocks, former: gr.BrowserState | gr.State) -> None:
        """When a visitor arrives or opens another collection, update every part."""
        session, visitor, shown = self._session, self._session.visitor, self.conversation.shown
        documents, blocks, conversation, settings = self.documents, self.blocks, self.conversation, self.settings

        def enter(known: Any, formerly: Any, request: gr.Request) -> Updates:
            return {visitor: session.enter(known, formerly, request), former: {}}

        page.load(None, None, None, js=addresses.FOLLOW)
        entered = page.load(enter, [visitor, former], [visitor, former], js=addresses.READ, **QUICK)
        for event in (visitor.change, entered.success):
            event(None, visitor, None, js=addresses.WRITE_OPEN)
        blocks.document.input(None, blocks.document, None, js=addresses.WRITE_DOCUMENT)
        for event in (entered, *documents.switched):
            opened = event.success(documents.open, [visitor, shown], documents.outputs, **QUICK)
            listed = opened.success(blocks.fill_menu, [visitor, blocks.document], blocks.document, **QUICK)
            listed.then(blocks.choose, [visitor, blocks.document], blocks.outputs, **QUICK)
            talked = opened.success(conversation.open, [visitor, shown], conversation.outputs, **QUICK)
            talked.success(conversation.stream, [visitor, shown], conversation.streamed, **QUICK)
            opened.success(self.index.overview, visitor, self.index.view, **QUICK)
        entered.success(settings.open, visitor, settings.outputs, **QUICK)

    def _wire_changes(self) -> None:
        """Follow what this page, other pages, the API and the program itself change."""
        visitor, conversation = self._session.visitor, self.conversation
        inputs = [visitor, self._seen, conversation.shown, self.blocks.document, self._tab]
        outputs = [
            self._seen, self.status, self.documents.table, self.index.view, self.blocks.document, self.model,
            *self.settings.models.values(), *conversation.streamed, *self.documents.chosen.outputs,
        ]  # fmt: skip
        sampled = conversation.thread.sample(
            self._add_sample, [visitor, conversation.shown], self.documents.table, queue=False, **QUICK
        )
        for tick in (gr.Timer(TICK_S).tick, *(event.then for event in (*self.documents.changed, sampled))):
            tick(self._follow, inputs, outputs, queue=False, **QUICK)
        self.documents.table.choose(
            self._choose_documents,
            [visitor, conversation.shown],
            [conversation.scope, self.documents.table, *self.documents.chosen.outputs],
            queue=False,
            **QUICK,
        )
        for event, handler in ((self.status.stop, self._stop), (self.status.resume, self._resume)):
            event(handler, visitor, self.status, queue=False, **QUICK)

    def _add_sample(self, visitor: Any, shown: Shown, request: gr.Request) -> Any:
        with self._session.open(visitor, request) as collection:
            documents_handlers.receive_sample(collection)
            return documents_handlers.view(collection, shown.documents)

    def _choose_documents(self, visitor: Any, shown: Shown, request: gr.Request, event: gr.EventData) -> Updates:
        """Ask the documents that are chosen in the list alone."""
        with self._session.open(visitor, request) as collection:
            records = chosen_handlers.chosen_of(collection, [str(id) for id in event.docs])
            shown.documents = tuple(record.document_id for record in records)
            scope = chosen_handlers.scope(collection, shown.documents)
            return {
                self.conversation.scope: gr.Markdown(scope, visible=bool(scope)),
                self.documents.table: documents_handlers.view(collection, shown.documents),
                **self.documents.chosen.update(collection, shown, choice_changed=True),
            }

    @staticmethod
    def _select(event: gr.SelectData) -> str:
        return str(event.value)

    def _follow(
        self, visitor: Any, seen: dict, shown: Shown, document: str | None, tab: str, request: gr.Request
    ) -> Updates:
        """Update what has changed since this page was drawn."""
        if not isinstance(visitor, dict) or "collection" not in visitor:
            return {self._seen: seen}  # still arriving
        with self._session.open(visitor, request) as collection:
            service = self._session.service
            id, is_wiped = collection.record.id, collection.store.database.is_wiped
            now = (id, collection.worker.versions.get(id, 0), service.model.version, is_wiped)
            if seen.get("version") == now:
                return {self._seen: seen}
            seen["version"] = now
            switch: StatusPayload = {"text": service.model.text}
            updates: Updates = {
                self._seen: seen,
                self.status: switch if service.model.text else documents_handlers.status(collection),
                self.documents.table: documents_handlers.view(collection, shown.documents),
                **self.documents.chosen.update(collection, shown),
            }
            if seen.get("model") != service.model_names.model:
                seen["model"] = service.model_names.model
                updates |= {self.model: settings_handlers.model_line(service), **self.settings.models_in_use()}
            if tab == strings.INDEX:
                updates[self.index.view] = index_handlers.overview(collection)
            choices = documents_handlers.choices(collection)
            if seen.get("choices") != choices:
                seen["choices"] = choices
                updates[self.blocks.document] = self.blocks.menu(collection, document or visitor.get("document"))
            if not shown.streams:
                updates |= self.conversation.draw(collection, shown)
            return updates

    def _stop(self, visitor: Any, request: gr.Request) -> Any:
        with self._session.open(visitor, request) as collection:
            collection.worker.stop(collection.record.id)
            return documents_handlers.status(collection)

    def _resume(self, visitor: Any, request: gr.Request) -> Any:
        with self._session.open(visitor, request) as collection:
            collection.worker.resume(collection.record.id)
            return documents_handlers.status(collection)
