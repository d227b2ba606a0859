"""The page in a real browser: edits, slider, visitors, scripts in documents; and the four steps on a real PDF."""

import re
from pathlib import Path

import pytest
from fpdf import FPDF
from playwright.sync_api import expect

from tests.ui.serving import HELD_AT, TEXT
from tests.ui.steps import (
    ask,
    calm,
    count_blocks,
    expect_in_place,
    first_line,
    open_tab,
    set_slider,
    to_blocks,
    upload,
)

pytestmark = pytest.mark.browser


def test_clicks_edit_undo_reverts_and_the_slider_keeps_edits(cut):
    page = cut
    set_slider(page, 1)
    before = count_blocks(page)
    page.locator("#blocks .gap.join").nth(1).click()
    expect(page.locator("#blocks section")).to_have_count(before - 1)
    merged = page.locator("#blocks section").nth(1).text_content()
    set_slider(page, 0)
    set_slider(page, 1)
    expect(page.locator("#blocks section")).to_have_count(before - 1)
    assert page.locator("#blocks section").nth(1).text_content() == merged, "the edit survives the slider"
    expect(page.locator("#blocks .undo")).to_have_text("Undo (1)")
    page.locator("#blocks .undo").click()
    expect(page.locator("#blocks section")).to_have_count(before)
    expect(page.locator("#blocks .undo")).to_be_disabled()


def test_the_keyboard_can_do_it_all(cut):
    page = cut
    set_slider(page, 1)
    before = count_blocks(page)
    page.locator("#blocks .gap[tabindex='0']").focus()
    while "join" not in page.evaluate("document.activeElement.className"):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#blocks section")).to_have_count(before - 1)
    assert page.evaluate("document.activeElement.ariaLabel").startswith("Start a block at"), "the focus stays in place"
    page.keyboard.press("Control+z")
    expect(page.locator("#blocks section")).to_have_count(before)
    assert page.evaluate("document.activeElement.ariaLabel").startswith("Merge with the block")


def test_quick_clicks_all_count(cut):
    page = cut
    set_slider(page, 1)
    before = count_blocks(page)
    clicked = (page.locator("#blocks .gap.join").count() + 2) // 3  # of the blocks near the view
    page.evaluate("document.querySelectorAll('#blocks .gap.join').forEach((g, i) => i % 3 || g.click())")
    assert clicked > 3
    expect(page.locator("#blocks .undo")).to_have_text(f"Undo ({clicked})")
    expect(page.locator("#blocks section")).to_have_count(before - clicked)


def test_a_tab_with_outdated_blocks_says_so_and_draws_them_again(open_page, rivers):
    page = open_page()
    upload(page, rivers)
    other = open_page(beside=page)
    for tab in (page, other):
        to_blocks(tab)
        set_slider(tab, 1)
    before = count_blocks(page)
    page.locator("#blocks .gap.join").nth(1).click()
    expect(page.locator("#blocks section")).to_have_count(before - 1)
    other.locator("#blocks .gap.join").nth(1).click()
    expect(other.locator(".toast-body")).to_contain_text("No block begins at")
    expect(other.locator("#blocks section")).to_have_count(before - 1)


def test_the_text_stays_in_place_when_granularity_changes(open_page, tmp_path):
    path = tmp_path / "long.md"
    path.write_text(TEXT * 20)
    page = open_page()
    upload(page, path)
    to_blocks(page)
    page.locator("#blocks .text").evaluate("text => { text.scrollTop = text.scrollHeight / 2; }")
    calm(page)
    for granularity in (1, 0):
        before = first_line(page)
        set_slider(page, granularity)
        expect_in_place(page, before)


def test_a_refused_edit_says_why(cut):
    page = cut
    for _ in range(20):  # ever shorter blocks, until one would be too short
        page.locator("#blocks .body .gap:not(.join)").last.click()
        calm(page)
        if page.locator(".toast-body").count():
            break
    expect(page.locator(".toast-body")).to_contain_text("minimum")


def test_two_visitors_see_nothing_of_each_other(open_page, rivers, tmp_path):
    one, two = open_page(), open_page()
    upload(one, rivers)
    other = tmp_path / "other.txt"
    other.write_text("Quite another text. " * 40)
    upload(two, other)
    expect(two.locator("#documents")).not_to_contain_text("rivers.md")
    to_blocks(one)
    to_blocks(two)
    expect(one.locator("#blocks")).to_contain_text("river 3")
    expect(two.locator("#blocks")).not_to_contain_text("river")
    one.reload()
    expect(one.locator("#documents")).to_contain_text("rivers.md")
    expect(one.locator("#documents")).not_to_contain_text("other.txt")


