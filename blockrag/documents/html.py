"""HTML to Markdown: the main text, or the whole body. Scripts are not run and links not followed."""

import re
from collections.abc import Iterator
from html import escape

import lxml.etree
import lxml.html
from lxml.html import HtmlElement

from blockrag.documents import html_hidden, html_inline, html_lists, html_tables, markdown
from blockrag.documents.document import Content, Limits
from blockrag.documents.html_encoding import page_text

MAIN_CHARS = 80
"""Fewest characters of a main part; a shorter one is an empty frame that a script would fill."""
LINK_SHARE = 0.8
"""Least share of a menu's text that is in links."""
MENU_LINKS = 5
"""Fewest links of a menu that no mark-up tells."""

_HEADINGS = tuple(f"h{level}" for level in range(1, 7))
_PARAGRAPHS = (
    "p", "div", "section", "article", "main", "header", "footer", "nav", "aside", "blockquote", "figure",
    "figcaption", "table", "caption",
    "ul", "ol", "dl", "form", "hr", "address", "details", "summary", "fieldset", "td", "th",
)  # fmt: skip
_MAIN = lxml.etree.XPath("//main | //*[@role='main']")
_ARTICLES = lxml.etree.XPath("//article[not(ancestor::article)]")
_AROUND = lxml.etree.XPath(
    "//nav | //*[@role='navigation' or @role='search' or @role='contentinfo'] | //footer[not(ancestor::article)]"
    " | //aside[not(ancestor::article or ancestor::main)]"
)
_MAY_BE_MENU = lxml.etree.XPath("//ul | //ol | //div | //table | //p")
_LEFT_OUT = "Menus, side bars or the footer of the page were left out."
_IS_XHTML, _HEAD_CHARS = re.compile(r"\A\ufeff?<\?xml|<html[^>]*\sxmlns\s*="), 2_000
_CDATA = re.compile(r"<!\[CDATA\[((?:(?!<!\[CDATA\[).)*?)\]\]>", re.DOTALL)
_KEPT_BREAK = "\ufdd0"
"""A line break inside preformatted text until the rest of the text is put in shape. Not a character of any text."""


def read(name: str, data: bytes, limits: Limits) -> Content:
    """The page's main text as Markdown; see `main_text`."""
    page = page_text(name, data)
    text, is_whole = main_text(page.text)
    return Content(text, page.encoding, page.notes if is_whole else (*page.notes, _LEFT_OUT))


def html_text(html: str) -> str:
    """The text of `main_text` alone."""
    return main_text(html)[0]


def main_text(html: str) -> tuple[str, bool]:
    """The main part of a page, and whether that is all of it.

    The main part is what the page marks as such, or its only article, or else all but what is marked as navigation,
    side bar or footer, and menus: lists of links.
    """
    if not html.strip():
        return "", True
    root = _parsed(html)
    whole = len(_letters(root))
    main = _main_part(root)
    if main is None:
        _drop(root, _AROUND(root))
        _drop(root, _menus(root))
        main = root
    if not _letters(main):  # all of it is menus
        return body_text(html), True
    is_whole = len(_letters(main)) == whole
    return _rendered(main), is_whole


def body_text(html: str) -> str:
    """All visible text, with headings, lists, tables and code as Markdown.

    Raises
    ------
    ValueError
        If elements are nested deeper than the parser allows.
    """
    return _rendered(_parsed(html)) if html.strip() else ""


def _parsed(html: str) -> HtmlElement:
    if "<![CDATA[" in html and _IS_XHTML.search(html[:_HEAD_CHARS]):
        html = _CDATA.sub(lambda found: escape(found[1], quote=False), html)
    parser = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True)
    root = lxml.etree.fromstring(html.replace(_KEPT_BREAK, "").encode("utf-8", "replace"), parser)
    fatal = parser.error_log.filter_from_fatals()
    if fatal:  # such as elements nested thousands deep, after which text would be missing silently
        raise ValueError(fatal[0].message)
    if root is None:  # nothing but end tags
        return lxml.html.Element("html")
    html_hidden.remove(root)
    return root


