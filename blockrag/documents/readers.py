"""The reader of each media type."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec

from blockrag.documents import media
from blockrag.documents.document import Content, Limits
from blockrag.errors import DocumentError

READERS = {
    media.TEXT: "text.read",
    media.MARKDOWN: "text.read",
    **dict.fromkeys(
        (media.CODE, media.CONFIG, media.LOG, media.TSV, media.TEX, media.RST, media.ORG, media.ASCIIDOC), "text.read"
    ),
    media.SRT: "subtitles.read",
    media.VTT: "subtitles.read",
    media.EML: "mail.read",
    media.MBOX: "mail.read_mailbox",
    media.NOTEBOOK: "notebook.read",
    media.JSON: "chat.read_json",
    media.JSONL: "chat.read_jsonl",
    media.CSV: "chat.read_csv",
    media.PDF: "pdf.read",
    media.DOCX: "word.read",
    media.PPTX: "powerpoint.read",
    media.EPUB: "epub.read",
    media.HTML: "html.read",
    media.XLSX: "spreadsheet.read",
    media.XLS: "spreadsheet.read",
    media.ODT: "opendocument.read",
    media.ODS: "opendocument.read",
    media.ODP: "opendocument.read",
    media.RTF: "rtf.read",
}
"""Module and function for each media type, imported on use; ``read(name, data, limits)`` returns a `Content`."""

IN_PROCESS = {
    media.TEXT, media.MARKDOWN, media.CODE, media.CONFIG, media.LOG, media.TSV, media.TEX, media.RST, media.ORG,
    media.ASCIIDOC,
}  # fmt: skip
"""Types whose readers only decode text. All others are parsed in the sandbox."""


WITHOUT_LIBRARIES = IN_PROCESS | {media.SRT, media.VTT, media.JSON, media.JSONL, media.CSV}
"""Types that are read without the libraries of the extra ``[documents]``."""

LIBRARIES = ("lxml", "docx", "pptx", "python_calamine", "pypdfium2")


def require_libraries(name: str, media_type: str) -> None:
    """Raise DocumentError if the type of the file `name` needs libraries that are not installed."""
    missing = [library for library in LIBRARIES if find_spec(library) is None]
    if missing and media_type not in WITHOUT_LIBRARIES:
        raise DocumentError(name, f"reading {media_type} needs {', '.join(missing)}; pip install 'blockrag[documents]'")


def load(media_type: str, ocr: bool = False) -> Callable[[str, bytes, Limits], Content]:
    """Import the reader of a media type; with `ocr`, one that reads scanned pages too, if the type has pages that may
    be scanned."""
    module, _, function = READERS[media_type].partition(".")
    reader = getattr(import_module(f"blockrag.documents.{module}"), function)
    return partial(reader, ocr=True) if ocr and media_type in (media.PDF, media.EML, media.MBOX) else reader
