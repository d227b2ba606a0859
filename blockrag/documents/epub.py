"""EPUB to Markdown in reading order, one page per chapter. The HTML reader converts the chapters."""

import io
import posixpath
import zipfile
from collections.abc import Iterator
from urllib.parse import unquote

import lxml.etree

from blockrag.documents.document import PAGE_BREAK, Content, Limits
from blockrag.documents.html import body_text
from blockrag.documents.text import decode
from blockrag.documents.zips import check_inflated
from blockrag.errors import DocumentError


def read(name: str, data: bytes, limits: Limits) -> Content:
    """Chapters joined by `PAGE_BREAK`, each with its whole body, since a book has no menus to remove.

    Raises
    ------
    DocumentError
        If a chapter is encrypted or missing.
    """
    check_inflated(name, data, limits)
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        encrypted = _encrypted(book)
        chapters = []
        for member in _spine(book):
            if member in encrypted:
                raise DocumentError(name, "the EPUB is encrypted (DRM); it cannot be read")
            if member not in book.namelist():
                raise DocumentError(name, f"the EPUB is damaged: its chapter {member} is missing")
            chapters.append(body_text(decode(name, book.read(member))))
    return Content(PAGE_BREAK.join(chapter for chapter in chapters if chapter.strip()))


def _spine(book: zipfile.ZipFile) -> Iterator[str]:
    """Members that hold the chapters, in reading order."""
    package = _xml(book, "META-INF/container.xml").xpath("string(//*[local-name()='rootfile']/@full-path)")
    root = _xml(book, package)
    items = {item.get("id"): item for item in root.xpath("//*[local-name()='item']")}
    for reference in root.xpath("//*[local-name()='itemref']/@idref"):
        if not items[reference].get("media-type", "").startswith("image/"):
            href = unquote(items[reference].get("href").partition("#")[0])
            yield posixpath.normpath(posixpath.join(posixpath.dirname(package), href))


def _encrypted(book: zipfile.ZipFile) -> set[str]:
    """Encrypted members: all text under DRM, only fonts where those are obfuscated."""
    if "META-INF/encryption.xml" not in book.namelist():
        return set()
    references = _xml(book, "META-INF/encryption.xml").xpath("//*[local-name()='CipherReference']/@URI")
    return {unquote(reference) for reference in references}


def _xml(book: zipfile.ZipFile, member: str) -> lxml.etree._Element:
    parser = lxml.etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    return lxml.etree.fromstring(book.read(member), parser)