def _main_part(root: HtmlElement) -> HtmlElement | None:
    """The element that the page marks as its main part, if it has text."""
    marked = [element for element in _MAIN(root) if len(_letters(element)) >= MAIN_CHARS]
    if len(marked) == 1:
        _drop(root, [element for element in _AROUND(root) if _is_inside(element, marked[0])])
        return marked[0]
    articles = _ARTICLES(root)
    if len(articles) == 1 and len(_letters(articles[0])) >= MAIN_CHARS:
        outside = len(_letters(root)) - sum(len(_letters(element)) for element in _AROUND(root))
        if 2 * len(_letters(articles[0])) >= outside:
            return articles[0]
    return None


def _menus(root: HtmlElement) -> Iterator[HtmlElement]:
    """Lists of links that stand beside other text."""
    n_letters = len(_letters(root))
    for element in _MAY_BE_MENU(root):
        links = element.findall(".//a")
        if len(links) >= MENU_LINKS and not any(element.iter("h1", "p", "table")) and element.tag != "p":
            n_linked, n_all = sum(len(_letters(link)) for link in links), len(_letters(element))
            if n_linked >= LINK_SHARE * n_all and 2 * n_all <= n_letters:
                yield element


def _drop(root: HtmlElement, elements: list[HtmlElement] | Iterator[HtmlElement]) -> None:
    for element in list(elements):
        if element.getparent() is not None and element is not root:
            element.drop_tree()


def _is_inside(element: HtmlElement, outer: HtmlElement) -> bool:
    return any(ancestor is outer for ancestor in element.iterancestors())


def _letters(element: HtmlElement) -> str:
    return "".join(element.text_content().split())


def _rendered(root: HtmlElement) -> str:
    root.tail = None
    _fold_space(root)
    html_inline.write(root)
    for element in root.iter("br"):
        is_kept = any(True for _ in element.iterancestors("pre", "listing", "xmp"))
        element.tail = "\n" + (element.tail or "" if is_kept else (element.tail or "").lstrip(" "))
    _fence(root)
    html_tables.write(root)
    html_lists.write(root)
    for element in root.iter(*_HEADINGS):
        sign = f"{'#' * int(element.tag[1])} " if element.text_content().strip() else ""
        html_lists.surround(element, f"\n\n{sign}", "\n\n")
        _keep_on_one_line(element)
    for element in root.iter(*_PARAGRAPHS):
        html_lists.surround(element, "" if html_lists.opens_item(element) else "\n\n", "\n\n")
    text = re.sub(r"[ \t]+\n", "\n", root.text_content())
    return markdown.paragraphs(re.split(r"\n{2,}", text.strip("\n"))).replace(_KEPT_BREAK, "\n")


def _fold_space(root: HtmlElement) -> None:
    """Collapse white space as a browser does, except in preformatted text."""
    kept = {element for pre in root.iter("pre", "textarea", "listing", "xmp") for element in pre.iter()}
    for element in root.iter():
        if element.text and element not in kept:
            element.text = re.sub(r"[ \t\n\r\f]+", " ", element.text)
        parent = element.getparent()
        if element.tail and (parent is None or parent not in kept):
            element.tail = re.sub(r"[ \t\n\r\f]+", " ", element.tail)


def _fence(root: HtmlElement) -> None:
    """Write preformatted text as fenced code, its fence longer than any inside it."""
    for element in [e for e in root.iter("pre", "listing", "xmp") if e.getparent() is not None or e is root]:
        code = element.text_content().strip("\n")
        longest = max(map(len, re.findall(r"^[ ]{0,3}(`{3,})", code, re.MULTILINE)), default=2)
        fence = "`" * (longest + 1)
        tail = element.tail
        element.clear()
        written = code.replace("\n", _KEPT_BREAK)
        element.text = f"\n\n{fence}{_KEPT_BREAK}{written}{_KEPT_BREAK}{fence}\n\n" if code.strip() else ""
        element.tail = (tail or "").lstrip(" ")


def _keep_on_one_line(heading: HtmlElement) -> None:
    for element in heading.iter("br"):
        element.tail = " " + (element.tail or "").lstrip()
