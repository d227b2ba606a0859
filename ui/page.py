"""The page: seven tabs over one collection. Knows which tab stands where and what follows from what."""

from typing import Any

import gradio as gr

from ui import api, strings
from ui.ask_tab import AskTab
from ui.benchmarks_tab import BenchmarksTab
from ui.blocks_tab import BlocksTab
from ui.cache_tab import CacheTab
from ui.collection_service import CollectionService
from ui.documents_tab import DocumentsTab
from ui.handlers.cache import Watch
from ui.handlers.collections import FETCH_S
from ui.index_tab import IndexTab
from ui.session import QUICK, Session, told, user_of
from ui.settings_tab import SettingsTab

DELETE = (60, FETCH_S)
"""How often, in seconds, Gradio deletes its copies of files that came in or go out, and how old those are. It has equal
files of all visitors as one, so that who has taken one in must leave it to the others."""


def build(workspaces: CollectionService, watch: Watch, secret: str) -> gr.Blocks:
    """The page over these collections, not yet served; `secret` encrypts what browsers keep."""
    with gr.Blocks(title=strings.TITLE, analytics_enabled=False, fill_width=False, delete_cache=DELETE) as page:
        visit = Session(workspaces, watch, gr.BrowserState({}, storage_key="blockrag-visit", secret=secret))
        with gr.Row(elem_id="top", equal_height=True):
            gr.Markdown(f"# {strings.TITLE}\n{strings.TAGLINE}", elem_id="title")
            collection = gr.Dropdown(
                label=strings.COLLECTION, choices=[], interactive=True, elem_id="collection", min_width=240, scale=0
            )
        with gr.Tabs(elem_id="steps") as tabs:
            with gr.Tab(strings.DOCUMENTS, id="documents"):
                loading = DocumentsTab(visit, collection)
            with gr.Tab(strings.BLOCKS, id="blocks"):
                cutting = BlocksTab(visit)
            with gr.Tab(strings.INDEX, id="index") as index_tab:
                indexing = IndexTab(visit)
            with gr.Tab(strings.ASK, id="ask"):
                asking = AskTab(visit)
            with gr.Tab(strings.CACHE, id="cache") as cache_tab:
                caching = CacheTab(visit)
            with gr.Tab(strings.BENCHMARKS, id="benchmarks"):
                BenchmarksTab(visit)
            with gr.Tab(strings.SETTINGS, id="settings"):
                setting = SettingsTab(visit)
        footer = strings.FOOTERS[workspaces.access] + (strings.EXPIRES if workspaces.expires else "")
        gr.Markdown(footer, elem_id="footer")
        _open(page, visit, loading, cutting, indexing, asking, setting)
        _follow(visit, loading, cutting, indexing)
        index_tab.select(indexing.overview, visit.id, indexing.view, **QUICK)
        cache_tab.select(caching.overview, visit.id, caching.view, **QUICK)
        _lead(visit, tabs, loading, cutting, indexing)
        api.publish(workspaces)
    return page


def _open(
    page: gr.Blocks,
    visit: Session,
    loading: DocumentsTab,
    cutting: BlocksTab,
    indexing: IndexTab,
    asking: AskTab,
    setting: SettingsTab,
) -> None:
    """A visitor came, or opened another collection: every tab shows it."""

    def enter(known: Any, request: gr.Request) -> dict[str, str]:
        with told():
            return visit.workspaces.enter(known, user_of(request))

    begun = page.load(enter, visit.id, visit.id, **QUICK)
    for opened in (begun, *loading.switched):
        shown = opened.success(loading.ready, visit.id, loading.shown, **QUICK)
        menu = shown.success(cutting.refresh, [visit.id, cutting.document], cutting.document, **QUICK)
        menu.then(cutting.choose, [visit.id, cutting.document], cutting.shown, **QUICK)
        menu.then(_enable_next(visit), visit.id, loading.next, **QUICK)
        shown.success(asking.opened, visit.id, asking.shown, **QUICK)
        shown.success(indexing.overview, visit.id, indexing.view, **QUICK)
    begun.success(setting.opened, visit.id, list(setting.fields.values()), **QUICK)


def _follow(visit: Session, loading: DocumentsTab, cutting: BlocksTab, indexing: IndexTab) -> None:
    """What the documents of a collection change elsewhere on the page."""
    for changed in loading.changed:
        refreshed = changed.then(cutting.refresh, [visit.id, cutting.document], cutting.document, **QUICK)
        refreshed.then(_enable_next(visit), visit.id, loading.next, **QUICK)
        refreshed.then(indexing.overview, visit.id, indexing.view, **QUICK)
    indexing.indexed.then(loading.ready, visit.id, loading.shown, **QUICK)


def _enable_next(visit: Session) -> Any:
    def enable_next(known: Any, request: gr.Request) -> Any:
        with visit.open(known, request) as workspace:
            return gr.Button(interactive=workspace.fresh().n_documents > 0)

    return enable_next


def _lead(visit: Session, tabs: gr.Tabs, loading: DocumentsTab, cutting: BlocksTab, indexing: IndexTab) -> None:
    """The buttons that lead from one tab to the next."""
    for button, tab in ((loading.next, "blocks"), (cutting.next, "index"), (indexing.next, "ask")):
        go = button.click(lambda tab=tab: gr.Tabs(selected=tab), None, tabs, **QUICK)
        if tab == "index":
            go.then(indexing.overview, visit.id, indexing.view, **QUICK)
