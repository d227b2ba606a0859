"""The walk of somebody who opens the page for the first time: what is seen, what is pressed, what comes of it."""

import re

import pytest
from playwright.sync_api import expect

from tests.ui.serving import TEXT
from tests.ui.steps import PHONE, ask, calm, open_documents, open_tab, overflow, upload, violations
from ui import strings

pytestmark = pytest.mark.browser


def test_the_page_leads_from_the_sample_to_a_compared_answer_and_further_questions_wait_in_line(open_page):
    page = open_page()
    expect(page.locator("#title")).to_contain_text("Ask your documents.")
    expect(page.locator("#model")).to_contain_text("Answers by")
    page.get_by_role("button", name="Try the sample").click()
    expect(page.locator("#thread .suggestion")).to_have_text(list(strings.SAMPLE_QUESTIONS))
    expect(page.locator("#thread .sample")).to_have_count(0)
    page.locator("#thread .suggestion").first.click()
    turn = page.locator("#thread .turn")
    expect(turn.locator(".question p")).to_have_text(strings.SAMPLE_QUESTIONS[0])
    expect(turn.locator(".cost")).to_contain_text("First words after")
    expect(page.locator("#documents .row")).to_contain_text("indexed")
    expect(page.locator("#sources .card").first).to_be_visible()
    turn.get_by_role("button", name="Compare with reading everything").click()
    expect(turn.locator(".answer.full .body")).not_to_be_empty()
    expect(turn.locator(".cost")).to_contain_text("instead of")
    page.locator("#sources .card").first.click()
    expect(page.locator("#source .marked")).to_be_in_viewport()
    further = ["How old is the chapel?", "How many puffins nest there?", "What runs on Gull Hill?"]
    for question in further:
        ask(page, question)
    expect(page.locator("#thread .turn")).to_have_count(4)
    expect(page.locator("#thread .acts")).to_have_count(4)
    expect(page.locator("#thread .turn .question p")).to_have_text([strings.SAMPLE_QUESTIONS[0], *further])


def test_another_tab_sees_the_same_and_a_closed_one_ends_nothing(open_page):
    page = open_page()
    other = open_page(beside=page)
    page.get_by_role("button", name="Try the sample").click()
    expect(other.locator("#documents .row")).to_contain_text("A guide to Saltmere.md")
    page.close()
    expect(other.locator("#documents .row")).to_contain_text("indexed")
    expect(other.locator("#thread .suggestion")).to_have_count(3)


def test_tabs_have_addresses_and_a_text_is_pasted(open_page):
    page = open_page()
    open_tab(page, "Index")
    expect(page).to_have_url(re.compile(r"\?tab=index$"))
    open_tab(page, "Settings")
    page.go_back()
    expect(page.get_by_role("tab", name="Index")).to_have_attribute("aria-selected", "true")
    page.reload()
    expect(page.get_by_role("tab", name="Index")).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(page.get_by_role("tab", name="Ask")).to_have_attribute("aria-selected", "true")
    calm(page)
    page.get_by_role("button", name="Add a web page").click()
    page.locator("#text-name input, #text-name textarea").first.fill("Tides")
    page.locator("#text textarea").fill("The tide comes in twice a day. " * 10)
    page.click("#add-text")
    expect(page.locator("#documents .row")).to_contain_text("Tides.txt")
    expect(page.locator("#documents .row")).to_contain_text("indexed")


def test_addresses_open_the_same_conversation_and_document_again(open_page, tmp_path):
    page, paths = open_page(), [tmp_path / name for name in ("rivers.md", "lakes.md")]
    for path in paths:
        path.write_text(TEXT.replace("river", path.stem[:-1]))
    upload(page, *paths)
    first, second = "How long is river 3?", "How long is lake 5?"
    ask(page, first)
    expect(page.locator("#thread .acts")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"collection=\d+&conversation=\d+$"))
    link = page.url
    page.click("#new-conversation")
    ask(page, second)
    expect(page.locator("#thread .turn .question p")).to_have_text([second])
    expect(page.locator("#thread .acts")).to_have_count(1)
    page.evaluate("history.back()")
    expect(page.locator("#thread .turn .question p")).to_have_text([first])
    page.reload()
    expect(page.locator("#thread .turn .question p")).to_have_text([first])
    open_tab(page, "Blocks")
    page.locator("#document input").click()
    page.get_by_role("option", name="rivers.md").click()
    expect(page).to_have_url(re.compile("document="))
    expect(page.locator("#blocks .text")).to_contain_text("River 3")
    document = page.url
    other = open_page(beside=page)
    other.goto(document)
    expect(other.locator("#blocks .text")).to_contain_text("The river 3 flows")
    other.goto(link)
    expect(other.locator("#thread .turn .question p")).to_have_text([first])
    stranger = open_page()
    stranger.goto(link)
    expect(stranger.locator(".toast-body")).to_contain_text("is not yours")
    expect(stranger.locator("#thread .sample")).to_be_visible()


@pytest.mark.weights
@pytest.mark.timeout(300)
def test_the_sample_is_answered_rightly(open_page, shoot, real_address):
    page = open_page(real_address)
    shoot(page, "first")
    page.get_by_role("button", name="Try the sample").click()
    for question, right in zip(strings.SAMPLE_QUESTIONS, ("Ada Thornbury", "50 minutes", "Copper Oar"), strict=True):
        page.locator("#thread .suggestion", has_text=question).click(timeout=60_000)
        turn = page.locator("#thread .turn").last
        expect(turn.locator(".question p")).to_have_text(question)
        expect(turn.locator(".body")).to_contain_text(right, timeout=90_000)
        expect(turn.locator(".acts")).to_be_visible()
    ask(page, "And who won it in 2023?")
    expect(page.locator("#thread .turn").last.locator(".body")).to_contain_text("crew of the bakery", timeout=60_000)
    page.locator("#thread .compare").nth(2).click()
    expect(page.locator("#thread .cost", has_text="× faster")).to_be_visible(timeout=90_000)
    page.locator("#thread .turn").nth(2).locator(".cite").first.click()
    expect(page.locator("#source .marked")).to_contain_text("Copper Oar")
    expect(page.locator("#source .marked")).not_to_contain_text("sheepdog")  # the sentence, not the block
    calm(page)
    shoot(page, "ask")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE["viewport"])
    calm(page)
    assert overflow(page) == 0 and violations(page) == []
    shoot(page, "phone")
    open_documents(page)
    assert overflow(page) == 0
