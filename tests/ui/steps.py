"""What a visitor does on the page, step by step, each waited for by what the page shows. Knows no test."""

from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

TABS = ("Documents", "Blocks", "Index", "Ask", "Cache", "Benchmarks", "Settings")
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
TEXT = "".join(
    f"# River {i}\n\nThe river {i} flows to the sea. It is {i} miles long. Many boats sail on it every day.\n\n"
    for i in range(12)
)

_CALM = """async () => {
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => requestIdleCallback(resolve));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}"""


def calm(page: Page) -> None:
    """Wait until the page has nothing to do: on a slow machine that takes longer, as it should. Gradio, while it draws
    a part for the first time, puts back the values it knew; a hand is slower than that, a test waits."""
    page.evaluate(_CALM)


def fill(page: Page, selector: str, value: str) -> None:
    """Type into a field that was perhaps only just drawn, until the text stays."""
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
    """By its button, or, where the screen is too narrow for all of them, out of the menu that holds the rest."""
    page.locator("#steps [role=tab]:visible").first.wait_for()  # after a reload
    tab = page.get_by_role("tab", name=name, exact=True)
    if not tab.first.is_visible():
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text=name).click()
    else:
        tab.first.click()
    calm(page)


def to_blocks(page: Page) -> None:
    page.click("#next-blocks")
    expect(page.locator("#blocks section").first).to_be_visible()
    calm(page)


def blocks(page: Page) -> Locator:
    """What tells of the blocks: how many are shown, cut how finely, and of which version."""
    return page.locator("#blocks [data-root]")


def count_blocks(page: Page) -> int:
    return int(blocks(page).get_attribute("data-blocks") or 0)


def set_slider(page: Page, value: float) -> None:
    """Set the granularity, and wait until the blocks are drawn."""
    box = page.locator("#granularity input[type=number]")
    box.fill(str(value))
    box.press("Tab")
    expect(blocks(page)).to_have_attribute("data-granularity", f"{value:g}")


def index_all(page: Page) -> None:
    open_tab(page, "Index")
    page.click("#index")
    expect(page.locator("#progress .row.done").first).to_be_visible()
    expect(page.locator("#progress .row.running")).to_have_count(0)


def ask(page: Page, question: str) -> None:
    expect(page.locator("#question")).to_be_visible()
    fill(page, "#question textarea, #question input", question)
    page.click("#ask")


def asked(page: Page, question: str = "How long is river 3?") -> None:
    open_tab(page, "Ask")
    ask(page, question)
    expect(page.locator("#times h4")).to_contain_text("instead of")


def open_collections(page: Page) -> None:
    page.get_by_role("button", name="Collections:").click()
    page.locator("#collection-name").wait_for()
    calm(page)


def violations(page: Page) -> list[tuple]:
    """What axe-core finds that is serious or worse: rule, what it asks for, and where."""
    return [
        (found["id"], found["help"], [node["html"][:160] for node in found["nodes"][:3]])
        for found in Axe().run(page).response["violations"]
        if found["impact"] in ("serious", "critical")
    ]


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def first_line(page: Page) -> dict:
    """The first piece in view: where it is in the text, and on the screen."""
    return page.locator("#blocks .text").evaluate(
        """text => { const edge = text.getBoundingClientRect().top;
        const piece = [...text.querySelectorAll('.piece')].find((p) => p.getBoundingClientRect().bottom > edge);
        return { char: piece.char, text: piece.textContent, top: piece.getBoundingClientRect().top }; }"""
    )


def expect_in_place(page: Page, before: dict) -> None:
    """The piece is where it was on the screen."""
    calm(page)
    top = page.locator("#blocks .text").evaluate(
        "(text, char) => [...text.querySelectorAll('.piece')].find((p) => p.char === char)?.getBoundingClientRect().top",
        before["char"],
    )
    assert top is not None and abs(top - before["top"]) < 3, (before, top)
