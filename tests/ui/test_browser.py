"""The page in a real browser: edits, slider, visitors, scripts in documents; and the four steps on a real PDF."""

import re
from pathlib import Path

import pytest
from fpdf import FPDF
from playwright.sync_api import Page, expect
from serving import HELD_AT, SETTLING_MS, serve

from blockrag.engine import Engine

pytestmark = pytest.mark.browser

TEXT = "".join(
    f"# River {i}\n\nThe river {i} flows to the sea. It is {i} miles long. Many boats sail on it every day.\n\n"
    for i in range(12)
)
HOSTILE = (
    "${window.__pwned=1} {{value}} `${alert(1)}` <script>window.__pwned=1</script> <img src=x onerror=window.__pwned=1> "
    "[x](javascript:window.__pwned=1) A sentence. Another one that is longer.\n\n"
)


def upload(page: Page, *paths: Path) -> None:
    page.set_input_files("#upload input[type=file]", [str(path) for path in paths])
    expect(page.locator("#documents")).to_contain_text(paths[-1].name.replace("<", "").replace(">", "")[:12])


def to_blocks(page: Page) -> None:
    page.click("#next-blocks")
    expect(page.locator("#blocks section").first).to_be_visible()
    page.wait_for_timeout(SETTLING_MS)


def open_tab(page: Page, name: str) -> None:
    """By its button, or, where the screen is too narrow for all of them, out of the menu that holds the rest."""
    page.locator("#steps [role=tab]:visible").first.wait_for()  # after a reload
    tab = page.get_by_role("tab", name=name, exact=True)
    if not tab.first.is_visible():
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text=name).click()
    else:
        tab.first.click()


def ask(page: Page, question: str) -> None:
    expect(page.locator("#question")).to_be_visible()
    page.wait_for_timeout(SETTLING_MS)
    page.fill("#question textarea, #question input", question)
    page.click("#ask")


def shown(page: Page) -> int:
    return page.locator("#blocks section").count()


def set_slider(page: Page, value: float) -> None:
    box = page.locator("#granularity input[type=number]")
    box.fill(str(value))
    box.press("Tab")


def first_line(page: Page) -> dict:
    """The first piece in view, and where it is."""
    return page.locator("#blocks .text").evaluate(
        """text => { const edge = text.getBoundingClientRect().top;
        const piece = [...text.querySelectorAll('.piece')].find((p) => p.getBoundingClientRect().bottom > edge);
        return {text: piece.textContent, top: piece.getBoundingClientRect().top}; }"""
    )


@pytest.fixture
def rivers(tmp_path):
    path = tmp_path / "rivers.md"
    path.write_text(TEXT)
    return path


def test_clicks_edit_undo_takes_back_and_the_slider_keeps_edits(visit, rivers):
    page = visit()
    upload(page, rivers)
    to_blocks(page)
    set_slider(page, 1)
    expect(page.locator("#blocks .status")).to_contain_text("blocks of")
    page.wait_for_timeout(500)
    before = shown(page)
    page.locator("#blocks .gap.join").nth(1).click()
    expect(page.locator("#blocks section")).to_have_count(before - 1)
    merged = page.locator("#blocks section").nth(1).text_content()
    set_slider(page, 0)
    page.wait_for_timeout(500)
    set_slider(page, 1)
    expect(page.locator("#blocks section")).to_have_count(before - 1)
    assert page.locator("#blocks section").nth(1).text_content() == merged, "the edit survives the slider"
    expect(page.locator("#blocks .undo")).to_have_text("Undo (1)")
    page.locator("#blocks .undo").click()
    expect(page.locator("#blocks section")).to_have_count(before)
    expect(page.locator("#blocks .undo")).to_be_disabled()


def test_the_keyboard_can_do_it_all(visit, rivers):
    page = visit()
    upload(page, rivers)
    to_blocks(page)
    set_slider(page, 1)
    page.wait_for_timeout(500)
    before = shown(page)
    page.locator("#blocks .gap[tabindex='0']").focus()
    while "join" not in page.evaluate("document.activeElement.className"):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#blocks section")).to_have_count(before - 1)
    assert page.evaluate("document.activeElement.ariaLabel").startswith("Begin a block at"), (
        "the focus stays in its place"
    )
    page.keyboard.press("Control+z")
    expect(page.locator("#blocks section")).to_have_count(before)
    assert page.evaluate("document.activeElement.ariaLabel").startswith("Merge with the block")


