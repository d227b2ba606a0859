"""The page: four steps in one order. Knows which step stands where and what follows from what."""

import secrets
from pathlib import Path
from typing import Any

import gradio as gr

from ui import strings
from ui.ask_step import AskStep
from ui.blocks_step import BlocksStep
from ui.documents_step import DocumentsStep
from ui.index_step import IndexStep
from ui.visit import Visit
from ui.workspace import GoneError, Workspaces

CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
MAX_FILE_SIZE = "64mb"
FONT = ("system-ui", "-apple-system", "Segoe UI", "Helvetica", "Arial", "sans-serif")
FONT_MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")


def build(workspaces: Workspaces) -> gr.Blocks:
    """The page over these workspaces, not yet served."""
    with gr.Blocks(title=strings.TITLE, analytics_enabled=False, fill_width=False) as page:
        visit = Visit(workspaces, gr.BrowserState("", storage_key="blockrag-visit", secret=secrets.token_hex(32)))
        gr.Markdown(f"# {strings.TITLE}\n{strings.TAGLINE}", elem_id="title")
        with gr.Tabs(elem_id="steps") as tabs:
            with gr.Tab(strings.DOCUMENTS, id="documents"):
                loading = DocumentsStep(visit)
            with gr.Tab(strings.BLOCKS, id="blocks"):
                cutting = BlocksStep(visit)
            with gr.Tab(strings.INDEX, id="index") as index_tab:
                indexing = IndexStep(visit)
            with gr.Tab(strings.ASK, id="ask"):
                AskStep(visit)
        gr.Markdown(strings.FOOTER, elem_id="footer")
        _connect(page, visit, tabs, index_tab, loading, cutting, indexing)
    return page


def _connect(
    page: gr.Blocks,
    visit: Visit,
    tabs: gr.Tabs,
    index_tab: gr.Tab,
    loading: DocumentsStep,
    cutting: BlocksStep,
    indexing: IndexStep,
) -> None:
    quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def begin(workspace_id: str) -> str:
        try:
            return visit.workspaces.get(workspace_id).id
        except GoneError:
            return visit.workspaces.create().id

    def enable_next(workspace_id: str) -> Any:
        with visit.open(workspace_id) as workspace:
            return gr.Button(interactive=bool(workspace.entries))

    begun = page.load(begin, visit.id, visit.id, **quick).then(
        loading.ready, visit.id, [loading.upload, loading.sample, loading.table], **quick
    )
    for changed in (begun, *loading.changed):
        refreshed = changed.then(cutting.refresh, [visit.id, cutting.document], cutting.document, **quick)
        refreshed.then(enable_next, visit.id, loading.next, **quick)
    index_tab.select(indexing.overview, visit.id, indexing.view, **quick)
    for button, step in ((loading.next, "blocks"), (cutting.next, "index"), (indexing.next, "ask")):
        go = button.click(lambda step=step: gr.Tabs(selected=step), None, tabs, **quick)
        if step == "index":
            go.then(indexing.overview, visit.id, indexing.view, **quick)


def _theme() -> gr.themes.Base:
    """Quiet surfaces, one accent, and fonts that are there already: the page fetches nothing from elsewhere."""
    theme = gr.themes.Default(
        primary_hue="indigo", neutral_hue="slate", radius_size="lg", font=FONT, font_mono=FONT_MONO
    )
    return theme.set(
        block_shadow="none",
        block_title_text_weight="600",
        block_title_text_color="*body_text_color",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        slider_color="*primary_600",
    )


def launch(page: gr.Blocks, *, host: str | None, port: int | None, data_dir: Path, block: bool = True) -> str:
    """Serve the page; returns its address where `block` is false.

    Nothing in the data folder can be fetched, no run is recorded, and errors are told without their traces.
    """
    page.queue(max_size=64, default_concurrency_limit=8)
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        theme=_theme(),
        css=CSS,
        max_file_size=MAX_FILE_SIZE,
        blocked_paths=[str(data_dir)],
        run_history=False,
        show_error=False,
        footer_links=["settings"],
        ssr_mode=False,
        prevent_thread_lock=not block,
        quiet=not block,
    )
    return address
