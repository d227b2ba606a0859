"""Inside a line of HTML: superscript and subscript, ruby, formulas, pictures, form fields."""

import re

import lxml.etree
from lxml.html import HtmlElement

_ORDINALS = frozenset("st nd rd th er re e ère ème eme o a º ª tm sm ® ™".split())
_TYPED = frozenset(
    {"", "text", "search", "email", "tel", "url", "number", "date", "time", "month", "week", "datetime-local"}
)
_ONE_SIGN = re.compile(r"[-+−]?\w+")
_NOTE_REFERENCES = lxml.etree.XPath("//a[@*[name() = 'epub:type'] = 'noteref' or @role = 'doc-noteref']")
_TEX = "application/x-tex"


def write(root: HtmlElement) -> None:
    """Write these elements as text, in place."""
    for element in list(root.iter("ruby")):
        replace(element, _ruby(element))
    for element in list(root.iter()):
        if isinstance(element.tag, str) and _local(element) == "math" and element.getparent() is not None:
            replace(element, formula(element))
    for element in _NOTE_REFERENCES(root):
        if not any(True for _ in element.iter("sup", "sub")):
            element.tag = "sup"
    for element in reversed(list(root.iter("sup", "sub"))):
        replace(element, raised(element.text_content(), "^" if element.tag == "sup" else "_"))
    for element in list(root.iter("img", "area")):
        if (element.get("alt") or "").strip():
            element.text = f"[{' '.join(element.get('alt').split())}]"
    for element in root.iter("input"):
        kind = (element.get("type") or "").lower()
        if kind in _TYPED:
            element.text = f" {element.get('value') or ''} "
        elif kind in ("checkbox", "radio"):
            element.text = "[x]" if "checked" in element.attrib else "[ ]"
    for element in root.iter("select"):
        if next(element.iterancestors("select"), None) is not None:
            continue
        chosen = element.findall(".//option[@selected]")
        for option in element.findall(".//option") if chosen and "multiple" not in element.attrib else ():
            if option is not chosen[-1]:
                replace(option, "")
    for element in root.iter("del", "s", "strike"):
        text = element.text_content().strip()
        if text and "\n" not in text and not any(element.iter("p", "div", "table", "pre")):
            replace(element, f"~~{text}~~")
    for element in root.iter("svg"):
        element.text = " " + (element.text or "")
    for element in root.iter("option", "button", "label", "svg", "text", "title", "desc"):
        element.tail = " " + (element.tail or "")


def raised(text: str, sign: str) -> str:
    """``^2`` or ``_(i+1)``: text above or below the line; notes' numbers in brackets and ordinals stay as they are."""
    text = " ".join(text.split())
    if not text or text[0] in f"[({sign}" or text.lower() in _ORDINALS or not any(c.isalnum() for c in text):
        return text
    return sign + text if _ONE_SIGN.fullmatch(text) else f"{sign}({text})"


def formula(element: HtmlElement) -> str:
    """MathML on one line: its TeX if it has that, else signs in order, with ``^``, ``_`` and ``/``."""
    for annotation in element.iter("annotation"):
        if annotation.get("encoding") == _TEX and (annotation.text or "").strip():
            return f"${' '.join(annotation.text.split())}$"
    values: dict[HtmlElement, str] = {}
    for part in _inside_out(element):
        values[part] = _formula_part(part, [values.pop(child) for child in part if child in values])
    return values.get(element, "") or " ".join((element.get("alttext") or "").split())


def _inside_out(element: HtmlElement) -> list[HtmlElement]:
    """Elements after all that they contain; no recursion, since pages nest at will."""
    return [part for part in reversed(list(element.iter())) if isinstance(part.tag, str)]


def _formula_part(part: HtmlElement, inner: list[str]) -> str:
    kind = _local(part)
    if kind.startswith("annotation"):
        return ""
    if len(inner) >= 2:
        one, two = inner[0], inner[1]
        match kind:
            case "mfrac":
                return f"{_grouped(one)}/{_grouped(two)}"
            case "msup" | "mover":
                return one + raised(two, "^") if two.strip().isalnum() else f"{one}^({two})"
            case "msub" | "munder":
                return one + raised(two, "_") if two.strip().isalnum() else f"{one}_({two})"
            case "msubsup" | "munderover" if len(inner) > 2:
                return f"{one}_{_grouped(two)}^{_grouped(inner[2])}"
            case "mroot":
                return f"root({one}, {two})"
            case "mtable":
                return "[" + "; ".join(inner) + "]"
            case "mtr" | "mlabeledtr":
                return ", ".join(inner)
    if kind == "msqrt":
        return f"√({''.join(inner) or _own(part)})"
    text = _own(part) if not inner else "".join(inner)
    return f"({text})" if kind == "mfenced" else text


def _own(part: HtmlElement) -> str:
    text = "".join(c for c in part.text or "" if c not in "\u2061\u2062\u2063\u2064")
    return " ".join(text.split()) if _local(part) != "mtext" else re.sub(r"\s+", " ", text)


def _grouped(text: str) -> str:
    return text if re.fullmatch(r"\w*", text) else f"({text})"


def _ruby(element: HtmlElement) -> str:
    """The base text as one word, then its reading in brackets."""
    base: list[str] = [element.text or ""]
    reading: list[str] = []
    for child in element:
        if isinstance(child.tag, str):
            (reading if child.tag in ("rt", "rtc") else base).append(child.text_content().strip())
        if child.tail and child.tail.strip():
            base.append(child.tail.strip())
    read = "".join(reading)
    return "".join(part.strip() for part in base) + (f"({read})" if read else "")


def _local(element: HtmlElement) -> str:
    return element.tag.rpartition(":")[2].rpartition("}")[2].lower()


def replace(element: HtmlElement, text: str) -> None:
    """Put `text` in place of what is in the element."""
    tail = element.tail
    for child in list(element):
        element.remove(child)
    element.text, element.tail = text, tail
