"""Serve the page inside the test process, and find a browser."""

import shutil
from pathlib import Path

from blockrag.engine import Engine
from ui.page import build, launch
from ui.workspace import Workspaces

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


def serve(engine: Engine, folder: Path):
    """Address of a page over `engine`, and what closes it."""
    page = build(Workspaces(engine, folder / "visits"))
    return launch(page, host="127.0.0.1", port=None, data_dir=folder, block=False), page.close
