"""Determine the media type of a file by its content, then by its name.

A file whose content contradicts its name is refused.
"""

import re
from pathlib import PurePath

from blockrag.documents.text import decode
from blockrag.documents.zips import ZIP, members, mimetype
from blockrag.errors import DocumentError

TEXT = "text/plain"
MARKDOWN = "text/markdown"
HTML = "text/html"
CSV = "text/csv"
JSON = "application/json"
JSONL = "application/jsonl"
CODE = "text/x-source"
CONFIG = "text/x-config"
LOG = "text/x-log"
TSV = "text/tab-separated-values"
TEX = "text/x-tex"
RST = "text/x-rst"
ORG = "text/org"
ASCIIDOC = "text/asciidoc"
SRT = "application/x-subrip"
VTT = "text/vtt"
EML = "message/rfc822"
MBOX = "application/mbox"
NOTEBOOK = "application/x-ipynb+json"
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
EPUB = "application/epub+zip"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
XLS = "application/vnd.ms-excel"
ODT = "application/vnd.oasis.opendocument.text"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
ODP = "application/vnd.oasis.opendocument.presentation"
RTF = "application/rtf"

SUFFIXES = {
    **dict.fromkeys(("", ".txt", ".text"), TEXT),
    **dict.fromkeys((".md", ".markdown", ".mdx", ".qmd"), MARKDOWN),
    **dict.fromkeys((".html", ".htm", ".xhtml"), HTML),
    ".csv": CSV,
    **dict.fromkeys((".tsv", ".tab"), TSV),
    ".log": LOG,
    **dict.fromkeys((".tex", ".ltx", ".latex"), TEX),
    **dict.fromkeys((".rst", ".rest"), RST),
    ".org": ORG,
    **dict.fromkeys((".adoc", ".asciidoc"), ASCIIDOC),
    ".srt": SRT,
    ".vtt": VTT,
    ".eml": EML,
    **dict.fromkeys((".mbox", ".mbx"), MBOX),
    ".ipynb": NOTEBOOK,
    **dict.fromkeys((".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".properties", ".env"), CONFIG),
    **dict.fromkeys((".jsonl", ".ndjson"), JSONL),
    ".json": JSON,
    ".pdf": PDF,
    ".docx": DOCX,
    ".pptx": PPTX,
    ".epub": EPUB,
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb"), XLSX),
    ".xls": XLS,
    ".odt": ODT,
    ".ods": ODS,
    ".odp": ODP,
    ".rtf": RTF,
    **dict.fromkeys(
        ".py .pyi .js .mjs .jsx .ts .tsx .c .h .cc .cpp .hpp .cs .go .rs .java .kt .scala .swift .rb .php .pl .lua "
        ".r .jl .sh .bash .ps1 .sql .css .scss .xml .tf .proto .zig .ex .hs .ml "
        ".vue".split(),
        CODE,
    ),
}
"""Media type by lower-case suffix. A file without a suffix is treated as text."""

RICH = {
    PDF: "a PDF", DOCX: "a Word document", PPTX: "a PowerPoint file", EPUB: "an EPUB book", XLSX: "an Excel workbook",
    XLS: "an old Excel workbook", ODT: "an OpenDocument text", ODS: "an OpenDocument spreadsheet",
    ODP: "an OpenDocument presentation", RTF: "an RTF document",
}  # fmt: skip
"""Types recognised by content, with a description for messages."""

_MAGIC = (
    (b"MZ\x90\0", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"SQLite format 3\0", "a SQLite database"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_STREAMS = (
    ("EncryptedPackage", "an encrypted Office file; save it without a password"),
    ("WordDocument", "an old Word document; save it as .docx"),
    ("PowerPoint Document", "an old PowerPoint file; save it as .pptx"),
    ("__properties_version", "an Outlook message; save it as .eml"),
    ("Workbook", XLS),
    ("Book", XLS),
)
"""Kind of an old Office file, by the name of a stream in it."""

_ELSEWHERE = {
    **dict.fromkeys((".doc", ".docm", ".dot", ".dotx", ".pages", ".wpd", ".wps", ".odm", ".fodt"), ".docx"),
    **dict.fromkeys((".ppt", ".pptm", ".pps", ".ppsx", ".key", ".odg", ".fodp"), ".pptx or PDF"),
    **dict.fromkeys((".numbers", ".fods"), ".xlsx"),
    **dict.fromkeys((".mobi", ".azw", ".azw3", ".fb2", ".lit"), ".epub"),
    **dict.fromkeys((".djvu", ".xps", ".oxps", ".ps", ".eps", ".chm"), "PDF"),
    **dict.fromkeys((".msg", ".pst", ".ost"), ".eml or .mbox"),
}
"""Formats to which files of other types can be saved."""
_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,9}")
"""What names a type: "notes.bak", but not "version 2.5" or "call Mr. Smith"."""
_ZIP_MEMBERS = (
    ("word/document.xml", DOCX), ("ppt/presentation.xml", PPTX), ("xl/workbook.xml", XLSX), ("xl/workbook.bin", XLSX),
    ("META-INF/container.xml", EPUB),
)  # fmt: skip


def media_type(name: str, data: bytes) -> str:
    """Media type of a file.

    Raises
    ------
    DocumentError
        If the content is not a document, or contradicts the name.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix in _ELSEWHERE:
        raise DocumentError(name, f"files of the type {suffix} are not read; save it as {_ELSEWHERE[suffix]}")
    claimed, found = SUFFIXES.get(suffix), _by_content(name, data)
    if found == PDF and suffix and claimed not in (None, PDF) and not data.startswith(b"%PDF-"):
        found = None  # a text that mentions how a PDF begins
    if found is None:
        if claimed in RICH:
            looks = f"the content looks like {_looks_like(name, data)}"
            raise DocumentError(name, f"the name says {suffix}, but {looks}: it is damaged or disguised")
        if claimed is None and _SUFFIX.fullmatch(suffix):
            raise DocumentError(name, f"files of the type {suffix} are not read; save it as text, PDF or Word")
        return claimed or TEXT
    if found not in RICH:
        raise DocumentError(name, f"this is {found}, which cannot be read as a document")
    if suffix in SUFFIXES and suffix and claimed != found:
        raise DocumentError(name, f"the name says {suffix}, but the content is {RICH[found]}; rename or convert it")
    return found


def _by_content(name: str, data: bytes) -> str | None:
    """A media type, a description of something that is not a document, or None if the bytes may be text."""
    if data.startswith(_OLE):
        streams = (found for stream, found in _OLE_STREAMS if stream.encode("utf-16-le") in data)
        return next(streams, "an old Office file; save it as .docx, .pptx or .xlsx")
    if data.startswith(b"{\\rtf"):
        return RTF
    if data.startswith(ZIP):
        inside = {member.lower() for member in members(name, data)}  # first: it refuses millions of them unread
        if (stated := mimetype(data)) in (ODT, ODS, ODP):
            return stated
        return next((found for member, found in _ZIP_MEMBERS if member.lower() in inside), "a zip archive")
    if b"%PDF-" in data[:1024]:  # readers allow some bytes before it
        return PDF
    return next((found for magic, found in _MAGIC if data.startswith(magic)), None)


def _looks_like(name: str, data: bytes) -> str:
    try:
        decode(name, data)
    except DocumentError:
        return "unknown binary data"
    return "plain text"
