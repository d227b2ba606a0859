"""Headings and units of a text by its mark-up: Markdown, LaTeX, org, AsciiDoc, reStructuredText."""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import NamedTuple

from blockrag.documents import media


class Heading(NamedTuple):
    """A heading from its first visible character to the end of its last line; depth 1 is the outermost."""

    start: int
    end: int
    depth: int


Unit = tuple[int, int]
"""A span that is read as one thing, such as a fenced block: its first visible character, and its end."""

Found = tuple[list[Heading], list[Unit]]

_MARKDOWN = re.compile(
    r"^(?P<lead>[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?)(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)$"
    r"|^[ ]{0,3}(?:>[ ]?)*(?P<atx>\#{1,6})(?=[ \t]\S)[^\n]*$"
    r"|(?:(?<=\n\n)|\A)[ ]{0,3}(?P<title>[^\s>|\-*+\#`~=<][^\n|]*)\n[ ]{0,3}(?P<line>=+|-{2,})[ \t]*$"
    r"|^[ ]{0,3}(?P<last>[^\s>|\-*+\#`~=<][^\n|]*)\n[ ]{0,3}={3,}[ \t]*$"
    r"|^[ ]{0,3}<(?P<html>!--|(?:pre|script|style)\b)|\A(?P<front>---|\+\+\+)[ \t]*$",
    re.MULTILINE,
)
_RST_MARKS = r"=\-`:.'\"~^_*+#"
_RST = re.compile(
    rf"(?:(?<=\n\n)|\A)(?P<over>(?P<o>[{_RST_MARKS}])(?P=o){{2,}})[ \t]*\n[ \t]*\S[^\n]*\n(?P=over)[ \t]*$"
    rf"|(?:(?<=\n\n)|\A)(?P<title>\S[^\n]*)\n(?P<u>[{_RST_MARKS}])(?P=u){{2,}}[ \t]*$"
    r"|^(?P<indent>[ \t]*)\.\.[ \t](?:code|code-block|sourcecode|literalinclude|parsed-literal)::[^\n]*$",
    re.MULTILINE,
)
_ASCIIDOC = re.compile(
    r"^(?P<marks>={1,6}|\#{1,6})[ \t]+\S[^\n]*$"
    r"|(?:(?<=\n\n)|\A)(?P<title>\w[^\n]*)\n(?P<u>[=\-~^+])(?P=u)+[ \t]*$"
    r"|^(?P<block>-{4,}|\.{4,}|\+{4,}|/{4,}|`{3,})[^\S\n]*[^\n]*$",
    re.MULTILINE,
)
_ORG = re.compile(
    r"^(?P<stars>\*+)[ ]+\S[^\n]*(?:\n[ \t]*(?:SCHEDULED|DEADLINE|CLOSED):[^\n]*)*"
    r"(?:\n[ \t]*:PROPERTIES:[ \t]*\n(?:[ \t]*:[^\n]*\n)*?[ \t]*:END:[ \t]*$)?"
    r"|^[ \t]*\#\+begin_(?P<block>\w+)[^\n]*$|^[ \t]*:(?P<drawer>PROPERTIES|LOGBOOK):[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_TEX = re.compile(
    r"^[ \t]*\\(?P<kind>part|chapter|(?:sub){0,2}section|(?:sub)?paragraph)\*?[ \t]*[\[{][^\n]*"
    r"(?:\n[ \t]*\\label\{[^\n]*)*$"
    r"|\\begin\{(?P<block>verbatim\*?|Verbatim|lstlisting|minted|comment|(?:equation|align|gather|multline|eqnarray|"
    r"displaymath|tabular|figure|table)\*?)\}",
    re.MULTILINE,
)
_TEX_DEPTHS = {
    "part": 1,
    "chapter": 1,
    "section": 2,
    "subsection": 3,
    "subsubsection": 4,
    "paragraph": 5,
    "subparagraph": 6,
}
_UNDERLINE = 2
"""Largest difference in length between a title of AsciiDoc and the line under it."""
_MOST_LINES = 2_000
"""Lines of a block that is still taken as one unit; what closes later was never meant to."""
_SEARCHES = 64
"""How often a whole text is searched for the ends of blocks of different kinds, so that time stays linear."""