def test_quick_clicks_are_all_taken(visit, rivers):
    page = visit()
    upload(page, rivers)
    to_blocks(page)
    set_slider(page, 1)
    page.wait_for_timeout(500)
    before = shown(page)
    clicked = (page.locator("#blocks .gap.join").count() + 2) // 3  # of the blocks near the view
    page.evaluate("document.querySelectorAll('#blocks .gap.join').forEach((g, i) => i % 3 || g.click())")
    assert clicked > 3
    expect(page.locator("#blocks .undo")).to_have_text(f"Undo ({clicked})")
    expect(page.locator("#blocks section")).to_have_count(before - clicked)


def test_a_tab_with_an_older_cut_is_told_and_shown_the_present_one(visit, rivers):
    page = visit()
    upload(page, rivers)
    other = visit(beside=page)
    for tab in (page, other):
        to_blocks(tab)
        set_slider(tab, 1)
    page.wait_for_timeout(500)
    before = shown(page)
    page.locator("#blocks .gap.join").nth(1).click()
    expect(page.locator("#blocks section")).to_have_count(before - 1)
    other.locator("#blocks .gap.join").nth(1).click()
    expect(other.locator(".toast-body")).to_contain_text("No block begins at")
    expect(other.locator("#blocks section")).to_have_count(before - 1)


def test_the_text_stays_in_its_place_when_it_is_cut_anew(visit, tmp_path):
    path = tmp_path / "long.md"
    path.write_text(TEXT * 20)
    page = visit()
    upload(page, path)
    to_blocks(page)
    page.locator("#blocks .text").evaluate("text => { text.scrollTop = text.scrollHeight / 2; }")
    page.wait_for_timeout(300)
    for granularity in (1, 0):
        before = first_line(page)
        set_slider(page, granularity)
        page.wait_for_timeout(800)
        after = first_line(page)
        assert after["text"] == before["text"] and abs(after["top"] - before["top"]) < 3, (before, after)


def test_a_refused_edit_says_why(visit, rivers):
    page = visit()
    upload(page, rivers)
    to_blocks(page)
    page.locator("#blocks .body .gap").first.click()
    expect(page.locator(".toast-body")).to_contain_text("minimum")


def test_130000_characters_are_cut_anew_and_shown_in_under_a_second(visit, tmp_path):
    path = tmp_path / "long.md"
    path.write_text((TEXT * 200)[:130_000])
    page = visit()
    upload(page, path)
    to_blocks(page)
    page.wait_for_timeout(1000)
    times = []
    for granularity in (0.9, 0.3, 0.95):
        page.evaluate(
            """() => { const root = document.querySelector('#blocks [data-root]'); window.__shown = null;
            new MutationObserver(() => requestAnimationFrame(() => { window.__shown = performance.now(); }))
              .observe(root, {attributes: true, attributeFilter: ['data-shown']}); }"""
        )
        box = page.locator("#granularity input[type=number]")
        box.fill(str(granularity))
        page.evaluate("window.__asked = performance.now()")
        box.press("Tab")
        page.wait_for_function("window.__shown !== null")
        times.append(page.evaluate("window.__shown - window.__asked"))
    assert max(times) < 1000, times


def test_scripts_in_text_and_names_stay_text(visit, tmp_path):
    path = tmp_path / "<img src=x onerror=window.__pwned=1>.md"
    path.write_text(HOSTILE * 30)
    page = visit()
    page.set_input_files("#upload input[type=file]", [str(path)])
    expect(page.locator("#documents")).to_contain_text("ready to index")
    to_blocks(page)
    expect(page.locator("#blocks section").first).to_contain_text("<script>window.__pwned=1</script>")
    page.click("#next-index")
    page.click("#index")
    expect(page.locator("#progress .row.done")).to_have_count(1)
    page.click("#next-ask")
    ask(page, "Another sentence?")
    expect(page.locator("#times h4")).to_contain_text("instead of")
    page.locator("#sources .card").first.click()
    expect(page.locator("#source .marked")).to_contain_text("<script>")
    assert page.evaluate("window.__pwned") is None


