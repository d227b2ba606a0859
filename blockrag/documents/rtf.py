"""RTF to Markdown (Rich Text Format Specification 1.9.1): paragraphs, headings, list numbers, tables, notes."""

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from blockrag.documents import markdown
from blockrag.documents.document import Content, Limits, counted
from blockrag.documents.word_runs import shifted
from blockrag.errors import DocumentError

MAX_GROUPS = 10_000
"""Most groups inside each other."""

_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|[\r\n\0]+|([^\\{}\r\n\0]+)", re.DOTALL
)
_SIGNS = {
    "tab": "\t", "line": "\n", "emdash": "—", "endash": "–", "emspace": "\u2003", "enspace": "\u2002", "bullet": "•",
    "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "zwj": "\u200d", "zwnj": "\u200c",
    "lbr": "\n", "~": "\xa0", "_": "\u2011", "-": "", "{": "{", "}": "}", "\\": "\\",
}  # fmt: skip
_SKIPPED = frozenset(
    "fonttbl colortbl stylesheet info pict objdata filetbl listtable listoverridetable revtbl rsidtbl generator "
    "themedata colorschememapping latentstyles datastore xmlnstbl fldinst nonshppict tc xe txe rxe bkmkstart bkmkend "
    "ftnsep ftnsepc aftnsep aftnsepc ftncn aftncn pnseclvl pn do template datafield atnid atnref atntime atndate "
    "atnparent atnicn atrfstart atrfend objclass objname fontemb fontfile sp wgrffmtfilter mmathPr pgptbl docvar "
    "formfield header footer headerl headerr headerf footerl footerr footerf annotation footnote atnauthor".split()
)
"""Groups that are not text of the body. Some of them are read separately."""

_KEPT = frozenset("footnote annotation atnauthor shpinst shptxt ud fonttbl stylesheet".split())
"""Groups that are read although a program that does not know them may leave them out."""

_MARGINS = {**dict.fromkeys(("header", "headerl", "headerr", "headerf"), "header")} | dict.fromkeys(
    ("footer", "footerl", "footerr", "footerf"), "footer"
)
_CHARSETS = {
    77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gbk", 136: "cp950", 161: "cp1253", 162: "cp1254",
    163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250",
    254: "cp437", 255: "cp850",
}  # fmt: skip
_BULLETS = {"·", "•", "o", "§", "-", "–", "\uf0b7", "\uf0a7", "*"}


@dataclass(slots=True)
class _State:
    """State that a group inherits from the enclosing group."""

    target: str = "body"
    font: int = -1
    n_fallback: int = 1
    hidden: bool = False
    align: str = ""
    in_table: bool = False
    level: int = 0


def read(name: str, data: bytes, limits: Limits) -> Content:
    """Paragraphs in order; headers and footers once, notes after the paragraph that refers to them.

    Raises
    ------
    DocumentError
        If its groups are nested too deeply.
    """
    reader = _Reader(name)
    reader.parse(data)
    return reader.content()