def find_markup(text: str, media_type: str) -> Found:
    """Headings and units of `text`, each in order; none in programs, tables and other records."""
    reader = _READERS.get(media_type)
    if media_type == media.TEXT:
        reader = _READERS[guess_markup(text[:100_000])]
    return reader(text) if reader else ([], [])


def guess_markup(sample: str) -> str:
    """The mark-up of a text without a suffix that tells it."""
    if re.search(r"^[ \t]*\\(?:documentclass|begin\{document\}|(?:sub)*section\*?\{)", sample, re.MULTILINE):
        return media.TEX
    if re.search(r"^#\+(?:title|author|options|begin_\w+)\b", sample, re.MULTILINE | re.IGNORECASE):
        return media.ORG
    if len(re.findall(r"^={1,6} \S[^\n]*[^=\n]$", sample, re.MULTILINE)) > 1:
        return media.ASCIIDOC
    return media.MARKDOWN if re.search(r"^#{1,6} |^(?:```|~~~)", sample, re.MULTILINE) else media.RST


def _markdown(text: str, closes_at_end: bool = False) -> Found:
    """With `closes_at_end`, a fence at the margin that nothing closes ends with the text, as in CommonMark. Other
    texts, such as the turns of a chat, may leave theirs open."""
    headings, units = [], []
    scanner = _Scanner(_MARKDOWN, text)
    for found in scanner:
        if found["fence"]:
            mark, size = found["fence"][0], len(found["fence"])
            if mark == "`" and "`" in found["info"]:
                continue  # code inside a line
            to_end = r"|\Z" if closes_at_end and not found["lead"].strip() and len(found["lead"]) < 4 else ""
            end = scanner.close(rf"^[ \t>]*{re.escape(mark)}{{{size},}}[ \t]*${to_end}")
            if end:
                units.append((found.start("fence"), end))
        elif found["html"] or found["front"]:
            mark = found["front"] or found["html"].lower()
            closing = "-->" if mark == "!--" else rf"^{re.escape(mark)}[ \t]*$" if found["front"] else f"</{mark}"
            end = scanner.close(closing)
            if end:
                units.append((_visible(text, found.start()), end))
        elif found["last"]:  # of a paragraph whose last line is underlined
            headings.append(Heading(found.start("last"), found.end(), 1))
        elif found["atx"]:
            headings.append(Heading(found.start("atx"), found.end(), len(found["atx"])))
        else:
            headings.append(Heading(found.start("title"), found.end(), 1 if found["line"][0] == "=" else 2))
    return headings, units


def _rst(text: str) -> Found:
    headings, units = [], []
    depths: dict[tuple[str, bool], int] = {}
    for found in _Scanner(_RST, text):
        if found["over"] or found["title"]:
            style = (found["o"], True) if found["over"] else (found["u"], False)
            start = found.start("over") if found["over"] else found.start("title")
            headings.append(Heading(start, found.end(), depths.setdefault(style, len(depths) + 1)))
        else:
            units.append((found.end("indent"), _indented_end(text, found.end(), len(found["indent"].expandtabs(4)))))
    return headings, units


def _indented_end(text: str, start: int, indent: int) -> int:
    """End of the lines from `start` on that are blank or more deeply indented."""
    end = start
    for _ in range(_MOST_LINES):
        begin = text.find("\n", end if end == start else end) + 1
        if not begin:
            break
        stop = text.find("\n", begin)
        stop = len(text) if stop < 0 else stop
        line = text[begin:stop].expandtabs(4)
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        end = stop
        if stop == len(text):
            break
    return start + len(text[start:end].rstrip())


