"""Rich formats -> text with Markdown headings: PDF, DOCX, PPTX, EPUB, HTML. Runs where it may crash: see `sandbox`.

Nothing of a file is executed, and nothing outside it is opened: readers get bytes, and links, pictures and scripts are
passed over.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote

import lxml.etree
import lxml.html

from blockrag.documents import media
from blockrag.documents.document import PAGE_BREAK
from blockrag.documents.limits import Limits
from blockrag.documents.text import decode
from blockrag.errors import DocumentError


def read_pdf(name: str, data: bytes, limits: Limits) -> str:
    """Pages joined by `PAGE_BREAK`; lines of a paragraph are joined, as the page's width broke them."""
    import pypdfium2 as pdfium  # noqa: PLC0415

    try:
        pdf = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower() or b"/Encrypt" in data:
            raise DocumentError(name, "the PDF is encrypted; save it without a password") from error
        raise DocumentError(name, f"the PDF is damaged ({error})") from error
    if len(pdf) > limits.max_pages:
        raise DocumentError(name, f"the PDF has {len(pdf)} pages; at most {limits.max_pages} are read")
    pages = [unwrap(page.get_textpage().get_text_bounded()) for page in pdf]
    if not any(page.strip() for page in pages):
        raise DocumentError(name, "the PDF has no text layer (scanned pages only); run it through OCR first")
    return PAGE_BREAK.join(pages)


def unwrap(page: str) -> str:
    """Join lines that only the page's width broke; words parted by a hyphen at a line's end become whole.

    A line goes on where the next begins in lower case, where it is wide and does not end a sentence, or where it is as
    good as full.
    """
    lines = [line.rstrip() for line in page.replace("\r\n", "\n").replace("\x02", "-").split("\n")]
    widest = max((len(line) for line in lines), default=0)
    text = ""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        wide = len(line) >= 0.9 * widest or (len(line) >= 0.75 * widest and line[-1:] not in ".!?:")
        goes_on = following[:1].islower() or (wide and following[:1].isalnum())
        if goes_on and re.search(r"[^\W\d_]-$", line) and following[:1].islower():
            text += line[:-1]
        else:
            text += line + (" " if line and goes_on else "\n")
    return text.strip("\n") + "\n"


def read_docx(name: str, data: bytes, limits: Limits) -> str:
    """Paragraphs and tables in order; heading styles become Markdown headings."""
    import docx  # noqa: PLC0415
    from docx.table import Table  # noqa: PLC0415

    parts = []
    for item in docx.Document(io.BytesIO(data)).iter_inner_content():
        if isinstance(item, Table):
            parts.append("\n".join(_row(cell.text for cell in row.cells) for row in item.rows))
        else:
            level = re.fullmatch(r"(?:heading|title)\s*(\d?)", (item.style.name if item.style else "").lower())
            parts.append(f"{'#' * int(level[1] or 1)} {item.text}" if level and item.text else item.text)
    return _paragraphs(parts)


def read_pptx(name: str, data: bytes, limits: Limits) -> str:
    """Slides joined by `PAGE_BREAK`: title as heading, text frames, tables, notes."""
    import pptx  # noqa: PLC0415

    slides = []
    for slide in pptx.Presentation(io.BytesIO(data)).slides:
        title, parts = slide.shapes.title, []
        for shape in slide.shapes:
            if shape.has_text_frame:
                heading = title is not None and shape.shape_id == title.shape_id
                parts.append(("# " if heading and shape.text_frame.text else "") + shape.text_frame.text)
            elif shape.has_table:
                parts.append("\n".join(_row(cell.text for cell in row.cells) for row in shape.table.rows))
        if slide.has_notes_slide:
            parts.append(slide.notes_slide.notes_text_frame.text)
        slides.append(_paragraphs(parts))
    return PAGE_BREAK.join(slides)


def read_epub(name: str, data: bytes, limits: Limits) -> str:
    """Chapters in reading order, each through the HTML reader, joined by `PAGE_BREAK`."""
    book = zipfile.ZipFile(io.BytesIO(data))
    if "META-INF/encryption.xml" in book.namelist():
        raise DocumentError(name, "the EPUB is encrypted (DRM); it cannot be read")
    chapters = [html_text(decode(name, book.read(member))) for member in _spine(book)]
    return PAGE_BREAK.join(chapter for chapter in chapters if chapter.strip())


def _spine(book: zipfile.ZipFile) -> Iterator[str]:
    parser = lxml.etree.XMLParser(resolve_entities=False, no_network=True)
    container = lxml.etree.fromstring(book.read("META-INF/container.xml"), parser)
    package = container.xpath("string(//*[local-name()='rootfile']/@full-path)")
    root = lxml.etree.fromstring(book.read(package), parser)
    href = {item.get("id"): item.get("href") for item in root.xpath("//*[local-name()='item']")}
    for reference in root.xpath("//*[local-name()='itemref']/@idref"):
        member = str(PurePosixPath(package).parent / unquote(href[reference]))
        if member in book.namelist():
            yield member


def read_html(name: str, data: bytes, limits: Limits) -> str:
    """The page's main text; see `html_text`."""
    return html_text(_decode_html(name, data))


def _decode_html(name: str, data: bytes) -> str:
    declared = re.search(rb"""<meta[^>]+charset=["']?([\w-]+)""", data[:2048], re.IGNORECASE)
    if declared and not data.startswith(b"\xef\xbb\xbf"):
        try:
            return data.decode(declared[1].decode("ascii"))
        except (LookupError, UnicodeDecodeError):
            pass  # declared wrongly, as happens: the bytes decide
    return decode(name, data)


def html_text(html: str) -> str:
    """Main text as Markdown, by trafilatura; the whole body where that keeps less than half of the body's text.

    Half is the border because menus and footers seldom outweigh an article, while on short or unusual pages the guess
    of what is the main text can drop most of it.
    """
    import trafilatura  # noqa: PLC0415

    whole = _body_text(html)
    main = trafilatura.extract(html, output_format="markdown", include_comments=False, include_tables=True) or ""
    return main + "\n" if len(main) >= len(whole) / 2 else whole


def _body_text(html: str) -> str:
    """All visible text, blocks on lines of their own, headings marked."""
    if not html.strip():
        return ""
    root = lxml.html.document_fromstring(html.encode("utf-8", "replace"), parser=lxml.html.HTMLParser(encoding="utf-8"))
    lxml.etree.strip_elements(
        root, "script", "style", "template", "noscript", "head", lxml.etree.Comment, with_tail=False
    )
    for element in root.iter("h1", "h2", "h3", "h4", "h5", "h6"):
        element.text = f"{'#' * int(element.tag[1])} {element.text or ''}"
    for element in root.iter("p", "div", "li", "tr", "br", "section", "article", "h1", "h2", "h3", "h4", "h5", "h6"):
        element.tail = "\n\n" + (element.tail or "")
    lines = (" ".join(line.split()) for line in root.text_content().split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _row(cells: Iterator[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()) for cell in cells) + " |"


def _paragraphs(parts: list[str]) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


READERS = {
    media.PDF: read_pdf,
    media.DOCX: read_docx,
    media.PPTX: read_pptx,
    media.EPUB: read_epub,
    media.HTML: read_html,
}
"""Reader of each rich media type: name, bytes and limits -> text."""
