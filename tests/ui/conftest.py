"""Fixtures: collections without a page; a page served in this process; a browser."""

import os
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from blockrag.engine import Engine
from blockrag.progress import Progress
from blockrag.segment import DEFAULT_SEGMENTER, SEGMENTERS, SizeBounds, Structural
from tests.tiny import tiny_engine
from tests.ui import steps
from tests.ui.serving import (
    ARGUMENTS,
    CHROMIUM,
    SECRET,
    TEXT,
    hold,
    load_files,
    make_service,
    only_document,
    serve,
    visitor,
)
from ui.models import ModelNames
from ui.preferences import DEFAULTS

N_TOKENS = 16
"""Of an answer on a page: each token is an event and draws the page again."""


@pytest.fixture(scope="session", autouse=True)
def quick_pages():
    """Pages follow what changes sooner than people need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ui.page.TICK_S", 0.5)
        yield


@pytest.fixture
def service(tmp_path, clock):
    """The collections of a folder, each visitor with their own."""
    service = make_service(
        tiny_engine(tmp_path / "kv"), tmp_path / "data", segmenter=DEFAULT_SEGMENTER, clock=clock, expire=True
    )
    yield service
    service.library.close()


@pytest.fixture
def collection(service, tmp_path):
    """A collection with one document."""
    collection = visitor(service, SECRET["secret"])
    (tmp_path / "rivers.md").write_text(TEXT)
    load_files(collection, [tmp_path / "rivers.md"])
    collection.segment(only_document(collection)[0], "structural", SizeBounds(16, 128))
    return collection


class Slow(Structural):
    """Reports progress in four steps, and calls `then` after each."""

    then = staticmethod(lambda: None)

    def score(self, text, candidates, on_progress=None):
        for share in (0.25, 0.5, 0.75, 1.0):
            on_progress(Progress("segment", round(share * len(text)), len(text)))
            Slow.then()
        return super().score(text, candidates)


@pytest.fixture
def slow_file(monkeypatch, tmp_path):
    """A file whose segmenting reports four steps."""
    monkeypatch.setitem(SEGMENTERS, DEFAULT_SEGMENTER, lambda counter, embed: Slow())
    monkeypatch.setattr(Slow, "then", staticmethod(lambda: None))
    (tmp_path / "slow.md").write_text(TEXT)
    return tmp_path / "slow.md"


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


@pytest.fixture(scope="session")
def real_address(browser, smollm2_path, minilm_path):
    """A page over the real models."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine.from_pretrained("smollm2", kv_dir=Path(folder) / "kv", memory_bytes=1 << 30)
        url, close = serve(engine, Path(folder), segmenter="neural", model_names=ModelNames("smollm2"))
        yield url
        close()


@pytest.fixture
def held(browser, tmp_path):
    """A page over an engine that encodes a few blocks and then waits, and the event that releases it."""
    engine, gate = tiny_engine(), threading.Event()
    engine.warm_blocks = hold(engine.warm_blocks, gate)
    url, close = serve(engine, tmp_path)
    yield url, gate
    close()


@pytest.fixture(scope="session")
def contexts(browser):
    """Browser contexts, lent by their options. They are kept, since a new one would load and compile all scripts again."""
    free: dict[str, list] = {}

    @contextmanager
    def lend(**options):
        """A context without cookies."""
        waiting = free.setdefault(repr(sorted(options.items())), [])
        context = waiting.pop() if waiting else browser.new_context(**options)
        context.clear_cookies()
        yield context
        for page in context.pages:
            page.close()
        waiting.append(context)

    return lend


@contextmanager
def visiting(contexts, address):
    """Yield functions that lend a context as empty as a new browser, and that open the page in one."""
    problems = []
    with ExitStack() as lent, pytest.MonkeyPatch.context() as patch:
        patch.setitem(DEFAULTS, "max_new_tokens", N_TOKENS)

        def new_context(url: str = address, **options):
            context = lent.enter_context(contexts(**{"viewport": {"width": 1400, "height": 900}, **options}))
            page = context.new_page()
            page.goto(url + "health")
            page.evaluate("localStorage.clear(); sessionStorage.clear()")
            page.close()
            return context

        def open_page(url: str = address, beside=None, **options):
            """For a new visitor, or, with `beside`, in another tab of that page's visitor."""
            page = (beside.context if beside else new_context(url, **options)).new_page()
            page.set_default_timeout(20_000)
            page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
            page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
            page.on("request", lambda r: problems.append(f"request to {r.url}") if not is_own(r.url, url) else None)
            page.goto(url)
            page.wait_for_selector("#upload input[type=file]", state="attached")
            steps.calm(page)
            return page

        yield new_context, open_page
    assert not problems


@pytest.fixture
def visits(contexts, address):
    with visiting(contexts, address) as visits:
        yield visits


@pytest.fixture
def new_context(visits):
    """Lends a context as empty as a new browser."""
    return visits[0]


@pytest.fixture
def open_page(visits):
    """Opens the page as a new visitor. Fails the test on any script error or request to another server."""
    return visits[1]


@pytest.fixture(scope="module")
def filled(contexts, address, tmp_path_factory):
    """A page with an indexed document and an answered question, of one visitor for all tests of a file."""
    path = tmp_path_factory.mktemp("filled") / "rivers.md"
    path.write_text(TEXT)
    with visiting(contexts, address) as (_, open_page):
        page = open_page()
        steps.upload(page, path)
        steps.to_blocks(page)
        steps.index_all(page)
        steps.asked(page)
        yield page


@pytest.fixture(scope="module")
def cut_page(contexts, address, tmp_path_factory):
    """A page that shows a document's blocks, of one visitor for all tests of a file."""
    path = tmp_path_factory.mktemp("cut") / "rivers.md"
    path.write_text(TEXT)
    with visiting(contexts, address) as (_, open_page):
        page = open_page()
        steps.upload(page, path)
        steps.to_blocks(page)
        yield page


@pytest.fixture
def cut(cut_page):
    """The page of `cut_page` without edits and messages, at the default granularity."""
    steps.undo_all(cut_page)
    steps.set_slider(cut_page, DEFAULTS["granularity"])
    while cut_page.locator(".toast-close").count():
        cut_page.locator(".toast-close").first.click()
        steps.calm(cut_page)
    cut_page.locator("#blocks .text").evaluate("text => { text.scrollTop = 0; }")
    return cut_page


def is_own(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))


@pytest.fixture
def rivers(tmp_path):
    """A Markdown file for the page."""
    path = tmp_path / "rivers.md"
    path.write_text(TEXT)
    return path


@pytest.fixture
def shoot():
    """``shoot(page, name)`` takes a screenshot if ``$BLOCKRAG_SCREENSHOTS`` names a folder for them."""
    folder = os.environ.get("BLOCKRAG_SCREENSHOTS")

    def take(page, name: str, **options) -> None:
        if folder:
            page.screenshot(path=Path(folder, f"{name}.png"), **options)

    return take
