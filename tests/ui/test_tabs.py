"""Every tab in a real browser; axe-core finds nothing serious. For a phone see test_phone.py."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.document_files import epub, pdf, slides, zipped
from tests.tiny import tiny_engine
from tests.ui.serving import serve
from tests.ui.steps import (
    SCHEMES,
    TABS,
    asked,
    calm,
    count_blocks,
    fill,
    index_all,
    open_collections,
    open_tab,
    set_slider,
    to_blocks,
    undo_all,
    upload,
    violations,
)

pytestmark = pytest.mark.browser

SCRIPT = (
    "<img src=x onerror=window.__pwned=1><script>window.__pwned=1</script>${window.__pwned=1}{{window.__pwned=1}} "
    "`${alert(1)}` [x](javascript:window.__pwned=1)"
)


@pytest.mark.timeout(240)
def test_no_serious_accessibility_violation(filled):
    page, found = filled, []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"document.body.classList.contains('dark') === {str(scheme == 'dark').lower()}")
        for tab in TABS:
            open_tab(page, tab)
            found += [(scheme, tab, *violation) for violation in violations(page, SCHEMES[scheme])]
    assert not found, found


def test_sources_are_pinned_and_conversations_kept(filled):
    page = filled
    open_tab(page, "Ask")
    page.get_by_role("button", name="Pin source 3").click()
    expect(page.locator("#sources .mark[aria-pressed=true]")).to_have_text("Pinned ✓")
    wanted = page.locator("#sources .card").nth(2).locator(".excerpt").text_content()
    page.get_by_role("button", name="Exclude source 1").click()
    expect(page.locator("#sources .left-out")).to_contain_text("Excluded: rivers.md")
    expect(page.locator("#thread .turn")).to_have_count(1)
    asked(page, "And river 5?")
    expect(page.locator("#thread .turn").last.locator(".question small")).to_have_text("asked with the question before")
    expect(page.locator("#sources .card .excerpt").first).to_have_text(wanted)
    expect(page.locator("#thread .foot")).to_contain_text("Answers so far: 2.")
    page.get_by_role("button", name="Restore rivers.md").click()
    expect(page.locator("#sources .left-out")).to_have_count(0)
    page.locator("#thread .turn").first.locator(".edit").click()
    expect(page.locator("#question input, #question textarea").first).to_have_value("How long is river 3?")
    page.reload()
    expect(page.locator("#thread .turn")).to_have_count(2)
    page.click("#new-conversation")
    expect(page.locator("#thread .turn")).to_have_count(0)
    page.locator("#conversation input").click()
    page.get_by_role("option", name="How long is river 3?").click()
    expect(page.locator("#thread .turn")).to_have_count(2)
    page.click("#delete-conversation")
    expect(page.locator("#thread .turn")).to_have_count(0)


def test_the_cache_is_shown_cleared_and_filled(filled):
    page = filled
    open_tab(page, "Cache")
    expect(page.locator("#cache .tier").first).to_contain_text("of this collection's")
    assert page.locator("#cache svg polyline").count() >= 4
    page.click("#clear-cache")
    expect(page.locator("#cache-status")).to_contain_text("Deleted the KV")
    expect(page.locator("#cache .tier").first).to_contain_text("0 of this collection's")
    page.click("#move-cache")
    expect(page.locator("#cache-status")).to_contain_text("Copied the KV")
    page.click("#warm-cache")
    expect(page.locator("#cache-status")).to_contain_text("All indexed blocks have KV")


def test_collections_are_created_switched_and_deleted(open_page, rivers):
    page = open_page()
    upload(page, rivers)
    open_collections(page)
    fill(page, "#collection-name input, #collection-name textarea", "Second")
    page.click("#create")
    expect(page.locator("#documents .empty")).to_be_visible()
    expect(page.locator("#collection input")).to_have_value("Second")
    page.reload()
    expect(page.locator("#collection input")).to_have_value("Second")
    page.locator("#collection input").click()
    page.get_by_role("option", name="My documents").click()
    expect(page.locator("#documents")).to_contain_text("rivers.md")
    open_collections(page)
    page.click("#delete")
    expect(page.locator(".toast-body")).to_contain_text("type its name")
    fill(page, "#collection-name input, #collection-name textarea", "My documents")
    page.click("#delete")
    expect(page.locator("#collection input")).to_have_value("Second")


def test_a_collection_is_exported_and_imported(open_page, rivers, tmp_path):
    page = open_page()
    upload(page, rivers)
    open_collections(page)
    page.click("#export")
    with page.expect_download() as download:
        page.locator("#exported a[download]").first.click()
    download.value.save_as(tmp_path / "c.zip")
    page.set_input_files("#import input[type=file], input[accept='.zip']", str(tmp_path / "c.zip"))
    expect(page.locator("#collection input")).to_have_value("My documents (2)")
    expect(page.locator("#documents")).to_contain_text("rivers.md")


def test_many_documents_are_searched_and_removed(open_page, tmp_path):
    paths = [tmp_path / f"file-{i}.txt" for i in range(8)]
    for path in paths:
        path.write_text(f"This is the text of {path.name}. " * 5)
    page = open_page()
    page.set_input_files("#upload input[type=file]", [str(path) for path in paths])
    expect(page.locator("#documents .row")).to_have_count(8)
    expect(page.locator("#documents .busy")).to_have_count(0)
    expect(page.locator("#status [data-root]")).to_be_hidden()
    page.fill("#documents .search", "file-3")
    expect(page.locator("#documents .row:visible")).to_have_count(1)
    page.get_by_role("button", name="Remove file-3.txt", exact=True).click()
    expect(page.locator("#documents .row")).to_have_count(8)
    page.get_by_role("button", name="Really remove file-3.txt").click()
    expect(page.locator("#documents .row")).to_have_count(7)


def test_boundaries_move_and_edits_are_redone(cut):
    page = cut
    set_slider(page, 0)
    before = page.locator("#blocks .body").first.text_content()
    page.locator("#blocks section").nth(1).hover()
    page.locator("#blocks .move[data-by='1']").first.click()
    expect(page.locator("#blocks .body").first).not_to_have_text(before)
    moved = page.locator("#blocks .body").first.text_content()
    assert moved.startswith(before.rstrip()[:20]) and len(moved) > len(before)
    undo_all(page)
    expect(page.locator("#blocks .body").first).to_have_text(before)
    page.locator("#blocks .text").focus()
    page.keyboard.press("Control+y")
    expect(page.locator("#blocks .undo")).to_be_enabled()


def test_a_boundary_is_dragged_to_another_place(cut):
    page = cut
    set_slider(page, 0)
    grip, first = page.locator("#blocks .grip").first, page.locator("#blocks .body").first
    before = first.text_content()
    target = page.locator("#blocks section").nth(1).locator(".piece", has_text="# River").nth(1)
    begin = target.text_content()
    drag(page, grip, target)
    expect(first).not_to_have_text(before)
    assert (
        first.text_content().startswith(before)
        and begin
        == page.locator("#blocks .piece")
        .nth(len(page.locator("#blocks section").first.locator(".piece").all()))
        .text_content()
    )
    expect(page.locator("#blocks .undo")).to_be_enabled()
    moved = first.text_content()
    drag(page, grip, page.locator("#blocks .bar"))
    calm(page)
    assert first.text_content() == moved, "a drop outside the text changes nothing"


def drag(page: Page, source, target) -> None:
    source.hover()
    page.mouse.down()
    box = target.bounding_box()
    page.mouse.move(box["x"] + 4, box["y"] + 6, steps=4)
    page.mouse.up()


def test_segmentations_are_compared_side_by_side(cut):
    page = cut
    set_slider(page, 0)
    page.get_by_role("button", name="Compare with another segmentation").click()
    calm(page)
    fill(page, "#other-granularity input[type=number]", "1")
    page.locator("#other-granularity input[type=number]").press("Tab")
    page.click("#show-compared")
    expect(page.locator("#compared .yours").first).to_have_text("starts here only")
    assert page.locator("#compared section").count() > count_blocks(page)
    assert page.locator("#compared .gap").count() == 0


def test_costs_sizes_and_scores_are_shown(cut):
    page = cut
    set_slider(page, 1)
    expect(page.locator("#blocks .cost")).to_contain_text("KV ")
    assert page.locator("#blocks .sizes i").count() == 24
    page.locator("#blocks .largest").click()
    page.locator("#blocks .strip").click(position={"x": 20, "y": 200})


def test_this_machine_is_measured(filled):
    page = filled
    open_tab(page, "Benchmarks")
    assert page.locator("#tables table").count() >= 2
    page.click("#measure")
    expect(page.locator("#measured td").first).to_have_text("256")
    expect(page.locator("#measured .busy")).to_have_count(0, timeout=60_000)


def test_settings_are_saved_or_refused_with_a_reason(filled):
    page = filled
    open_tab(page, "Settings")
    expect(page.locator("#adapter-in-use textarea")).to_have_value(re.compile("^none: block mode"))
    expect(page.locator("#adapter-in-use")).to_contain_text("python app.py --adapter NAME")
    assert not page.locator("#model-in-use textarea").is_editable()
    fill(page, "#setting-min_tokens input", "400")
    page.click("#save-settings")
    expect(page.locator(".toast-body")).to_contain_text("at least twice the minimum")
    fill(page, "#setting-min_tokens input", "20")
    fill(page, "#setting-k input[type=number]", "5")
    page.locator("#setting-k input[type=number]").press("Tab")
    page.click("#save-settings")
    expect(page.locator(".toast-body", has_text="Saved")).to_be_visible()
    page.reload()
    open_tab(page, "Settings")
    expect(page.locator("#setting-min_tokens input")).to_have_value("20")
    open_tab(page, "Ask")
    page.get_by_role("button", name="Mode, sources, length").click()
    expect(page.locator("#k input[type=number]")).to_have_value("5")


def hostile_files(folder: Path) -> list[Path]:
    """Write a document of each type with a script in its text or name."""
    body = f"{SCRIPT} A sentence that is long enough to be a block of its own, said at some length. "
    escaped = body.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    chapters = {"OEBPS/one.xhtml": f"<html><body><p>{escaped * 3}</p></body></html>"}
    import docx  # noqa: PLC0415

    made = docx.Document()
    made.add_paragraph(body * 3)
    made.save(folder / "w.docx")
    (folder / "p.pdf").write_bytes(pdf(body.encode("latin-1", "replace").decode("latin-1") * 4))
    (folder / "s.pptx").write_bytes(slides())
    (folder / "e.epub").write_bytes(epub(**chapters) if chapters else zipped({}))
    (folder / "h.html").write_text(f"<html><body><h1>{escaped}</h1><p>{escaped * 3}</p>{SCRIPT}</body></html>")
    (folder / "c.json").write_text('[{"role": "user", "content": "' + body.replace('"', "'") * 3 + '"}]')
    (folder / "t.csv").write_text("user,text\n" + f'"{SCRIPT}","{body}"\n' * 3)
    (folder / "x.py").write_text(f'def f():\n    return """{body * 3}"""\n')
    (folder / "<img src=x onerror=window.__pwned=1>.md").write_text(body * 6)
    return sorted(path for path in folder.iterdir() if path.is_file())


@pytest.mark.timeout(240)
def test_scripts_in_every_field_and_type_of_document_stay_text(open_page, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    page, paths = open_page(), hostile_files(folder)
    open_collections(page)
    fill(page, "#collection-name input, #collection-name textarea", SCRIPT)
    page.click("#create")
    expect(page.locator("#collection input")).to_have_value(re.compile("onerror"))
    page.set_input_files("#upload input[type=file]", [str(path) for path in paths])
    expect(page.locator("#documents .row")).to_have_count(len(paths))
    expect(page.locator("#documents .busy")).to_have_count(0)
    open_tab(page, "Blocks")
    for i in range(page.locator("#documents .row:not(.failed)").count()):
        page.locator("#document input").click()
        page.get_by_role("option").nth(i).click()
        expect(page.locator("#blocks section").first).to_be_visible()
        if "onerror" in page.locator("#document input").input_value():
            expect(page.locator("#blocks section").first).to_contain_text("<script>window.__pwned=1</script>")
    index_all(page)
    asked(page, SCRIPT)
    page.locator("#sources .card").first.click()
    expect(page.locator("#source .marked")).to_contain_text("<script>")
    expect(page.locator("#thread .turn")).to_contain_text("<script>")
    page.reload()
    for tab in TABS:
        open_tab(page, tab)
    assert page.evaluate("window.__pwned") is None
    assert page.locator("img[src='x']").count() == 0


def test_a_restart_shows_what_was_there(open_page, rivers, tmp_path):
    url, close = serve(tiny_engine(tmp_path / "kv"), tmp_path / "data")
    page = open_page(url)
    upload(page, rivers)
    to_blocks(page)
    index_all(page)
    port = int(url.rsplit(":", 1)[1].strip("/"))
    close()
    url, close = serve(tiny_engine(tmp_path / "kv"), tmp_path / "data", port=port)
    page.goto(url)
    expect(page.locator("#documents")).to_contain_text("indexed")
    open_tab(page, "Index")
    expect(page.locator("#progress .row.done")).to_have_count(1)
    close()
