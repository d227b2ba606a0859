"""Serves the page: theme, limits of requests, health, graceful stop. Knows nothing of what is on the page."""

import json
import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from blockrag.errors import BlockRAGError
from ui.collection_service import CollectionService
from ui.handlers.cache import Watch
from ui.page import build
from ui.passwords import Auth
from ui.session import MAX_THREADS

_LOG = logging.getLogger(__name__)

CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
FONT = ("system-ui", "-apple-system", "Segoe UI", "Helvetica", "Arial", "sans-serif")
FONT_MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")
MAX_EVENTS = 256
"""That wait in the page's queue, of all visitors together."""


class Service:
    """The page, being served, and what goes on beside it.

    Parameters
    ----------
    workspaces : CollectionService
    data_dir : Path
        Nothing in it can be fetched.
    auth : callable, optional
        Whether a name and a password belong together; without it there is no login.
    mcp : bool
        Serve the API as an MCP server too.
    """

    def __init__(self, workspaces: CollectionService, data_dir: Path, auth: Auth | None = None, *, mcp: bool = False):
        self._workspaces, self._data_dir, self._auth, self._mcp = workspaces, data_dir, auth, mcp
        self._stop = threading.Event()
        self.watch = Watch(workspaces.engine)
        self.page = build(workspaces, self.watch, secret_of(data_dir))

    def launch(self, host: str | None, port: int | None) -> str:
        """Serve in threads; returns the address."""
        for work in (self.watch.keep_looking, self._workspaces.keep_expiring if self._workspaces.expires else None):
            if work is not None:
                threading.Thread(target=work, args=(self._stop,), daemon=True).start()
        self.page.queue(max_size=MAX_EVENTS, default_concurrency_limit=8)
        _, address, _ = self.page.launch(
            server_name=host,
            server_port=port,
            theme=_theme(),
            css=CSS,
            auth=self._auth,
            max_threads=MAX_THREADS,
            max_file_size=self._workspaces.limits.file_bytes,
            blocked_paths=[str(self._data_dir.resolve())],
            allowed_paths=[],
            strict_cors=True,
            enable_monitoring=False,
            run_history=False,
            show_error=False,
            footer_links=[],
            ssr_mode=False,
            mcp_server=self._mcp,
            app_kwargs={"routes": [Route("/health", self._health)]},
            prevent_thread_lock=True,
            quiet=True,
        )
        _LOG.info("serving at %s", address)
        return address

    async def _health(self, _request: Request) -> JSONResponse:
        """200 where the database answers, else 503. Tells nothing about anyone."""
        try:
            await _in_thread(self._workspaces.library.store.collections.count)
        except BlockRAGError as error:
            _LOG.error("not healthy: %s", error)
            return JSONResponse({"status": "failing"}, 503)
        return JSONResponse({"status": "ok"})

    def wait(self) -> None:
        """Serve until the process is told to end (SIGTERM, SIGINT), then stop in good order."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: self._stop.set())
        while not self._stop.wait(1.0):
            pass
        _LOG.info("stopping")
        self.close()

    def close(self) -> None:
        """Let no one in any more, have jobs stop at their next step, close the database."""
        self._stop.set()
        self._workspaces.stop_all()
        self.page.close(verbose=False)
        self._workspaces.library.close()


async def _in_thread(call: Callable[[], Any]) -> Any:
    import anyio  # noqa: PLC0415  (of Gradio's own)

    return await anyio.to_thread.run_sync(call)


def secret_of(data_dir: Path) -> str:
    """The key by which what browsers keep is encrypted: made once, and kept where only this user reads it."""
    path = data_dir / "secret"
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = secrets.token_hex(32)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(made)
    except FileExistsError:  # another process was first
        return path.read_text(encoding="ascii")
    return made


class JSONLines(logging.Formatter):
    """One JSON object a record: time, level, logger, message, and the kind of error where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line = {"at_s": round(record.created, 3), "level": record.levelname, "from": record.name}
        line["says"] = record.getMessage()
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=False)


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
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
    )
