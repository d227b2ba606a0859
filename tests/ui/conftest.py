"""The page served in this process, and a browser to look at it."""

import os
import tempfile
import threading
from pathlib import Path

import pytest

from tests.tiny import tiny_engine
from tests.ui.serving import ARGUMENTS, CHROMIUM, hold, serve
from tests.ui.steps import calm


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install Debian's package chromium to run the browser tests")
    from playwright.sync_api import expect, sync_playwright  # noqa: PLC0415

    expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(browser):
    """A page over a tiny engine."""
    with tempfile.TemporaryDirectory() as folder:
        url, close = serve(tiny_engine(Path(folder) / "kv"), Path(folder))
        yield url
        close()


@pytest.fixture
def held(browser, tmp_path):
    """A page over an engine that encodes a few blocks and then waits; and the event that lets it go on."""
    engine, gate = tiny_engine(), threading.Event()
    engine.warm = hold(engine.warm, gate)
    url, close = serve(engine, tmp_path)
    yield url, gate
    close()


@pytest.fixture
def visit(browser, address):
    """Opens the page as a new visitor; fails the test on any script error or request to elsewhere."""
    opened, troubles = [], []

    def open_page(url: str = address, beside=None, **options):
        """Of a new visitor, or, with `beside`, in another tab of that page's."""
        context = (
            beside.context if beside else browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        )
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: troubles.append(f"script error: {error}"))
        page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
        page.on("request", lambda r: troubles.append(f"request to {r.url}") if not is_own(r.url, url) else None)
        opened.append(context)
        page.goto(url)
        page.wait_for_selector("#upload input[type=file]", state="attached")
        calm(page)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert not troubles


def is_own(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))


@pytest.fixture
def screenshots(tmp_path):
    """Folder for screenshots: ``$BLOCKRAG_SCREENSHOTS``, or a temporary one."""
    folder = Path(os.environ.get("BLOCKRAG_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
