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

SETTLING_MS = 400
"""Gradio, while it draws a step for the first time, puts back the values it knew: a hand is slower than that, a test
waits."""

HELD_AT = 2
"""Blocks that an engine held by a gate encodes before it waits."""


def hold(warm, gate):
    """`Engine.warm` that waits at `HELD_AT` blocks until the gate is open, and can be closed while it does."""

    def held(texts):
        for step in warm(texts):
            yield step
            while step.done == HELD_AT and not gate.wait(0.05):
                yield step

    return held


def serve(engine: Engine, folder: Path):
    """Address of a page over `engine`, and what closes it."""
    page = build(Workspaces(engine, folder / "visits"))
    return launch(page, host="127.0.0.1", port=None, data_dir=folder, block=False), page.close
