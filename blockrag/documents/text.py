"""Bytes -> text, and nothing lost: encodings, newlines. Knows no structure."""

import codecs

from charset_normalizer import from_bytes

from blockrag.errors import DocumentError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 1 << 20
_SIBLINGS = {"cp1250", "cp1254", "cp1257", "cp1258", "iso8859_2", "iso8859_9", "iso8859_15", "latin_1", "mac_roman"}
"""Fit texts of Windows-1252 as well as itself, which is by far the most common of them."""
_CONTROLS = dict.fromkeys(c for c in range(32) if chr(c) not in "\t\n\r\f\x1b")


def decode(name: str, data: bytes) -> str:
    """Text of `data`: by its byte order mark, as UTF-8, or in the encoding that its bytes suggest.

    Newlines become ``\\n``; nothing else is changed, and no byte is replaced.

    Raises
    ------
    DocumentError
        If the bytes are no text.
    """
    text = _decode(name, data)
    controls = sum(text.count(chr(c)) for c in _CONTROLS)
    if controls > len(text) / 100:
        raise DocumentError(name, "the content is binary, not text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode(name: str, data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _strictly(name, data, encoding)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if b"\0" in data[:_SAMPLE]:
        raise DocumentError(name, "the content is binary, not text")
    best = from_bytes(data[:_SAMPLE]).best()
    if best is None:
        raise DocumentError(name, "its encoding is not known; save it as UTF-8")
    if best.encoding in _SIBLINGS:
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError:
            pass
    return _strictly(name, data, best.encoding)


def _strictly(name: str, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DocumentError(name, f"it seems to be {encoding}, but is not so throughout; save it as UTF-8") from error
