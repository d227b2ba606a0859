"""EPUB to Markdown in reading order, one page per chapter. The HTML reader converts the chapters."""

import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from urllib.parse import unquote

import lxml.etree

from blockrag.documents.document import PAGE_BREAK, Content, Limits, counted
from blockrag.documents.html import body_text
from blockrag.documents.html_encoding import page_text
from blockrag.documents.zips import check_inflated, parse_xml
from blockrag.errors import DocumentError

_CLOSES_ITSELF = re.compile(
    r"<(?!(?:area|base|br|col|embed|hr|image|img|input|link|meta|param|source|track|wbr)\b)([a-zA-Z][\w:.-]*)"
    r"((?:\s+[\w:.-]+(?:\s*=\s*(?:\"[^\"<]*\"|'[^'<]*'))?)*)\s*/>"
)
"""An element without content, which HTML would take for the start of one."""
_LINK, _HREF = (
    re.compile(r"<link\b[^<>]*>", re.IGNORECASE),
    re.compile(r"href\s*=\s*([\"'])([^\"'<>]*)\1", re.IGNORECASE),
)
MAX_STYLE_BYTES = 1 << 18
"""Most bytes of a style sheet that are looked at."""


def read(name: str, data: bytes, limits: Limits) -> Content:
    """Chapters joined by `PAGE_BREAK`, each with its whole body, since a book has no menus to remove. Chapters that the
    book lists but does not hold are skipped and noted.

    Raises
    ------
    DocumentError
        If a chapter is encrypted, or no chapter is there.
    """
    check_inflated(name, data, limits)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        book = _Book(archive)
        members, missing = list(book.spine()), book.missing
        if not members:
            raise DocumentError(name, f"the EPUB is damaged: its chapters are missing ({', '.join(missing)[:200]})")
        if book.encrypted() & {member.lower() for member in members}:
            raise DocumentError(name, "the EPUB is encrypted (DRM); it cannot be read")
        chapters = [page_text(name, book.read(member)) for member in members]
        texts = [
            body_text(book.with_styles(member, _CLOSES_ITSELF.sub(r"<\1\2></\1>", chapter.text)))
            for member, chapter in zip(members, chapters, strict=True)
        ]
    notes = [f"The book lists {', '.join(missing)}, but does not hold it."] if missing else []
    notes += [note for chapter in chapters for note in chapter.notes]
    n_empty = sum(not text.strip() for text in texts)
    if n_empty:
        notes.append(f"{counted(n_empty, 'part has', 'parts have')} no text, such as a cover.")
    encodings = sorted({chapter.encoding for chapter in chapters if chapter.encoding})
    return Content(PAGE_BREAK.join(filter(str.strip, texts)), ", ".join(encodings), tuple(notes))


class _Book:
    """Members of a book by their names regardless of case. `missing` grows as the spine is read."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        self._names = {name.lower(): name for name in reversed(archive.namelist())}
        self.missing: list[str] = []

    def read(self, member: str) -> bytes:
        """Content of a member. Raises KeyError."""
        return self._archive.read(member if member in self._archive.NameToInfo else self._names[member.lower()])

    def spine(self) -> Iterator[str]:
        """Members that hold the chapters, in reading order."""
        container = self._xml("META-INF/container.xml")
        package = container.xpath("string(//*[local-name()='rootfile']/@full-path)")
        root = self._xml(package)
        items = {item.get("id"): item for item in root.xpath("//*[local-name()='item']")}
        for reference in root.xpath("//*[local-name()='itemref']/@idref"):
            if reference not in items:
                self.missing.append(str(reference))
            elif not items[reference].get("media-type", "").lower().startswith("image/"):
                href = unquote(items[reference].get("href", "").partition("#")[0])
                member = posixpath.normpath(posixpath.join(posixpath.dirname(package), href))
                if member.lower() in self._names:
                    yield member
                else:
                    self.missing.append(member)

    def with_styles(self, member: str, page: str) -> str:
        """A chapter with the style sheets that it links to, which may hide and raise text."""
        sheets = []
        for link in _LINK.findall(page):
            href = _HREF.search(link)
            path = posixpath.normpath(posixpath.join(posixpath.dirname(member), unquote(href[2]))) if href else ""
            if path.lower() in self._names and path.lower().endswith(".css"):
                sheets.append(self.read(path)[:MAX_STYLE_BYTES].decode("utf-8", "replace").replace("<", ""))
        return re.sub(r"(?i)</head>", lambda end: f"<style>{''.join(sheets)}</style>{end[0]}", page, count=1)

    def encrypted(self) -> set[str]:
        """Names of encrypted members, in small letters: all text under DRM, only fonts where those are obfuscated."""
        if "meta-inf/encryption.xml" not in self._names:
            return set()
        references = self._xml("META-INF/encryption.xml").xpath("//*[local-name()='CipherReference']/@URI")
        return {unquote(reference).lower() for reference in references}

    def _xml(self, member: str) -> lxml.etree._Element:
        return parse_xml(self.read(member))