class _Reader:
    def __init__(self, name: str):
        self._name = name
        self._state, self._stack = _State(), list[_State]()
        self._encoding = "cp1252"
        self._fonts: dict[int, str] = {}
        self._styles: dict[int, int] = {}
        self._style = 0
        self._bytes = bytearray()
        self._n_skip = 0
        self._buffers: dict[str, list[str]] = {}
        self._parts: list[str] = []
        self._rows: list[list[str]] = []
        self._cells: list[str] = []
        self._pending: list[str] = []
        self._margins: dict[str, dict[str, None]] = {"header": {}, "footer": {}}
        self._n_notes = 0
        self._left_out: Counter[str] = Counter()

    def parse(self, data: bytes) -> None:
        """Read all tokens."""
        at, starred = 0, False
        while found := _TOKEN.match(data, at):
            at = found.end()
            word, number, code, sign, brace, text = found.groups()
            if text is not None or code is not None:
                self._text(text if text is not None else bytes([int(code, 16)]))
                continue
            if self._n_skip and brace is None and (word or sign):
                self._n_skip -= 1
                at += max(int(number or 0), 0) if word == b"bin" else 0
                continue
            if not (word == b"u" or sign == b"*"):
                self._flush()
            if brace is not None:
                self._n_skip = 0
                self._open() if brace == b"{" else self._close()
            elif sign is not None:
                starred = sign == b"*"
                if not starred:
                    self._sign(sign)
                continue
            elif word == b"bin":
                at += max(int(number or 0), 0)
            elif word is not None:
                self._word(word.decode("ascii"), None if number is None else int(number), starred)
            starred = starred and brace is None and word is None
        self._flush()
        self._end_paragraph()
        self._end_table()

    def content(self) -> Content:
        """The document's text and what was left out of it."""
        parts = [*self._margins["header"], *self._parts, *self._margins["footer"]]
        return Content(markdown.paragraphs(parts), self._encoding, tuple(self._notes()))

    def _notes(self) -> Iterator[str]:
        for key, one, many in (
            ("hidden", "character of hidden text was", "characters of hidden text were"),
            ("pict", "picture was", "pictures were"),
            ("objdata", "embedded object was", "embedded objects were"),
        ):
            if self._left_out[key]:
                yield f"{counted(self._left_out[key], one, many)} left out."

    # Groups

    def _open(self) -> None:
        if len(self._stack) >= MAX_GROUPS:
            raise DocumentError(self._name, f"more than {MAX_GROUPS:,} groups are inside each other (a bomb?)")
        self._stack.append(self._state)
        self._state = replace(self._state)

    def _close(self) -> None:
        closed = self._state
        self._state = self._stack.pop() if self._stack else _State()
        before = self._state.target
        if closed.target != before:
            self._finish(closed.target)
        elif closed.target == "body":  # properties of the paragraph outlast the group that sets them
            self._state.in_table, self._state.level = closed.in_table, closed.level

    def _finish(self, target: str) -> None:
        """Use what a group held that is not of the body."""
        text = "".join(self._buffers.pop(target, [])).strip()
        if target in self._margins and text:
            self._margins[target][text] = None
        elif target == "footnote" and text:
            self._n_notes += 1
            self._write(f"[^{self._n_notes}]")
            self._pending.append(f"[^{self._n_notes}]: {' '.join(text.split())}")
        elif target == "annotation" and text:
            author = "".join(self._buffers.pop("author", [])).strip()
            self._pending.append(f"[Comment{' by ' + author if author else ''}: {' '.join(text.split())}]")
        elif target == "atnauthor":
            self._buffers["author"] = [text]
        elif target == "listtext" and text:
            self._write(("-" if text in _BULLETS else text) + " ")

    # Control words

    def _word(self, word: str, number: int | None, starred: bool) -> None:
        state = self._state
        if state.target == "skipped":
            return
        if state.target in ("fonttbl", "stylesheet"):
            self._table_word(word, number)
        elif word in _MARGINS:
            state.target = _MARGINS[word]
        elif word in ("footnote", "annotation", "atnauthor", "fonttbl", "stylesheet"):
            state.target = word
        elif word in ("listtext", "pntext"):
            state.target = "listtext"
        elif word in _SKIPPED or (starred and word not in _KEPT) or word == "upr":
            self._left_out[word] += 1
            state.target = "skipped"
        elif word in _SIGNS:
            self._write(_SIGNS[word])
        elif word == "u" and number is not None:
            self._unicode(number)
        elif word == "ansicpg" and number:
            self._encoding = _codec(f"cp{number}", self._encoding)
        elif word in ("mac", "pc", "pca"):
            self._encoding = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}[word]
        else:
            self._format(word, number)

    def _format(self, word: str, number: int | None) -> None:
        state = self._state
        if word in ("par", "sect", "page"):
            self._end_paragraph()
        elif word in ("cell", "row", "nestcell", "nestrow"):
            self._table_mark(word)
        elif word == "pard":
            state.in_table, state.level, self._style = False, 0, 0
        elif word == "plain":
            state.hidden, state.align = False, ""
        elif word == "intbl":
            state.in_table = True
        elif word == "uc":
            state.n_fallback = max(number or 0, 0)
        elif word == "f" and number is not None:
            state.font = number
        elif word in ("v", "deleted"):
            state.hidden = number != 0
        elif word in ("super", "sub", "nosupersub"):
            state.align = {"super": "superscript", "sub": "subscript"}.get(word, "") if number != 0 else ""
        elif word == "outlinelevel" and number is not None:
            state.level = number + 1 if number < 9 else 0
        elif word == "s" and number is not None:
            state.level = self._styles.get(number, 0)

    def _table_word(self, word: str, number: int | None) -> None:
        """A word in the table of fonts or of styles."""
        state = self._state
        if word == "f" and number is not None:
            state.font = number
        elif word == "fcharset" and number in _CHARSETS:
            self._fonts[state.font] = _CHARSETS[number]
        elif word == "s" and number is not None:
            self._style = number
        elif word == "outlinelevel" and number is not None and number < 9:
            self._styles[self._style] = number + 1
        elif word == "u" and number is not None:
            self._unicode(number)

    def _sign(self, sign: bytes) -> None:
        char = sign.decode("latin-1")
        if char in "\r\n":
            self._end_paragraph()
        elif self._state.target != "skipped":
            self._write(_SIGNS.get(char, ""))

    # Text

    def _text(self, text: bytes) -> None:
        n_skipped = min(self._n_skip, len(text))
        self._n_skip -= n_skipped
        if self._state.target != "skipped":
            self._bytes += text[n_skipped:]

    def _unicode(self, number: int) -> None:
        self._flush()
        code = number & 0xFFFF if number < 0 else number
        self._n_skip = self._state.n_fallback
        self._write(chr(code) if code < 0x110000 else "\ufffd")

    def _flush(self) -> None:
        """Decode the bytes so far, in the encoding of their font."""
        if self._bytes:
            encoding = self._fonts.get(self._state.font, self._encoding)
            data = bytes(self._bytes)
            self._bytes.clear()
            self._write(data.decode(encoding, "replace"))

    def _write(self, text: str) -> None:
        target = self._state.target
        if target == "stylesheet":
            found = re.match(r"\s*(?:heading (\d)|title)", text.lower())
            if found:
                self._styles[self._style] = int(found[1] or 1)
        elif target not in ("skipped", "fonttbl"):
            if self._state.hidden:
                self._left_out["hidden"] += len(text)
            else:
                self._buffers.setdefault(target, []).append(shifted(text, self._state.align))

    def _take(self) -> str:
        text = "".join(self._buffers.pop("body", []))
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # halves of one character join

    def _end_paragraph(self) -> None:
        if self._state.target != "body":
            self._buffers.setdefault(self._state.target, []).append("\n")
        elif self._state.in_table:
            self._buffers.setdefault("body", []).append(" ")
        else:
            self._end_table()
            text = self._take().strip(" ")
            level = self._state.level if text.strip() else 0
            self._parts += [markdown.heading(text, level) if level else text, *self._pending]
            self._pending = []

    # Tables

    def _table_mark(self, word: str) -> None:
        if self._state.target != "body":
            self._write(" ")
        elif word == "cell":
            self._cells.append(" ".join(self._take().strip(" ,;").split()))
        elif word == "row":
            self._rows.append(self._cells)
            self._cells = []
        else:
            self._write(", " if word == "nestcell" else "; ")

    def _end_table(self) -> None:
        rows = [*self._rows, *([self._cells] if self._cells else [])]
        if rows:
            self._parts += [markdown.table(rows), *self._pending]
            self._pending = []
        self._rows, self._cells = [], []


def _codec(name: str, default: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        return default
