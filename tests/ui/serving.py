"""Serve the page inside the test process, and find a browser."""

import shutil
import socket
from pathlib import Path

from blockrag.engine import Engine
from storage.database import sqlite_url
from storage.library import Library
from storage.store import Store
from ui.collection_service import Access, CollectionService
from ui.limits import Limits
from ui.serve import Service

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

HELD_AT = 2
"""Blocks that an engine held by a gate encodes before it waits."""


def hold(warm, gate):
    """`Engine.warm` that waits at `HELD_AT` blocks until the gate is open, and can be stopped while it does."""

    def held(texts, on_progress):
        def tell(step):
            on_progress(step)
            while step.done == HELD_AT and not gate.wait(0.05):
                on_progress(step)

        warm(texts, tell)

    return held


def make_workspaces(
    engine: Engine,
    folder: Path,
    access: Access = "private",
    limits: Limits | None = None,
    segmenter: str = "structural",
):
    """Collections in a folder; each browser has its own unless told otherwise. SegmentationRecord by rules, since these tests are the
    page's: the learned segmenter takes minutes for a million characters on a processor without bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    library = Library(Store.open(sqlite_url(folder / "blockrag.sqlite")), engine, folder)
    return CollectionService(library, access, segmenter, limits or Limits())


def serve(
    engine: Engine,
    folder: Path,
    access: Access = "private",
    limits: Limits | None = None,
    auth=None,
    port: int | None = None,
    segmenter: str = "structural",
    **options,
):
    """Address of a page over `engine`, and what closes it."""
    service = Service(make_workspaces(engine, folder, access, limits, segmenter), folder, auth, **options)
    return service.launch("127.0.0.1", port or free_port()), service.close


def free_port() -> int:
    """One that the system gives to nobody else soon; Gradio would look for one and take it a moment later, and of two
    workers that do so at once one fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
