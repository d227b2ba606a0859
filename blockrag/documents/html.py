"""HTML to Markdown: the main text, or the whole body. Scripts are not run and links not followed."""

import re

import lxml.etree
import lxml.html
import trafilatura
from lxml.html import HtmlElement

from blockrag.documents import markdown
from blockrag.documents.document import Content, Limits
from blockrag.documents.text import decode

MAIN_SHARE = 0.5
"""Smallest share of the body's text that the extracted main text must have. Menus and footers rarely outweigh an
article, but on short or unusual pages the extraction can drop most of it."""

_UNSEEN = ("script", "style", "template", "noscript", "head", lxml.etree.Comment, lxml.etree.ProcessingInstruction)
_HEADINGS = tuple(f"h{level}" for level in range(1, 7))
_HEADING = re.compile("^#+ ", re.MULTILINE)
_PARAGRAPHS = (
    "p", "div", "section", "article", "main", "header", "footer", "nav", "aside", "blockquote", "figure",
    "figcaption", "table", "ul", "ol", "dl", "dt", "dd", "form", "hr", "address", "details", "summary",
)  # fmt: skip
_ROWS = lxml.etree.XPath("//tr[td or th][not(.//table)][count(.//p) <= count(td | th)]")
"""Rows of data. A row with a nested table, or with several paragraphs in a cell, is layout."""


def read(name: str, data: bytes, limits: Limits) -> Content:
    """The page's main text as Markdown; see `html_text`."""
    return Content(html_text(_decode(name, data)))


def html_text(html: str) -> str:
    """The main text found by trafilatura; the whole body if that is below `MAIN_SHARE` of it or lost all headings."""
    whole = body_text(html)
    main = trafilatura.extract(html, output_format="markdown", include_comments=False, include_tables=True) or ""
    structured = bool(_HEADING.search(main)) or not _HEADING.search(whole)
    return main + "\n" if structured and len(main) >= MAIN_SHARE * len(whole) else whole


def body_text(html: str) -> str:
    """All visible text, with headings, lists, tables and code as Markdown.

    Raises
    ------
    ValueError
        If elements are nested deeper than the parser allows.
    """
    if not html.strip():
        return ""
    root = _parsed(html)
    for element in root.iter():
        _fold_space(element)
    for row in _ROWS(root):
        _replace(row, markdown.row(cell.text_content() for cell in row.iterchildren("td", "th")))
    for element in root.iter("br"):
        element.tail = "\n" + (element.tail or "").lstrip(" ")
    for element in root.iter("pre"):
        element.text = "\n\n```\n" + (element.text or "").removeprefix("\n")
        element.tail = "\n```\n\n" + (element.tail or "").lstrip(" ")
    for element in root.iter("li"):
        depth = sum(1 for _ in element.iterancestors("ul", "ol")) - 1
        _surround(element, "\n" + markdown.item("", max(depth, 0)), "\n")
    for element in root.iter(*_HEADINGS):
        sign = f"{'#' * int(element.tag[1])} " if element.text_content().strip() else ""
        _surround(element, f"\n\n{sign}", "\n\n")
    for element in root.iter(*_PARAGRAPHS):
        _surround(element, "" if _opens_item(element) else "\n\n", "\n\n")
    text = re.sub(r"[ \t]+\n", "\n", root.text_content())
    return markdown.paragraphs(re.split(r"\n{2,}", text.strip("\n")))


def _parsed(html: str) -> HtmlElement:
    parser = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True)
    root = lxml.html.document_fromstring(html.encode("utf-8", "replace"), parser=parser)
    fatal = parser.error_log.filter_from_fatals()
    if fatal:  # such as elements nested thousands deep, after which text would be missing silently
        raise ValueError(fatal[0].message)
    lxml.etree.strip_elements(root, *_UNSEEN, with_tail=False)
    return root


def _fold_space(element: HtmlElement) -> None:
    """Collapse white space as a browser does, except in preformatted text."""
    if element.text and next(element.iterancestors("pre"), None) is None and element.tag != "pre":
        element.text = re.sub(r"[ \t\n\r\f]+", " ", element.text)
    if element.tail and next(element.iterancestors("pre"), None) is None:
        element.tail = re.sub(r"[ \t\n\r\f]+", " ", element.tail)


def _opens_item(element: HtmlElement) -> bool:
    """Whether it is what a list item begins with, to stand beside the item's sign."""
    parent = element.getparent()
    return parent is not None and parent.tag == "li" and parent[0] is element


def _surround(element: HtmlElement, before: str, after: str) -> None:
    element.text = before + (element.text or "").lstrip(" ")
    element.tail = after + (element.tail or "").lstrip(" ")


def _replace(row: HtmlElement, text: str) -> None:
    for child in list(row):
        row.remove(child)
    row.text, row.tail = text, "\n"


def _decode(name: str, data: bytes) -> str:
    declared = re.search(rb"""<meta[^>]+charset=["']?([\w-]+)""", data[:2048], re.IGNORECASE)
    if declared and not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode(declared[1].decode("ascii"))
        except (LookupError, UnicodeDecodeError):
            pass  # a wrong declaration: the bytes decide
    return decode(name, data)
