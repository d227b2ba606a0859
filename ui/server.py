"""Serve the page: theme, request limits, health check, graceful stop."""

import logging
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from ui import openai_api, pending
from ui.bodies import BodyLimits
from ui.collection_service import CollectionService
from ui.connections import allow_open_files, limit_connections
from ui.guard import SPACE_FRAMES, Guard, HostRule
from ui.handlers.kv_cache import TierMonitor
from ui.logins import Logins
from ui.monitoring import Monitoring
from ui.page import build
from ui.passwords import Auth
from ui.session import MAX_THREADS
from ui.worker import THREADS

_LOG = logging.getLogger(__name__)

CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
FONT = ("system-ui", "-apple-system", "Segoe UI", "Helvetica", "Arial", "sans-serif")
FONT_MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")
BLOCKED = (
    "blockrag.sqlite",
    "blockrag.sqlite-wal",
    "blockrag.sqlite-shm",
    "indexes",
    "kv",
    "lock",
    "secret",
    "uploads",
)
"""All of the data folder but `app.INCOMING`, from which Gradio serves what a visitor may have."""


class Server:
    """Serves the page and runs its background threads.

    Parameters
    ----------
    service : CollectionService
    data_dir : Path
        Nothing in it can be downloaded.
    auth : callable, optional
        Checks a name and a password; without it there is no login.
    mcp : bool
        Serve the API as an MCP server too.
    metrics : bool
        Serve ``/metrics``.
    allowed_hosts : sequence of str
        Host names to answer to, besides the loopback names. Without them every name is answered, except in shared mode.
    """

    def __init__(
        self,
        service: CollectionService,
        data_dir: Path,
        auth: Auth | None = None,
        *,
        mcp: bool = False,
        metrics: bool = False,
        allowed_hosts: Sequence[str] = (),
    ):
        self.service = service
        self._data_dir, self._mcp, self._allowed_hosts = data_dir, mcp, allowed_hosts
        self._logins = Logins(auth) if auth else None
        self._stop = threading.Event()
        self._monitor = TierMonitor(service.engine)
        self._monitoring = Monitoring(service, data_dir, self._stop, metrics=metrics)
        service.on_model.append(self._monitor.follow)
        self._page = build(service, self._monitor, former_key(data_dir))

    def launch(self, host: str | None, port: int | None) -> str:
        """Serve in threads and return the address. Raises BlockRAGError if the system allows too few open files."""
        allow_open_files()
        expiry = [self.service.run_expiry] if self.service.expires else []
        for work in (self._monitor.run, *expiry, *THREADS * [self.service.worker.run]):
            threading.Thread(target=work, args=(self._stop,), daemon=True).start()
        pending.bound(self._page)
        _, address, _ = self._page.launch(
            server_name=host,
            server_port=port,
            theme=_theme(),
            css=CSS,
            auth=self._logins.check if self._logins else None,
            max_threads=MAX_THREADS,
            state_session_capacity=pending.MAX_SESSIONS,
            max_file_size=self.service.limits.file_bytes,
            blocked_paths=[str(self._data_dir.resolve() / name) for name in BLOCKED],
            allowed_paths=[],
            strict_cors=True,
            enable_monitoring=False,
            run_history=False,
            show_error=False,
            footer_links=[],
            ssr_mode=False,
            mcp_server=self._mcp,
            app_kwargs={
                "routes": [*self._monitoring.routes, *openai_api.routes(self.service)],
                "middleware": [self._guard(host)],
            },
            prevent_thread_lock=True,
            quiet=True,
        )
        pending.forget_values(self._page)
        limit_connections(self._page.server.config)
        _LOG.info("serving at %s", address)
        return address

    def _guard(self, host: str | None) -> Middleware:
        address = host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
        hosts = HostRule(self._allowed_hosts, address, only_known=self.service.access == "shared")
        limits = BodyLimits(upload_bytes=self.service.limits.upload_bytes)
        frames = SPACE_FRAMES if os.environ.get("SPACE_ID") else ()
        cookie = self.service.access == "private"
        return Middleware(Guard, hosts=hosts, frames=frames, limits=limits, cookie=cookie, logins=self._logins)

    def wait(self) -> None:
        """Serve until SIGTERM or SIGINT, then `close`."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: self._stop.set())
        while not self._stop.wait(1.0):
            pass
        _LOG.info("stopping")
        self.close()

    def close(self) -> None:
        """Stop jobs at their next step, close the page, then the database."""
        self._stop.set()
        self.service.worker.wake()
        self.service.stop_jobs()
        self._page.close(verbose=False)
        self.service.library.close()


def former_key(data_dir: Path) -> str | None:
    """Return the key with which earlier versions encrypted what browsers kept, or None in a newer data folder."""
    try:
        return (data_dir / "secret").read_text(encoding="ascii")
    except FileNotFoundError:
        return None


def _theme() -> gr.themes.Base:
    """Plain surfaces, one accent, system fonts: the page fetches nothing from elsewhere."""
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
