"""Answers are shown as Markdown, made of nodes and never of HTML."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

COMPONENTS = Path(__file__).parents[2] / "ui" / "components"
HARNESS = """(text) => {{
  const element = document.body, props = {{}}, watch = () => {{}};
  document.body.innerHTML = "<div data-root></div>";
  {scripts}
  const node = make("div");
  node.append(markdown(text, (i) => make("button", "cite", i)));
  return node.innerHTML;
}}"""


@pytest.fixture(scope="module")
def render(browser):
    """Renders a text in a blank page."""
    scripts = "".join((COMPONENTS / name).read_text() for name in ("shared.js", "markdown.js"))
    page = browser.new_page()
    yield lambda text: page.evaluate(HARNESS.format(scripts=scripts), text)
    page.close()


@pytest.mark.parametrize(
    "text, shown",
    [
        ("one\ntwo\n\nthree", "<p>one\ntwo</p><p>three</p>"),
        ("**bold** and *thin* and `x < y`", "<p><strong>bold</strong> and <em>thin</em> and <code>x &lt; y</code></p>"),
        ("a_b_c 2 * 3 * 4", "<p>a_b_c 2 * 3 * 4</p>"),
        ("# Title\n- one\n- two", "<h4>Title</h4><ul><li>one</li><li>two</li></ul>"),
        ("3. three\n4. four", '<ol start="3"><li>three</li><li>four</li></ol>'),
        ("```py\nx = '<b>'\n```\nend", "<pre><code>x = '&lt;b&gt;'</code></pre><p>end</p>"),
        ("```\nnever closed", "<pre><code>never closed</code></pre>"),
        ("> said\n> so", "<blockquote>said\nso</blockquote>"),
        (
            "|a|b|\n|-|-|\n|1|2|",
            "<table><tbody><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></tbody></table>",
        ),
        ("It is 5\ue0000\ue001 long", '<p>It is 5<button class="cite">0</button> long</p>'),
        ("", ""),
        ("#\n-\n|", "<p>#\n-\n|</p>"),
    ],
)
def test_markdown_is_shown(render, text, shown):
    made = render(text).replace(' style="margin-left: 0px;"', "")
    assert made == shown


@pytest.mark.parametrize(
    "text",
    [
        "<script>window.__pwned=1</script>",
        "<img src=x onerror=alert(1)>",
        "![x](http://evil.example/x.png)",
        "[x](javascript:alert(1))",
        "[x](data:text/html,hello)",
        '**<b onclick="x">**',
        "`<i>`",
    ],
)
def test_markup_stays_text(render, text):
    made = render(text)
    assert not any(tag in made for tag in ("<script", "<img", "<b ", "<i>", 'javascript:alert(1)"'))
    assert "href" not in made or 'rel="noopener noreferrer"' in made
