"""The page: seven tabs over one open collection, and which events update which tab."""

from typing import Any

import gradio as gr

from ui import api, strings
from ui.ask_tab import AskTab
from ui.benchmarks_tab import BenchmarksTab
from ui.blocks_tab import BlocksTab
from ui.collection_service import CollectionService
from ui.documents_tab import DocumentsTab
from ui.handlers.collections import DOWNLOAD_S
from ui.handlers.kv_cache import TierMonitor
from ui.index_tab import IndexTab
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


def build(service: CollectionService, monitor: TierMonitor, former_key: str | None = None) -> gr.Blocks:
    """Return the page, not yet served. Earlier versions encrypted what browsers keep with `former_key`."""
    with gr.Blocks(title=strings.TITLE, analytics_enabled=False, fill_width=False, delete_cache=DELETE_CACHE) as page:
        session = Session(service, monitor, gr.BrowserState({}, storage_key=BROWSER_STATE, secret=BROWSER_STATE))
        former = gr.BrowserState({}, storage_key=FORMER_STATE, secret=former_key) if former_key else gr.State({})
        with gr.Row(elem_id="top", equal_height=True):
            gr.Markdown(f"# {strings.TITLE}\n{strings.TAGLINE}", elem_id="title")
            menu = gr.Dropdown(
                label=strings.COLLECTION, choices=[], interactive=True, elem_id="collection", min_width=240, scale=0
            )
        with gr.Tabs(elem_id="steps") as tabs:
            with gr.Tab(strings.DOCUMENTS, id="documents"):
                documents = DocumentsTab(session, menu)
            with gr.Tab(strings.BLOCKS, id="blocks"):
                blocks = BlocksTab(session)
            with gr.Tab(strings.INDEX, id="index") as index_tab:
                index = IndexTab(session)
            with gr.Tab(strings.ASK, id="ask"):
                ask = AskTab(session)
            with gr.Tab(strings.CACHE, id="cache") as kv_cache_tab:
                kv_cache = KVCacheTab(session)
            with gr.Tab(strings.BENCHMARKS, id="benchmarks"):
                BenchmarksTab(session)
            with gr.Tab(strings.SETTINGS, id="settings"):
                settings = SettingsTab(session)
        footer = strings.FOOTERS[service.access] + (strings.EXPIRES if service.expires else "")
        gr.Markdown(footer, elem_id="footer")
        _wire_open(page, session, former, documents, blocks, index, ask, settings)
        _wire_changes(session, documents, blocks, index)
        index_tab.select(index.overview, session.visitor, index.view, **QUICK)
        kv_cache_tab.select(kv_cache.overview, session.visitor, kv_cache.view, **QUICK)
        _wire_next_buttons(session, tabs, documents, blocks, index)
        api.publish(service)
    return page


def _wire_open(
    page: gr.Blocks,
    session: Session,
    former: gr.BrowserState | gr.State,
    documents: DocumentsTab,
    blocks: BlocksTab,
    index: IndexTab,
    ask: AskTab,
    settings: SettingsTab,
) -> None:
    """When a visitor arrives or opens another collection, update every tab."""

    visitor = session.visitor

    def enter(known: Any, formerly: Any, request: gr.Request) -> Updates:
        return {visitor: session.enter(known, formerly, request), former: {}}

    entered = page.load(enter, [visitor, former], [visitor, former], **QUICK)
    for event in (entered, *documents.switched):
        opened = event.success(documents.open, visitor, documents.outputs, **QUICK)
        listed = opened.success(blocks.fill_menu, [visitor, blocks.document], blocks.document, **QUICK)
        listed.then(blocks.choose, [visitor, blocks.document], blocks.outputs, **QUICK)
        listed.then(_enable_next(session), visitor, documents.next, **QUICK)
        opened.success(ask.open, visitor, ask.outputs, **QUICK)
        opened.success(index.overview, visitor, index.view, **QUICK)
    entered.success(settings.open, visitor, settings.outputs, **QUICK)


def _wire_changes(session: Session, documents: DocumentsTab, blocks: BlocksTab, index: IndexTab) -> None:
    """When the documents or the index change, update the tabs that show them."""
    visitor = session.visitor
    for event in documents.changed:
        listed = event.then(blocks.fill_menu, [visitor, blocks.document], blocks.document, **QUICK)
        listed.then(_enable_next(session), visitor, documents.next, **QUICK)
        listed.then(index.overview, visitor, index.view, **QUICK)
    index.indexed.then(documents.open, visitor, documents.outputs, **QUICK)


def _enable_next(session: Session) -> Any:
    def enable_next(visitor: Any, request: gr.Request) -> Any:
        with session.open(visitor, request) as collection:
            return gr.Button(interactive=collection.record.n_documents > 0)

    return enable_next


def _wire_next_buttons(
    session: Session, tabs: gr.Tabs, documents: DocumentsTab, blocks: BlocksTab, index: IndexTab
) -> None:
    for button, tab in ((documents.next, "blocks"), (blocks.next, "index"), (index.next, "ask")):
        selected = button.click(lambda tab=tab: gr.Tabs(selected=tab), None, tabs, **QUICK)
        if tab == "index":
            selected.then(index.overview, session.visitor, index.view, **QUICK)
