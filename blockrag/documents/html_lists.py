"""Lists of HTML as a reader sees them: signs, numbers, letters, terms with what they mean."""

import re

from lxml.html import HtmlElement

from blockrag.documents import markdown

_MAX_NUMBER = 10**6
_OPENS = "data-opens-item"
_STYLE = re.compile(r"list-style(?:-type)?\s*:[^;]*?\b(lower|upper)-(alpha|latin|roman)", re.IGNORECASE)
_STYLES = {("lower", "r"): "i", ("upper", "r"): "I", ("upper", "a"): "A", ("upper", "l"): "A"}
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"),
          (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))  # fmt: skip


def write(root: HtmlElement) -> None:
    """Put the sign of each list item before it, and its definition below a term."""
    for element in root.iter("ol"):
        _number(element)
    for element in root.iter("li", "dd"):
        if not (element.text or "").strip() and len(element):
            element[0].set(_OPENS, "")
    for element in root.iter("li"):
        depth = sum(1 for _ in element.iterancestors("ul", "ol")) - 1
        sign = markdown.item("", max(depth, 0))
        number = element.attrib.pop("data-number", None)
        surround(element, "\n" + (sign if number is None else sign.replace("-", number, 1)), "\n")
    for element in root.iter("dt"):
        surround(element, "\n\n", "")
    for element in root.iter("dd"):
        surround(element, "\n: ", "\n")


def opens_item(element: HtmlElement) -> bool:
    """Whether it is what a list item begins with, to stand beside the item's sign."""
    return _OPENS in element.attrib


def number_sign(number: int, style: str) -> str:
    """``5.``, ``e.`` or ``v.``: an item's number in a style of `ol` (1, a, A, i, I)."""
    if style in ("a", "A") and number > 0:
        sign = ""
        while number > 0:
            number, digit = divmod(number - 1, 26)
            sign = chr(ord("a") + digit) + sign
    elif style in ("i", "I") and 0 < number < 4000:
        sign = ""
        for value, letters in _ROMAN:
            sign += letters * (number // value)
            number %= value
    else:
        sign = str(number)
    return (sign.upper() if style.isupper() else sign) + "."


def _number(element: HtmlElement) -> None:
    items = [child for child in element if child.tag == "li"]
    is_reversed = "reversed" in element.attrib
    number = _integer(element.get("start"), len(items) if is_reversed else 1)
    for item in items:
        number = _integer(item.get("value"), number)
        item.set("data-number", number_sign(number, _style(item) or _style(element) or "1"))
        number += -1 if is_reversed else 1


def _style(element: HtmlElement) -> str:
    """The style of numbers that an element's own style or ``type`` sets; empty if neither does."""
    found = _STYLE.search(element.get("style") or "")
    return _STYLES.get((found[1].lower(), found[2][0].lower()), "a") if found else element.get("type") or ""


def _integer(text: str | None, default: int) -> int:
    try:
        return max(-_MAX_NUMBER, min(_MAX_NUMBER, int((text or "").strip()[:12])))
    except ValueError:
        return default


def surround(element: HtmlElement, before: str, after: str) -> None:
    """Put text before and after the text of an element."""
    element.text = before + (element.text or "").lstrip(" ")
    element.tail = after + (element.tail or "").lstrip(" ")
