"""What a page's mark-up makes invisible: removed, so that no hidden text reaches the model."""

import re

import lxml.etree
from lxml.html import HtmlElement

_UNSEEN = (
    "script", "style", "template", "noscript", "head", "datalist", "rp", "colgroup", "param", "source", "track", "meta",
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
_COLOURS = re.compile(r"(?:^|;)\s*(color|background(?:-color)?)\s*:\s*([^;!]+)", re.IGNORECASE)
_AT_RULE = re.compile(r"@[^{;]*(?:;|\{(?:[^{}]*\{[^{}]*\})*[^{}]*\})")
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_SIMPLE = re.compile(r"([a-z][\w-]*)?(?:([.#])([\w-]+))?", re.IGNORECASE)
_MAX_RULES = 2_000


def remove(root: HtmlElement) -> None:
    """Remove scripts, styles, comments, the head, and elements that attributes or simple style rules hide."""
    hidden = [*_MARKED(root), *(element for element in _STYLED(root) if is_hiding(element.get("style")))]
    hidden += _hidden_by_rules(root)
    lxml.etree.strip_elements(root, *_UNSEEN, with_tail=False)
    for element in hidden:
        if element.tag not in ("html", "body") and element.getparent() is not None:
            element.drop_tree()


def is_hiding(style: str) -> bool:
    """Whether declarations of CSS make an element invisible."""
    plain = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    if _HIDING.search(plain):
        return True
    colours = {name.lower().removesuffix("-color"): value.strip().lower() for name, value in _COLOURS.findall(plain)}
    return "color" in colours and colours["color"] == colours.get("background")


def _hidden_by_rules(root: HtmlElement) -> list[HtmlElement]:
    """Elements that a rule with a selector of one tag, class or id hides on every medium."""
    sheet = "".join(element.text or "" for element in root.iter("style"))
    sheet = re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL)
    targets = set()
    for selectors, style in _RULE.findall(_AT_RULE.sub("", sheet))[:_MAX_RULES]:
        if is_hiding(style):
            found = [_SIMPLE.fullmatch(selector.strip()) for selector in selectors.split(",")]
            targets |= {(match[1], match[2], match[3]) for match in found if match and match[0]}
    if not targets:
        return []
    return [element for element in root.iter() if isinstance(element.tag, str) and _names(element) & targets]


def _names(element: HtmlElement) -> set[tuple[str | None, str | None, str | None]]:
    tag = element.tag
    names: set[tuple[str | None, str | None, str | None]] = {(tag, None, None)}
    for sign, values in ((".", (element.get("class") or "").split()), ("#", [element.get("id")])):
        names |= {(who, sign, value) for value in values if value for who in (tag, None)}
    return names
