"""What Outlook wraps in `winmail.dat` ([MS-OXTNEF], [MS-OXRTFCP]): the attachments of a message, and its text."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from blockrag.errors import DocumentError

SIGNATURE = struct.pack("<I", 0x223E9F78)

_RENDDATA, _TITLE, _DATA, _ATTACHMENT = 0x9002, 0x8010, 0x800F, 0x9005
_CODEPAGE, _MESSAGE, _TEXT = 0x9007, 0x9003, 0x800C
_BODY, _RTF, _HTML, _LONG_NAME, _OBJECT = 0x1000, 0x1009, 0x1013, 0x3707, 0x3701
_SIZES = {2: 4, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 10: 4, 11: 4, 20: 8, 64: 8, 72: 16}
"""Bytes of properties of fixed length, by type."""
_STRING8, _UNICODE, _EMBEDDED, _BINARY = 0x1E, 0x1F, 0x0D, 0x102
_MULTIPLE, _NAMED = 0x1000, 0x8000
_RTF_START = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans Serif"
    rb"SymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0"
    + b"\r\n"
    + rb"\par \pard\plain\f0\fs20\b\i\u\tab\tx"
)
"""What a compressed RTF refers to before it has any text."""


@dataclass
class Wrapped:
    """Named files: the attachments, and the text of the message in one of its forms."""

    attachments: list[tuple[str, bytes]] = field(default_factory=list)
    text: tuple[str, bytes] | None = None


def unwrap(name: str, data: bytes) -> Wrapped:
    """Take a `winmail.dat` apart.

    Raises
    ------
    DocumentError
        If it is damaged.
    """
    try:
        return _unwrapped(data)
    except (struct.error, IndexError, LookupError) as error:
        raise DocumentError(name, "it is damaged") from error


def _unwrapped(data: bytes) -> Wrapped:
    if not data.startswith(SIGNATURE):
        raise IndexError
    found, codepage, message = Wrapped(), "cp1252", dict[int, bytes]()
    for attribute, value in _attributes(data):
        if attribute == _CODEPAGE:
            codepage = f"cp{struct.unpack_from('<I', value)[0]}"
        elif attribute == _MESSAGE:
            message |= _properties(value, codepage)
        elif attribute == _TEXT:
            message[_BODY] = value.rstrip(b"\0").decode(codepage, "replace").encode()
        elif attribute == _RENDDATA:
            found.attachments.append(("attachment", b""))
        elif found.attachments and attribute in (_TITLE, _DATA, _ATTACHMENT):
            title, content = found.attachments[-1]
            if attribute == _TITLE:
                title = value.rstrip(b"\0").decode(codepage, "replace")
            elif attribute == _DATA:
                content = value
            else:
                inner = _properties(value, codepage)
                title, content = inner.get(_LONG_NAME, title.encode()).decode(), content or inner.get(_OBJECT, b"")
            found.attachments[-1] = title, content
    if message.get(_BODY):
        found.text = "message.txt", message[_BODY]
    elif message.get(_RTF):
        found.text = "message.rtf", _plain_rtf(message[_RTF])
    elif message.get(_HTML):
        found.text = "message.html", message[_HTML]
    return found


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and value of each attribute; a level before it and a checksum behind it are passed over."""
    at = 6
    while at + 9 <= len(data):
        number, n_bytes = struct.unpack_from("<xHxxI", data, at)
        if at + 9 + n_bytes > len(data):
            raise IndexError
        yield number, data[at + 9 : at + 9 + n_bytes]
        at += 9 + n_bytes + 2


def _properties(data: bytes, codepage: str) -> dict[int, bytes]:
    """MAPI properties of variable length by their number; strings in UTF-8."""
    found: dict[int, bytes] = {}
    (n_properties,), at = struct.unpack_from("<I", data), 4
    for _ in range(n_properties):
        kind, number = struct.unpack_from("<HH", data, at)
        at += 4
        if number >= _NAMED:
            is_string, n_bytes = struct.unpack_from("<16xII", data, at)
            at += 24 + (_padded(n_bytes) if is_string else 0)
        single, n_values = kind & ~_MULTIPLE, 1
        if kind & _MULTIPLE or single not in _SIZES:
            (n_values,) = struct.unpack_from("<I", data, at)
            at += 4
        for _ in range(n_values):
            if single in _SIZES:
                at += _SIZES[single]
                continue
            (n_bytes,) = struct.unpack_from("<I", data, at)
            value = data[at + 4 : at + 4 + n_bytes]
            at += 4 + _padded(n_bytes)
            if single == _UNICODE:
                value = value.decode("utf-16-le", "replace").rstrip("\0").encode("utf-8", "replace")
            elif single == _STRING8:
                value = value.rstrip(b"\0").decode(codepage, "replace").encode()
            elif single not in (_BINARY, _EMBEDDED):
                raise LookupError
            found[number] = value
        if at > len(data):
            raise IndexError
    return found


def _padded(n_bytes: int) -> int:
    return n_bytes + -n_bytes % 4


def _plain_rtf(data: bytes) -> bytes:
    """Decompress RTF ([MS-OXRTFCP]): runs of eight letters or references into the last 4,096 bytes."""
    n_bytes, n_plain, kind = struct.unpack_from("<II4s", data)
    if kind == b"MELA":
        return data[16 : 16 + n_plain]
    window, end = bytearray(_RTF_START), min(n_bytes + 4, len(data))
    at = 16
    while at < end:
        control = data[at]
        at += 1
        for bit in range(8):
            if at >= end:
                break
            if not control >> bit & 1:
                window.append(data[at])
                at += 1
                continue
            reference = int.from_bytes(data[at : at + 2], "big")
            at += 2
            start = len(window) - (len(window) - (reference >> 4)) % 4096
            if start < 0:
                raise IndexError
            if start == len(window):
                at = end  # the mark of the end
                break
            for i in range((reference & 15) + 2):
                window.append(window[start + i])
    return bytes(window[len(_RTF_START) :])
