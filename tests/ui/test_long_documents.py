"""Long documents in a real browser: the slider responds in under a second, only blocks near the view are drawn, and
indexing starts, reports progress and stops."""

import random

import pytest
from playwright.sync_api import Page, expect

from tests.ui.steps import (
    PHONE,
    blocks,
    calm,
    count_blocks,
    expect_in_place,
    first_line,
    open_tab,
    overflow,
    set_slider,
    upload,
)

pytestmark = pytest.mark.browser

ASKED = """(value) => {
  const root = document.querySelector('#blocks [data-root]');
  window.__shown = null;
  window.__asked = performance.now();
  new MutationObserver((_, observer) => {
    if (root.dataset.granularity !== value) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => { window.__shown = performance.now(); }));
  }).observe(root, { attributes: true });
}"""


def long_text(n_chars: int) -> str:
    """Return sections of random sentences, so that blocks have many sizes."""
    rng, words = random.Random(7), [f"{a}{b}{c}" for a in "bdklmnrst" for b in "aeiou" for c in ("", "n", "st", "rel")]
    parts, length = [], 0
    while length < n_chars:
        sentences = (" ".join(rng.choices(words, k=rng.randint(4, 24))) for _ in range(rng.randint(1, 9)))
        heading = f"# Part {len(parts)}\n\n" if rng.random() < 0.2 else ""
        parts.append(heading + ". ".join(map(str.capitalize, sentences)) + ".\n\n")
        length += len(parts[-1])
    return "".join(parts)[:n_chars]


def slider_ms(page: Page, value: float) -> float:
    """Move the slider; return milliseconds until the blocks are painted."""
    page.evaluate(ASKED, f"{value:g}")
    set_slider(page, value)
    page.wait_for_function("window.__shown !== null")
    return page.evaluate("window.__shown - window.__asked")


def seen(page: Page) -> str:
    """Return the text in view."""
    return page.locator("#blocks .text").evaluate(
        """(text) => { const { top, bottom } = text.getBoundingClientRect();
        const inside = (p) => { const r = p.getBoundingClientRect(); return r.bottom > top && r.top < bottom; };
        return [...text.querySelectorAll('.piece')].filter(inside).map((p) => p.textContent).join(''); }"""
    )


def expect_quick(page: Page, *values: float) -> None:
    """Check that each granularity is drawn in under a second, at best of six tries on a busy machine."""
    best, counts = dict.fromkeys(values, float("inf")), {}
    for _ in range(6):
        for value in values:
            best[value] = min(best[value], slider_ms(page, value))
            counts[value] = count_blocks(page)
        if max(best.values()) < 1_000:
            break
    assert max(best.values()) < 1_000, best
    assert len(set(counts.values())) == len(values), f"each has other blocks: {counts}"


@pytest.mark.timeout(240)
def test_a_million_characters_are_redrawn_in_under_a_second_and_indexed(open_page, tmp_path):
    text, path = long_text(1_000_000), tmp_path / "million.md"
    path.write_text(text)
    page = open_page()
    upload(page, path)
    expect(page.locator("#documents")).to_contain_text("1,000,000 characters", timeout=60_000)
    open_tab(page, "Blocks")
    expect(blocks(page)).to_have_attribute("data-granularity", "0.5", timeout=60_000)  # text and blocks are there
    assert text.startswith(seen(page)[:400]) and count_blocks(page) > 2_000
    expect_quick(page, 0.9, 0.2, 1, 0.6)
    page.locator("#blocks .text").evaluate("(text) => { text.scrollTop = text.scrollHeight / 2; }")
    calm(page)
    before = first_line(page)
    expect_quick(page, 0.3, 1)
    assert text.startswith(before["text"], before["char"])
    expect_in_place(page, before)
    page.set_viewport_size(PHONE["viewport"])
    calm(page)
    expect_quick(page, 0.9, 0.2)
    assert overflow(page) == 0
    assert page.evaluate("document.querySelectorAll('#blocks *').length") < 6_000
    set_slider(page, 0)
    open_tab(page, "Index")
    page.click("#index")
    expect(page.locator("#progress .row.running")).to_contain_text("encoding", timeout=60_000)
    page.click("#stop-index")
    expect(page.locator("#progress .row.waiting")).to_contain_text("not indexed")