def test_two_visitors_see_nothing_of_each_other(visit, rivers, tmp_path):
    one, two = visit(), visit()
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


def test_a_bad_file_is_told_and_the_good_one_goes_on(visit, rivers, tmp_path):
    bad = tmp_path / "bad.pdf"
    bad.write_text("no")
    page = visit()
    upload(page, bad, rivers)
    expect(page.locator("#documents")).to_contain_text("damaged or disguised")
    expect(page.locator("#documents")).to_contain_text("rivers.md")


def test_asking_too_early_is_answered_on_the_page(visit):
    page = visit()
    open_tab(page, "Ask")
    ask(page, "Anything?")
    expect(page.locator("#block-answer")).to_contain_text("the index is empty")
    ask(page, "  ")
    expect(page.locator("#block-answer")).to_contain_text("Type a question first")


def test_a_phone_shows_it_without_sideways_scrolling(visit, rivers):
    page = visit(viewport={"width": 390, "height": 800}, has_touch=True)
    upload(page, rivers)
    to_blocks(page)
    for step in ("Documents", "Blocks", "Index", "Ask", "Cache", "Benchmarks", "Settings"):
        open_tab(page, step)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_indexing_stops_goes_on_and_keeps_no_one_waiting(visit, held, rivers):
    url, gate = held
    page, other = visit(url), visit(url)
    for tab in (page, other):
        upload(tab, rivers)
        to_blocks(tab)
    n_blocks = shown(page)
    page.click("#next-index")
    page.click("#index")
    expect(page.locator("#progress .row.running")).to_contain_text(f"encoded {HELD_AT} of {n_blocks} blocks")
    set_slider(other, 0)
    expect(other.locator("#blocks section")).not_to_have_count(n_blocks)
    open_tab(other, "Ask")
    ask(other, "Which river?")
    expect(other.locator("#block-answer")).to_contain_text("the index is empty")
    page.click("#stop-index")
    expect(page.locator("#progress .row.waiting")).to_contain_text("not indexed")
    page.wait_for_timeout(500)
    expect(page.locator("#progress .row.waiting")).to_be_visible()
    page.click("#index")
    expect(page.locator("#progress .row.running")).to_contain_text(f"{HELD_AT} were cached")
    gate.set()
    expect(page.locator("#progress .row.done")).to_have_count(1)


@pytest.mark.weights
@pytest.mark.timeout(240)
def test_the_four_steps_on_a_real_pdf_with_a_real_answer(visit, tmp_path, screenshots, smollm2_path, minilm_path):
    url, close = serve(
        Engine.from_pretrained(kv_dir=tmp_path / "kv", memory_bytes=1 << 30), tmp_path, segmenter="neural"
    )
    try:
        page = visit(url)
        upload(page, harbours(tmp_path / "harbours.pdf"))
        page.screenshot(path=screenshots / "1-documents.png")
        to_blocks(page)
        page.screenshot(path=screenshots / "2-blocks.png")
        page.click("#next-index")
        page.click("#index")
        page.wait_for_timeout(800)
        page.screenshot(path=screenshots / "3-index.png")
        expect(page.locator("#progress .row.done")).to_have_count(1, timeout=90_000)
        page.click("#next-ask")
        ask(page, "When was the harbour of Norwick built?")
        expect(page.locator("#times h4")).to_contain_text("times sooner", timeout=90_000)
        page.locator("#sources .card").first.click()
        expect(page.locator("#source .marked")).to_contain_text("Norwick")
        page.screenshot(path=screenshots / "4-ask.png", full_page=True)
        headline = page.locator("#times h4").inner_text()
        assert float(re.search(r"([\d.]+) times sooner", headline)[1]) > 1, headline
        assert page.locator("#block-answer .body").inner_text().strip()
    finally:
        close()


def harbours(path: Path) -> Path:
    """A PDF of a few pages about harbours that are not."""
    towns = ["Norwick", "Elmsea", "Tarbet Quay", "Saltholm", "Grimsund", "Ravenscar", "Oxwich", "Lundey", "Port Ansel"]
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