def _asciidoc(text: str) -> Found:
    headings, units = [], []
    scanner = _Scanner(_ASCIIDOC, text)
    for found in scanner:
        if found["marks"]:
            headings.append(Heading(found.start(), found.end(), len(found["marks"])))
        elif found["title"]:  # underlined, by a line of its own length
            if abs(len(found["title"]) - len(found[0].rstrip().rpartition("\n")[2])) <= _UNDERLINE:
                headings.append(Heading(found.start(), found.end(), "=-~^+".index(found["u"]) + 1))
            else:
                scanner.go_to(found.end("title"))
        else:
            end = scanner.close(rf"^{re.escape(found['block'])}[ \t]*$")
            if end:
                units.append((found.start(), end))
    return headings, units


def _org(text: str) -> Found:
    headings, units = [], []
    scanner = _Scanner(_ORG, text)
    for found in scanner:
        if found["stars"]:
            headings.append(Heading(found.start(), found.end(), len(found["stars"])))
            continue
        closing = rf"^[ \t]*#\+end_{found['block']}\b[^\n]*$" if found["block"] else r"^[ \t]*:END:[ \t]*$"
        end = scanner.close(closing)
        if end:
            units.append((_visible(text, found.start()), end))
    return headings, units


def _tex(text: str) -> Found:
    headings, units = [], []
    scanner = _Scanner(_TEX, text)
    for found in scanner:
        if found["kind"]:
            headings.append(Heading(_visible(text, found.start()), found.end(), _TEX_DEPTHS[found["kind"]]))
        else:
            end = scanner.close(rf"\\end\{{{re.escape(found['block'])}\}}")
            if end:
                units.append((found.start(), end))
    return headings, units


def _visible(text: str, char: int) -> int:
    """The first character from `char` on that is not white space of its line."""
    found = _SPACE.match(text, char)
    return found.end() if found else char


class _Scanner:
    """Matches of a pattern, one after another; `close` skips to the end of a block that began with the last one."""

    def __init__(self, pattern: re.Pattern[str], text: str):
        self._pattern, self._text, self._at = pattern, text, 0
        self._closings: dict[str, tuple[int, int]] = {}
        self._chars_left = _SEARCHES * len(text)

    def __iter__(self) -> Iterator[re.Match[str]]:
        while found := self._pattern.search(self._text, self._at):
            self._at = max(found.end(), self._at + 1)
            yield found

    def go_to(self, char: int) -> None:
        """Go on at `char`, as if what was found ended there."""
        self._at = char

    def close(self, pattern: str) -> int:
        """End of the first match of `pattern` after here, where scanning goes on; 0 if there is none nearby."""
        closing = self._closings.get(pattern)
        if closing is None or closing[0] < self._at:
            if self._chars_left <= 0:
                return 0
            found = re.compile(pattern, re.MULTILINE | re.IGNORECASE).search(self._text, self._at)
            closing = found.span() if found else (len(self._text) + 1, 0)
            self._closings[pattern] = closing  # the next openers need not search again
            self._chars_left -= (closing[1] or len(self._text)) - self._at
        if not closing[1] or self._n_lines(closing[1]) - self._n_lines(self._at) > _MOST_LINES:
            return 0
        self._at = closing[1]
        return closing[1]

    def _n_lines(self, char: int) -> int:
        return bisect_left(self._line_ends, char)

    @cached_property
    def _line_ends(self) -> list[int]:
        return [found.start() for found in re.finditer("\n", self._text)]


_SPACE = re.compile(r"[ \t]*")
_READERS: dict[str, Callable[[str], Found]] = {
    **dict.fromkeys(
        (
            media.HTML, media.PDF, media.DOCX, media.PPTX, media.EPUB, media.JSON, media.JSONL,
            media.EML, media.MBOX, media.NOTEBOOK,
        ),
        _markdown,
    ),
    media.MARKDOWN: partial(_markdown, closes_at_end=True),
    media.RST: _rst,
    media.ASCIIDOC: _asciidoc,
    media.ORG: _org,
    media.TEX: _tex,
}  # fmt: skip