def test_asking_too_early_shows_an_error_and_a_bad_file_says_why(open_page, rivers, tmp_path):
    page = open_page()
    open_tab(page, "Ask")
    ask(page, "Anything?")
    expect(page.locator(".toast-body")).to_contain_text("There are no documents yet")
    ask(page, "  ")
    expect(page.locator(".toast-body", has_text="Type a question first")).to_be_visible()
    bad = tmp_path / "bad.pdf"
    bad.write_text("no")
    upload(page, bad, rivers)
    expect(page.locator("#documents")).to_contain_text("damaged or disguised")
    expect(page.locator("#documents")).to_contain_text("rivers.md")


def test_indexing_stops_resumes_and_blocks_nobody(open_page, held, rivers):
    url, gate = held
    page, other = open_page(url), open_page(url)
    for tab in (page, other):
        upload(tab, rivers)
        to_blocks(tab)
    n_blocks = count_blocks(page)
    open_tab(page, "Index")
    expect(page.locator("#progress .row.running")).to_contain_text(f"encoding: {HELD_AT} of {n_blocks} blocks")
    expect(page.locator("#status")).to_contain_text("Indexing rivers.md")
    set_slider(other, 0)
    expect(other.locator("#blocks section")).not_to_have_count(n_blocks)
    open_tab(other, "Ask")
    ask(other, "Which river?")
    expect(other.locator("#thread .status")).to_contain_text("reading your documents first")
    page.click("#stop-index")
    expect(page.locator("#progress .row.waiting")).to_contain_text("not indexed")
    expect(page.locator("#status")).to_contain_text("Stopped: 1 jobs left")
    page.wait_for_timeout(500)
    expect(page.locator("#progress .row.waiting")).to_be_visible()
    page.locator("#status .act").click()
    expect(page.locator("#progress .row.running")).to_contain_text(f"{HELD_AT} reused")
    gate.set()
    expect(page.locator("#progress .row.done")).to_have_count(1)
    expect(other.locator("#thread .turn .acts")).to_be_visible()


@pytest.mark.weights
@pytest.mark.timeout(240)
def test_the_four_steps_on_a_real_pdf_with_a_real_answer(open_page, tmp_path, shoot, real_address):
    page = open_page(real_address)
    upload(page, harbours(tmp_path / "harbours.pdf"))
    shoot(page, "1-documents")
    to_blocks(page)
    shoot(page, "2-blocks")
    open_tab(page, "Index")
    shoot(page, "3-index")
    expect(page.locator("#progress .row.done")).to_have_count(1, timeout=90_000)
    open_tab(page, "Ask")
    ask(page, "When was the harbour of Norwick built?")
    page.locator("#thread .compare").click(timeout=60_000)
    expect(page.locator("#thread .cost")).to_contain_text("× faster", timeout=90_000)
    page.locator("#sources .card").first.click()
    expect(page.locator("#source .marked")).to_contain_text("Norwick")
    shoot(page, "4-ask", full_page=True)
    headline = page.locator("#thread .cost b").inner_text()
    assert float(re.search(r"([\d.]+)× faster", headline)[1]) > 1, headline
    assert "1801" in page.locator("#thread .answer.block .body").inner_text()


def harbours(path: Path) -> Path:
    """Write a PDF of a few pages about fictional harbours."""
    towns = ["Norwick", "Elmsea", "Tarbet Quay"]
    pdf = FPDF()
    for i, town in enumerate(towns):
        pdf.add_page()
        pdf.set_font("helvetica", "B", 16)
        pdf.multi_cell(0, 10, f"{i + 1}. {town}\n")
        pdf.set_font("helvetica", size=11)
        pdf.multi_cell(
            0,
            6,
            f"The harbour of {town} was built in {1801 + 7 * i} by the town's own masons. It has {i + 2} quays and a "
            f"lighthouse of {20 + i} metres. Before that, ships lay at anchor in the open bay and boats carried the cargo "
            f"ashore, which cost many days in winter.\n\nThe first ship to moor at {town} was the Mary of {towns[i - 1]}, "
            f"with {100 + i} barrels of salt. The harbour dues of that year paid for a third of the masonry. "
            f"Storms broke the outer wall twice, and twice it was raised again, the second time by {i + 3} feet.\n",
        )
    pdf.output(path)
    return path


def test_tabs_that_a_new_browser_opens_at_once_are_one_visitor(new_context, address, rivers):
    context = new_context()
    tabs = [context.new_page() for _ in range(3)]  # of a browser's six connections to a server, each takes up to two
    for tab in tabs:
        tab.goto(address, wait_until="commit")
    for tab in tabs:
        tab.wait_for_selector("#upload input[type=file]", state="attached")
        calm(tab)
    upload(tabs[0], rivers)
    for tab in tabs:
        tab.reload()
        expect(tab.locator("#documents")).to_contain_text("rivers.md")
        assert "secret" not in tab.evaluate("JSON.stringify(localStorage)") and tab.evaluate("document.cookie") == ""
    (cookie,) = context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Lax" and cookie["value"] not in tabs[0].content()
