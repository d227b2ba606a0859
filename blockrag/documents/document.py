"""`Document`, immutable text with a name, a media type, a source and a sha256; `Content`, what a reader found in a
file; and `Limits` on reading one."""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from blockrag.arguments import instance
from blockrag.documents.tables import SAMPLE_CHARS, header_of

_SURROGATE = re.compile("[\ud800-\udfff]")

PAGE_BREAK = "\f"
"""Separates pages and slides in `Document.text`, so that an offset determines its page."""

MAX_NOTES = 50
"""Most notes of one document; the last one says how many more there were."""

MAX_NOTE = 300
"""Most characters of a note."""


@dataclass(frozen=True)
class Document:
    """Text to answer from.

    Attributes
    ----------
    name : str
        File name shown to the user; never used as a path.
    media_type : str
        Of the file, such as ``text/markdown`` or ``application/pdf``.
    text : str
        The whole text; pages and slides are separated by `PAGE_BREAK`, headings of rich formats are Markdown headings.
    source : str
        Where the text is from: a path, a URL, or a name given to it; `name` by default. A collection holds one document
        of each source.
    id : str
        Hash of `source` (derived): the same for every version of the text.
    sha256 : str
        Hash of `text` in UTF-8 (derived): the version of the document.
    encoding : str
        Of the file's characters, such as ``utf-8``; empty for formats that have none, or if it is unknown.
    notes : tuple of str
        Sentences that say what was left out or guessed: "Page 3 has no text (scanned?)."
    metadata : mapping of str to str, number, bool or None
        What the caller knows of the document, to filter a search by.

    Raises
    ------
    ArgumentError
        If an attribute is of another type.
    """

    name: str
    media_type: str
    text: str
    source: str = ""
    encoding: str = field(default="", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)
    id: str = field(init=False)
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        for name in ("name", "media_type", "text", "source"):
            instance(name, getattr(self, name), str)
        instance("metadata", self.metadata, Mapping)  # type: ignore[type-abstract]
        for name in ("name", "source"):
            object.__setattr__(self, name, without_surrogates(getattr(self, name)))
        object.__setattr__(self, "source", self.source or self.name)
        object.__setattr__(self, "id", source_id(self.source))
        object.__setattr__(self, "sha256", _digest(self.text))

    @cached_property
    def header(self) -> str:
        """The first row of a table, which goes with each of its blocks to the model; empty for other texts."""
        return header_of(self.media_type, self.text[:SAMPLE_CHARS])

    def block_text(self, start: int, end: int) -> str:
        """Text that the model gets for the block ``[start, end)``: its text, below the header if it is from a table."""
        return (self.header if start else "") + self.text[start:end]

    @cached_property
    def _page_breaks(self) -> list[int]:
        return [found.start() for found in re.finditer(PAGE_BREAK, self.text)]

    @property
    def n_pages(self) -> int | None:
        """Number of pages, slides or sheets; None for a text without pages."""
        return len(self._page_breaks) + 1 if self._page_breaks else None

    def page_of(self, char: int) -> int | None:
        """Page number (from 1) of the character at offset `char`, or None for a text without pages."""
        if not self._page_breaks:
            return None
        return bisect_right(self._page_breaks, char - 1) + 1


def without_surrogates(text: str) -> str:
    """`text` with U+FFFD for every lone surrogate, half of a character, which no encoding can store."""
    return _SURROGATE.sub("\ufffd", text)


def source_id(source: str) -> str:
    """`Document.id` of a document from this source."""
    return _digest(source)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Content:
    """What a reader found in a file; see `Document` for the fields."""

    text: str
    encoding: str = ""
    notes: tuple[str, ...] = ()


def counted(n: int, one: str, many: str) -> str:
    """A number with its noun and verb, for notes: "1 picture was", "2 pictures were"."""
    return f"{n:,} {one if n == 1 else many}"


@dataclass(frozen=True)
class Limits:
    """Limits on reading one file.

    Attributes
    ----------
    max_bytes : int
        Of the file.
    max_chars : int
        Of its text.
    max_expanded_bytes : int
        Of all members of a zip format (DOCX, PPTX, EPUB) once inflated.
    max_pages : int
        Of a PDF.
    timeout_s : float
        Wall-clock and processor time for parsing a rich format, in seconds each.
    memory_bytes : int
        Address space of the process that parses a rich format.
    ocr_timeout_s, ocr_memory_bytes : float, int
        In place of these two where scanned pages are read by OCR.

    Raises
    ------
    ValueError
        If one is not positive.
    """

    max_bytes: int = 64 << 20
    max_chars: int = 64 << 20
    max_expanded_bytes: int = 256 << 20
    max_pages: int = 5_000
    timeout_s: float = 60.0
    memory_bytes: int = 2 << 30
    ocr_timeout_s: float = 3600.0
    ocr_memory_bytes: int = 6 << 30

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:  # refuses NaN too
                raise ValueError(f"{name} is {value}; expected more than 0")
