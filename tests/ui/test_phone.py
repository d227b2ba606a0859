"""The page on a phone, by touch: one walk through all tabs, then accessibility."""

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.steps import (
    PHONE,
    SCHEMES,
    TABS,
    asked,
    blocks,
    calm,
    count_blocks,
    fill,
    index_all,
    open_collections,
    open_documents,
    open_tab,
    overflow,
    set_slider,
    to_blocks,
    undo_all,
    upload,
    violations,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

LEAST_PX = 24
"""Smallest side of a touch target (WCAG 2.2, 2.5.8)."""


def tap(target: Locator) -> None:
    """Tap a target, and check that it is large enough for a finger."""
    box = target.bounding_box()
    assert box and min(box["width"], box["height"]) >= LEAST_PX, (target, box)
    target.tap()


def expect_narrow(page: Page) -> None:
    assert overflow(page) == 0, page.locator("#steps [aria-selected=true]").first.text_content()


def test_a_phone_does_it_all(open_page, rivers, shoot):
    page = open_page(**PHONE)
    expect_narrow(page)
    open_documents(page)
    upload(page, rivers)
    expect_narrow(page)
    to_blocks(page)
    drag_a_boundary(page)
    edit_blocks(page)
    index_all(page)
    expect_narrow(page)
    asked(page)
    read_sources(page)
    fill_cache_and_save_settings(page)
    found = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"document.body.classList.contains('dark') === {str(scheme == 'dark').lower()}")
        for tab in TABS:
            open_tab(page, tab)
            expect_narrow(page)
            shoot(page, f"phone-{scheme}-{tab.lower()}")
            found += [(scheme, tab, *violation) for violation in violations(page, SCHEMES[scheme])]
    assert not found, found


def test_a_phone_manages_collections_and_measures(open_page, rivers, tmp_path):
    page, name = open_page(**PHONE), "#collection-name input, #collection-name textarea"
    open_collections(page)
    upload(page, rivers)
    tap(page.locator("#export"))
    with page.expect_download() as download:
        page.locator("#exported a[download]").first.tap()
    download.value.save_as(tmp_path / "c.zip")
    expect_narrow(page)
    fill(page, name, "Second")
    tap(page.locator("#create"))
    expect(page.locator("#collection input")).to_have_value("Second")
    expect(page.locator("#documents .empty")).to_be_visible()
    page.set_input_files("#import input[type=file], input[accept='.zip']", str(tmp_path / "c.zip"))
    expect(page.locator("#collection input")).to_have_value("My documents (2)")
    tap(page.get_by_role("button", name="Remove rivers.md", exact=True))
    tap(page.get_by_role("button", name="Really remove rivers.md"))
    expect(page.locator("#documents .empty")).to_be_visible()
    fill(page, name, "My documents (2)")
    tap(page.locator("#delete"))
    expect(page.locator("#collection input")).not_to_have_value("My documents (2)")
    open_tab(page, "Benchmarks")
    tap(page.locator("#measure"))
    expect(page.locator("#measured td").first).to_have_text("256")
    expect_narrow(page)


def drag_a_boundary(page: Page) -> None:
    set_slider(page, 0)
    grip = page.locator("#blocks .grip").first
    grip.scroll_into_view_if_needed()
    calm(page)
    version = blocks(page).get_attribute("data-version")
    places = [box for box in (gap.bounding_box() for gap in page.locator("#blocks .body .gap").all()) if box]
    start = grip.bounding_box()
    target = min(places, key=lambda box: abs(box["y"] - start["y"] - 120))
    swipe(page, middle(start), middle(target))
    expect(blocks(page)).not_to_have_attribute("data-version", version)
    undo_all(page)


def middle(box: dict) -> tuple[float, float]:
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def swipe(page: Page, start: tuple[float, float], end: tuple[float, float], n_steps: int = 8) -> None:
    """Put a finger down, move it and lift it."""
    devtools = page.context.new_cdp_session(page)

    def touch(kind: str, *at: tuple[float, float]) -> None:
        points = [{"x": x, "y": y} for x, y in at]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", start)
    for step in range(1, n_steps + 1):
        share = step / n_steps
        touch("touchMove", (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])))
        page.wait_for_timeout(30)
    touch("touchEnd")


def edit_blocks(page: Page) -> None:
    """Blocks: slider, split, merge, move, undo, redo, largest, compare."""
    set_slider(page, 1)
    expect_narrow(page)
    assert page.locator("#blocks .text").evaluate("(text) => text.scrollWidth <= text.clientWidth")
    before = count_blocks(page)
    joint = page.locator("#blocks .gap.join").nth(1)
    char = joint.get_attribute("data-char")
    tap(joint)
    expect(blocks(page)).to_have_attribute("data-blocks", str(before - 1))
    tap(page.locator("#blocks .undo"))
    expect(blocks(page)).to_have_attribute("data-blocks", str(before))
    tap(page.locator("#blocks .redo"))
    expect(blocks(page)).to_have_attribute("data-blocks", str(before - 1))
    tap(page.locator(f"#blocks .body .gap[data-char='{char}']"))
    expect(blocks(page)).to_have_attribute("data-blocks", str(before))
    set_slider(page, 0)
    version = blocks(page).get_attribute("data-version")
    tap(page.locator("#blocks .move[data-by='1']").first)
    expect(blocks(page)).not_to_have_attribute("data-version", version)
    tap(page.locator("#blocks .largest"))
    page.get_by_role("button", name="Compare with another segmentation").tap()
    calm(page)
    fill(page, "#other-granularity input[type=number]", "1")
    page.locator("#other-granularity input[type=number]").press("Tab")
    page.locator("#show-compared").tap()
    expect(page.locator("#compared .yours").first).to_have_text("starts here only")
    expect_narrow(page)


def read_sources(page: Page) -> None:
    """Ask: open a source, pin one, exclude one, ask a follow-up."""
    page.locator("#sources .card").first.tap()
    expect(page.locator("#source .marked")).to_be_visible()
    expect_narrow(page)
    tap(page.get_by_role("button", name="Pin source 3"))
    expect(page.locator("#sources .mark[aria-pressed=true]")).to_have_text("Pinned ✓")
    tap(page.get_by_role("button", name="Exclude source 1"))
    wanted = page.locator("#sources .card").nth(2).locator(".excerpt").text_content()
    asked(page, "And river 5?")
    expect(page.locator("#thread .turn")).to_have_count(2)
    expect(page.locator("#sources .card .excerpt").first).to_have_text(wanted or "")
    expect_narrow(page)


def fill_cache_and_save_settings(page: Page) -> None:
    """Cache: clear and fill. Settings: save."""
    open_tab(page, "Cache")
    expect(page.locator("#cache .tier").first).to_contain_text("of this collection's")
    page.locator("#clear-cache").tap()
    expect(page.locator("#cache-status")).to_contain_text("Deleted the KV")
    page.locator("#warm-cache").tap()
    expect(page.locator("#cache-status")).to_contain_text("All indexed blocks have KV")
    open_tab(page, "Settings")
    fill(page, "#setting-min_tokens input", "20")
    page.locator("#save-settings").tap()
    expect(page.locator(".toast-body", has_text="Saved")).to_be_visible()
    page.locator(".toast-close").tap()  # Gradio's messages nest one button in another; that is not ours to fix
    expect(page.locator(".toast-body")).to_have_count(0)
