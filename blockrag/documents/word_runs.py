"""Text of a Word paragraph: runs, symbols, scripts above and below the line, formulas, references to notes."""

from collections import Counter
from collections.abc import Callable, Iterator

from docx.oxml.ns import qn
from lxml.etree import _Element

_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_SKIPPED = {
    qn("w:pPr"), qn("w:rPr"), qn("w:del"), qn("w:moveFrom"), qn("w:delText"), qn("w:instrText"), qn("w:txbxContent"),
    "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback",
}  # fmt: skip
_SIGNS = {
    qn("w:tab"): "\t", qn("w:ptab"): "\t", qn("w:br"): "\n", qn("w:cr"): "\n", qn("w:noBreakHyphen"): "-",
    qn("w:softHyphen"): "",
}  # fmt: skip
_OFF = ("0", "false", "off")
_SYMBOL = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖαβχδεφγηιϕκλμνοπθρστυϖωξψζ",
        strict=True,
    )
) | {
    "\xa3": "≤",
    "\xb3": "≥",
    "\xb4": "×",
    "\xb1": "±",
    "\xb9": "≠",
    "\xa5": "∞",
    "\xae": "→",
    "\xb0": "°",
    "\xb7": "•",
}
_WINGDINGS = {"\xfc": "✓", "\xfb": "✗", "\xfe": "☑", "\xa8": "☐", "\xe0": "→", "\xa7": "▪", "\x6f": "☐"}
_OPERATORS = {f"{_M}sSup": ("^",), f"{_M}sSub": ("_",), f"{_M}sSubSup": ("_", "^"), f"{_M}f": ("/",)}


class Runs:
    """Reads runs. Counts what it leaves out in `left_out`.

    Parameters
    ----------
    hidden_styles : set of str
        Ids of character styles whose text is hidden.
    refer : callable
        ``refer(kind, id)`` gives the text of a reference to a note or comment.
    """

    def __init__(self, hidden_styles: set[str], refer: Callable[[str, str], str]):
        self._hidden_styles, self._refer = hidden_styles, refer
        self.left_out: Counter[str] = Counter()

    def text(self, element: _Element) -> str:
        """Text of a paragraph or of a part of it, without text boxes, whose paragraphs are read separately."""
        return "".join(self._parts(element))

    def _parts(self, element: _Element) -> Iterator[str]:
        for child in element:
            tag = child.tag
            if tag == qn("w:t"):
                yield (child.text or "").replace("\xad", "")
            elif tag in _SKIPPED or not isinstance(tag, str):
                continue
            elif tag in _SIGNS:
                yield _SIGNS[tag]
            elif tag == qn("w:r"):
                yield self._run(child)
            elif tag == qn("w:sym"):
                yield _symbol(child)
            elif tag == qn("w:ruby"):
                base = child.find(qn("w:rubyBase"))
                self.left_out["ruby"] += 1
                yield self.text(base) if base is not None else ""
            elif tag in (qn("w:footnoteReference"), qn("w:endnoteReference"), qn("w:commentReference")):
                yield self._refer(tag.rpartition("}")[2], child.get(qn("w:id"), ""))
            elif tag == qn("w:ffData"):
                yield _field(child)
            elif tag == f"{_M}oMath":
                yield formula(child)
            else:
                yield from self._parts(child)

    def _run(self, run: _Element) -> str:
        properties = run.find(qn("w:rPr"))
        text = self.text(run)
        if properties is None or not text:
            return text
        style = properties.find(qn("w:rStyle"))
        hidden = style is not None and style.get(qn("w:val")) in self._hidden_styles
        if is_on(properties, "w:vanish", hidden):
            self.left_out["hidden"] += len(text)
            return ""
        align = properties.find(qn("w:vertAlign"))
        return shifted(text, align.get(qn("w:val"), "")) if align is not None else text


def is_on(properties: _Element, tag: str, default: bool = False) -> bool:
    """Whether a property without a value, or with one that is not false, is set."""
    found = properties.find(qn(tag))
    return default if found is None else found.get(qn("w:val"), "true") not in _OFF


def shifted(text: str, align: str) -> str:
    """A superscript as ^6 and a subscript as _2. An ordinal's letters, as in 1st, stay as they are."""
    bare = text.strip()
    sign = {"superscript": "^", "subscript": "_"}.get(align)
    if not sign or not bare or (sign == "^" and bare.isalpha() and len(bare) > 1) or bare.startswith("["):
        return text
    return text.replace(bare, sign + (bare if bare.lstrip("+-−").isalnum() else f"({bare})"))


def formula(element: _Element) -> str:
    """A formula of Office on one line: (a+b)/c, x^2, √(y)."""
    tag = element.tag
    if tag == f"{_M}t":
        return element.text or ""
    parts = [child for child in element if isinstance(child.tag, str) and not child.tag.endswith("Pr")]
    texts = [formula(part) for part in parts]
    if tag in _OPERATORS and len(texts) == len(_OPERATORS[tag]) + 1:
        first = _grouped(texts[0]) if tag == f"{_M}f" else texts[0]
        return first + "".join(s + _grouped(t) for s, t in zip(_OPERATORS[tag], texts[1:], strict=True))
    if tag == f"{_M}rad":
        return f"√({texts[-1]})" if texts else ""
    if tag == f"{_M}d":
        return f"({', '.join(texts)})"
    if tag == f"{_M}nary":
        sign = element.find(f"{_M}naryPr/{_M}chr")
        limits = "".join(s + _grouped(t) for s, t in zip("_^", texts[:2], strict=False) if t)
        return f"{'∫' if sign is None else sign.get(f'{_M}val', '')}{limits} {''.join(texts[2:])}"
    if tag == f"{_M}mr":
        return ", ".join(texts) + "; "
    return "".join(texts)


def _grouped(text: str) -> str:
    return text if text.isalnum() or len(text) < 2 else f"({text})"


def _field(data: _Element) -> str:
    """A tick box of a form, or the entry chosen from a list; the text of other fields stands in their runs."""
    if (box := data.find(qn("w:checkBox"))) is not None:
        return "[x]" if is_on(box, "w:checked", is_on(box, "w:default")) else "[ ]"
    entries = [entry.get(qn("w:val"), "") for entry in data.iter(qn("w:listEntry"))]
    chosen = data.find(f"{qn('w:ddList')}/{qn('w:result')}")
    at = "0" if chosen is None else chosen.get(qn("w:val"), "0")
    return entries[int(at)] if at.isdigit() and len(at) < 4 and int(at) < len(entries) else ""


def _symbol(element: _Element) -> str:
    """A character of a symbol font, in Unicode if it is known."""
    try:
        code = int(element.get(qn("w:char"), ""), 16)
    except ValueError:
        return ""
    char = chr(code & 0xFF if 0xF000 <= code < 0xF100 else min(code, 0xD7FF))
    font = element.get(qn("w:font"), "").lower()
    if font.startswith("wingdings"):
        return _WINGDINGS.get(char, "•")
    return _SYMBOL.get(char, char) if font.startswith("symbol") else char
