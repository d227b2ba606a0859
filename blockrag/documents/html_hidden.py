"""Apply a page's styles to its text: remove hidden text, mark raised and lowered text."""

import re

import lxml.etree
from lxml.html import HtmlElement

_UNSEEN = (
    "script", "style", "template", "noscript", "head", "datalist", "rp", "colgroup", "param", "source", "track", "meta",
    "iframe", "video", "audio", "canvas",
    lxml.etree.Comment, lxml.etree.ProcessingInstruction,
)  # fmt: skip
_MARKED = lxml.etree.XPath(
    "//*[(@hidden and @hidden != 'until-found') or @aria-hidden = 'true' or self::dialog[not(@open)]"
    " or self::input[@type = 'hidden']]"
)
_STYLED = lxml.etree.XPath("//*[@style]")
_HIDING = re.compile(
    r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|opacity\s*:\s*0*(?:\.0+)?(?:%|(?=\s*(?:!|;|$)))"
    r"|font-size\s*:\s*0*(?:\.0+)?(?:px|pt|em|rem|%)?(?=\s*(?:!|;|$))|content-visibility\s*:\s*hidden"
    r"|(?:left|top|right|text-indent|margin-left)\s*:\s*-\d{3,}|clip\s*:\s*rect\(\s*(?:0|1px)"
    r"|clip-path\s*:\s*inset\(\s*(?:50|100)%|transform\s*:\s*scale\(\s*0\s*\))",
    re.IGNORECASE,
)
_FLAT = re.compile(
    r"(?:^|;)\s*(?:max-)?(?:height|width)\s*:\s*0*(?:\.0+)?(?:px|pt|r?em|%)?(?=\s*(?:!|;|$))", re.IGNORECASE
)
_CLIPPED = re.compile(r"(?:^|;)\s*overflow(?:-[xy])?\s*:\s*(?:hidden|clip)", re.IGNORECASE)
_COLOURS = re.compile(r"(?:^|;)\s*(color|background(?:-color)?)\s*:\s*([^;!]+)", re.IGNORECASE)
_AT_RULE = re.compile(r"@[^{;]*(?:;|\{(?:[^{}]*\{[^{}]*\})*[^{}]*\})")
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_SIMPLE = re.compile(r"([a-z][\w-]*)?(?:([.#])([\w-]+))?", re.IGNORECASE)
_MAX_RULES = 2_000
_VERTICAL = re.compile(r"(?:^|;)\s*vertical-align\s*:\s*(sup|sub)(?:er)?\b", re.IGNORECASE)
_RELATIVE = re.compile(r"(?:^|;)\s*position\s*:\s*relative", re.IGNORECASE)
_MOVED = re.compile(r"(?:^|;)\s*top\s*:\s*(-?)0?\.\d+em", re.IGNORECASE)
_SMALL = re.compile(r"(?:^|;)\s*font-size\s*:\s*(?:0?\.[1-8]\d*em|[1-8]\d%|small)", re.IGNORECASE)
_Name = tuple[str | None, str | None, str | None]
"""Tag, ``.`` or ``#``, and class or id of a selector."""


def remove(root: HtmlElement) -> None:
    """Remove scripts, styles, comments, the head, and elements that attributes or simple style rules hide."""
    hidden = [*_MARKED(root)]
    for element, style in [*((element, element.get("style")) for element in _STYLED(root)), *_ruled(root)]:
        if is_hiding(style):
            hidden.append(element)
        elif element.tag in ("span", "a", "font", "em", "i", "small") and (tag := _shift(style)):
            element.tag = tag
    lxml.etree.strip_elements(root, *_UNSEEN, with_tail=False)
    for element in hidden:
        if element.tag not in ("html", "body") and element.getparent() is not None:
            element.drop_tree()


def is_hiding(style: str) -> bool:
    """Whether declarations of CSS make an element invisible."""
    plain = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    if _HIDING.search(plain) or (_FLAT.search(plain) and _CLIPPED.search(plain)):
        return True
    colours = {name.lower().removesuffix("-color"): value.strip().lower() for name, value in _COLOURS.findall(plain)}
    return "color" in colours and colours["color"] == colours.get("background")


def _shift(style: str) -> str:
    """``sup`` or ``sub`` for text that a style raises or lowers; empty otherwise."""
    if found := _VERTICAL.search(style):
        return found[1].lower()
    moved = _MOVED.search(style) if _SMALL.search(style) and _RELATIVE.search(style) else None
    return "" if moved is None else "sup" if moved[1] else "sub"


def _ruled(root: HtmlElement) -> list[tuple[HtmlElement, str]]:
    """Elements with the declarations of rules that have a selector of one tag, class or id, for every medium, and hide,
    raise or lower text."""
    sheet = "".join(element.text or "" for element in root.iter("style"))
    sheet = re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL)
    styles: dict[_Name, str] = {}
    for selectors, style in _RULE.findall(_AT_RULE.sub("", sheet))[:_MAX_RULES]:
        if is_hiding(style) or _shift(style):
            found = [_SIMPLE.fullmatch(selector.strip()) for selector in selectors.split(",")]
            styles |= {(match[1], match[2], match[3]): style for match in found if match and match[0]}
    elements = (element for element in root.iter() if styles and isinstance(element.tag, str))
    return [(element, styles[name]) for element in elements for name in _names(element) if name in styles]


def _names(element: HtmlElement) -> set[_Name]:
    tag = element.tag
    names: set[_Name] = {(tag, None, None)}
    for sign, values in ((".", (element.get("class") or "").split()), ("#", [element.get("id")])):
        names |= {(who, sign, value) for value in values if value for who in (tag, None)}
    return names
