"""Members of zip containers, and protection against zip bombs."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from blockrag.documents.document import Limits
from blockrag.errors import DocumentError

if TYPE_CHECKING:
    from lxml.etree import _Element

MAX_MEMBERS = 1 << 16
"""Limit for one container. Real documents have hundreds; listing millions would exhaust memory."""

ZIP = (b"PK\x03\x04", b"PK\x05\x06")
"""Starts of a zip file."""

_MIMETYPE_BYTES = 200
_ENTRY = b"PK\x01\x02"
"""Start of each entry in the central directory."""
_ENCRYPTED = 1
"""Bit in a member's flags."""
_CHUNK_BYTES = 1 << 20


def mimetype(data: bytes) -> str:
    """The media type that an OpenDocument file or an EPUB states as its first member; empty if it states none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open("mimetype") as member:
            return member.read(_MIMETYPE_BYTES).decode("ascii", "replace").strip()
    except (KeyError, zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, zlib.error, EOFError):
        return ""  # `check_inflated` reports damage


def members(name: str, data: bytes) -> set[str]:
    """Names of the members of a zip file, without inflating any.

    Raises
    ------
    DocumentError
        If its structure is damaged, or it has more than `MAX_MEMBERS`.
    """
    if data.count(_ENTRY) > MAX_MEMBERS:
        raise DocumentError(name, f"it holds more than {MAX_MEMBERS:,} files (a zip bomb?)")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        reason = f"damaged zip structure ({error}); the file was cut short or altered"
        raise DocumentError(name, reason) from error


def parse_xml(data: bytes) -> "_Element":
    """Root of an XML member. Entities are not expanded, and nothing is fetched.

    Raises
    ------
    lxml.etree.XMLSyntaxError
        If it is not well-formed.
    """
    etree = import_module("lxml.etree")  # belongs to the extra [documents]
    return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))


def check_inflated(name: str, data: bytes, limits: Limits) -> None:
    """Refuse a zip bomb before it is parsed: check the declared sizes, then that they are the real ones.

    Raises
    ------
    DocumentError
        If the members are encrypted or inflate to more than `limits` allow.
    zipfile.BadZipFile
        If a member's size or checksum differs from the declared one.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(info.file_size for info in archive.infolist()) > limits.max_expanded_bytes:
            most = limits.max_expanded_bytes >> 20
            raise DocumentError(name, f"it inflates to more than {most} MB (a zip bomb?)")
        for info in archive.infolist():
            if info.flag_bits & _ENCRYPTED:
                raise DocumentError(name, "it is encrypted; save it without a password")
            with archive.open(info) as member:
                while member.read(_CHUNK_BYTES):  # raises if the declared size is wrong
                    pass


def qualified_name(tag: str, namespaces: Mapping[str, str]) -> str:
    """A tag such as ``text:p`` as lxml names it: ``{http://...}p``."""
    prefix, _, local = tag.partition(":")
    return f"{{{namespaces[prefix]}}}{local}"
