"""Determine the media type of a file by its content, then by its name.

A file whose content contradicts its name is refused.
"""

import re
from pathlib import PurePath

from blockrag.documents.text import decode
from blockrag.documents.zips import members
from blockrag.errors import DocumentError

TEXT = "text/plain"
MARKDOWN = "text/markdown"
HTML = "text/html"
CSV = "text/csv"
JSON = "application/json"
JSONL = "application/jsonl"
CODE = "text/x-source"
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
EPUB = "application/epub+zip"

SUFFIXES = {
    **dict.fromkeys(("", ".txt", ".text", ".log", ".rst", ".adoc", ".tex", ".eml", ".srt", ".vtt"), TEXT),
    **dict.fromkeys((".md", ".markdown", ".mdx", ".qmd"), MARKDOWN),
    **dict.fromkeys((".html", ".htm", ".xhtml"), HTML),
    **dict.fromkeys((".csv", ".tsv"), CSV),
    **dict.fromkeys((".jsonl", ".ndjson"), JSONL),
    ".json": JSON,
    ".pdf": PDF,
    ".docx": DOCX,
    ".pptx": PPTX,
    ".epub": EPUB,
    **dict.fromkeys(
        ".py .pyi .js .mjs .jsx .ts .tsx .c .h .cc .cpp .hpp .cs .go .rs .java .kt .scala .swift .rb .php .pl .lua "
        ".r .jl .sh .bash .ps1 .sql .css .scss .xml .yaml .yml .toml .ini .cfg .ipynb .tf .proto .zig .ex .hs .ml "
        ".vue".split(),
        CODE,
    ),
}
"""Media type by lower-case suffix. A file without a suffix is treated as text."""

RICH = {PDF: "a PDF", DOCX: "a Word document", PPTX: "a PowerPoint file", EPUB: "an EPUB book"}
"""Types recognised by content, with a description for messages."""

_MAGIC = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old or encrypted Office file; save it as .docx or .pptx, no password"),
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
    (b"{\\rtf", "an RTF file; save it as .docx"),
)
_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,9}")
"""What names a type: "notes.bak", but not "version 2.5" or "call Mr. Smith"."""
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_MEMBERS = (("word/document.xml", DOCX), ("ppt/presentation.xml", PPTX), ("META-INF/container.xml", EPUB))


def media_type(name: str, data: bytes) -> str:
    """Media type of a file.

    Raises
    ------
    DocumentError
        If the content is not a document, or contradicts the name.
    """
    suffix = PurePath(name).suffix.lower()
    claimed, found = SUFFIXES.get(suffix), _by_content(name, data)
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
    if data.startswith(_ZIP):
        inside = {member.lower() for member in members(name, data)}
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
