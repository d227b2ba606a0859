"""A document: immutable text with a name, a media type and a sha256. Knows nothing of files or of blocks."""

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property

PAGE_BREAK = "\f"
"""Stands between two pages or slides in `Document.text`, so that offsets alone tell the page."""


@dataclass(frozen=True)
class Document:
    """Text to answer from.

    Attributes
    ----------
    name : str
        File name shown to the user; never used as a path.
    media_type : str
        Such as ``text/markdown`` or ``application/pdf``: what the text was read from.
    text : str
        The whole text; pages and slides are separated by `PAGE_BREAK`, headings of rich formats are Markdown headings.
    sha256 : str
        Hash of `text` in UTF-8 (derived); equal text is the same document whatever its name.
    """

    name: str
    media_type: str
    text: str
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()
        object.__setattr__(self, "sha256", digest)

    @cached_property
    def _page_breaks(self) -> list[int]:
        return [i for i, c in enumerate(self.text) if c == PAGE_BREAK]

    def page_of(self, char: int) -> int | None:
        """Page number (from 1) of the character at offset `char`, or None for a text without pages."""
        if not self._page_breaks:
            return None
        return bisect_right(self._page_breaks, char - 1) + 1
