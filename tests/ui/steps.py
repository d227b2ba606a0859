"""Steps of a visitor on the page. Each waits for what the page then shows."""

from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

TABS = ("Ask", "Blocks", "Index", "Cache", "Benchmarks", "Settings")
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

_CALM = """async () => {
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => requestIdleCallback(resolve));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}"""


def calm(page: Page) -> None:
    """Wait until the page is idle. While Gradio draws a part for the first time it resets values to those it knew; people
    are slower than that, tests must wait."""
    page.evaluate(_CALM)


def fill(page: Page, selector: str, value: str) -> None:
    """Type into a field that may have only just been drawn, until it keeps the text."""
    field = page.locator(selector).first
    for _ in range(20):
        field.fill(value)
        calm(page)
        if field.input_value() == value:
            return
    raise AssertionError(f"{selector} does not keep {value!r}, but shows {field.input_value()!r}")


def upload(page: Page, *paths: Path) -> None:
    page.set_input_files("#upload input[type=file]", [str(path) for path in paths])
    expect(page.locator("#documents")).to_contain_text(paths[-1].name.replace("<", "").replace(">", "")[:12])


def open_tab(page: Page, name: str) -> None:
    """Open a tab by its button, or from the overflow menu if the screen is narrow."""
    page.locator("#steps [role=tab]:visible").first.wait_for()  # after a reload
    tab = page.get_by_role("tab", name=name, exact=True)
    if not tab.first.is_visible():
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text=name).click()
    else:
        tab.first.click()
    calm(page)


def open_documents(page: Page) -> None:
    """Open the drawer with the documents, where the screen is narrow."""
    open_tab(page, "Ask")
    drawer = page.locator("#open-drawer")
    if drawer.is_visible() and not page.locator("#documents").is_visible():
        drawer.click()
    page.locator("#documents").wait_for()


def to_blocks(page: Page) -> None:
    expect(page.locator("#documents .row .size").last).to_be_attached()
    open_tab(page, "Blocks")
    expect(page.locator("#blocks section").first).to_be_visible()
    calm(page)


def blocks(page: Page) -> Locator:
    """The element whose data attributes hold the number, granularity and version of the blocks."""
    return page.locator("#blocks [data-root]")


def count_blocks(page: Page) -> int:
    return int(blocks(page).get_attribute("data-blocks") or 0)


def set_slider(page: Page, value: float) -> None:
    """Set the granularity, and wait until the blocks are drawn."""
    box = page.locator("#granularity input[type=number]")
    box.fill(str(value))
    box.press("Tab")
    expect(blocks(page)).to_have_attribute("data-granularity", f"{value:g}")


def undo_all(page: Page) -> None:
    while page.locator("#blocks .undo").is_enabled():
        version = blocks(page).get_attribute("data-version")
        page.locator("#blocks .undo").click()
        expect(blocks(page)).not_to_have_attribute("data-version", version)


def index_all(page: Page) -> None:
    open_tab(page, "Index")
    page.click("#index")
    expect(page.locator("#progress .row.waiting")).to_have_count(0)
    expect(page.locator("#progress .row.done").first).to_be_visible()
    expect(page.locator("#progress .row.running")).to_have_count(0)


def ask(page: Page, question: str) -> None:
    expect(page.locator("#question")).to_be_visible()
    fill(page, "#question textarea, #question input", question)
    page.click("#ask")


def asked(page: Page, question: str = "How long is river 3?") -> None:
    """Ask a question and compare its answer with that of reading everything."""
    open_tab(page, "Ask")
    before = page.locator("#thread .turn").count()
    ask(page, question)
    expect(page.locator("#thread .turn")).to_have_count(before + 1)
    last = page.locator("#thread .turn").last
    expect(page.locator("[data-busy=false]")).to_have_count(1)  # else a press lands on a button that is drawn again
    last.locator(".compare").click()
    expect(last.locator(".cost")).to_contain_text("instead of")
    expect(last.locator(".acts")).to_be_visible()


def open_collections(page: Page) -> None:
    open_documents(page)
    page.get_by_role("button", name="Collections").click()
    page.locator("#collection-name").wait_for()
    calm(page)


SCHEMES: dict[str, dict] = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}
"""Colours of a page and axe-core's options: what depends on colours is all that another scheme changes."""


def violations(page: Page, options: dict = {}) -> list[tuple]:  # noqa: B006  (read only)
    """Return what axe-core finds serious or critical: rule, help, elements."""
    return [
        (found["id"], found["help"], [node["html"][:160] for node in found["nodes"][:3]])
        for found in Axe().run(page, options={"resultTypes": ["violations"], **options}).response["violations"]
        if found["impact"] in ("serious", "critical")
    ]


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def first_line(page: Page) -> dict:
    """Return the first piece in view, its offset in the text and its position on the screen."""
    return page.locator("#blocks .text").evaluate(
        """text => { const edge = text.getBoundingClientRect().top;
        const piece = [...text.querySelectorAll('.piece')].find((p) => p.getBoundingClientRect().bottom > edge);
        return { char: piece.char, text: piece.textContent, top: piece.getBoundingClientRect().top }; }"""
    )


def expect_in_place(page: Page, before: dict) -> None:
    """Check that the piece is where it was on the screen."""
    calm(page)
    top = page.locator("#blocks .text").evaluate(
        "(text, char) => [...text.querySelectorAll('.piece')].find((p) => p.char === char)?.getBoundingClientRect().top",
        before["char"],
    )
    assert top is not None and abs(top - before["top"]) < 3, (before, top)
