"""Decode bytes to text without loss: encodings, newlines, length."""

import codecs

from charset_normalizer import from_bytes

from blockrag.documents.document import Content, Limits
from blockrag.errors import DocumentError

MAX_CONTROLS = 0.01
"""Largest share of control characters in text."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_BYTES = 1 << 20
_CONTROLS = [chr(c) for c in range(32) if chr(c) not in "\t\n\r\f\x1b"]


def read(name: str, data: bytes, limits: Limits) -> Content:
    """The decoded text, unchanged."""
    return Content(decode(name, data))


def decode(name: str, data: bytes) -> str:
    """Decode by byte order mark, as UTF-8, or in the encoding that the bytes suggest.

    Newlines become ``\\n``; nothing else is changed or replaced.

    Raises
    ------
    DocumentError
        If the bytes are not text, or their encoding cannot be determined.
    """
    text = _decode(name, data)
    if sum(map(text.count, _CONTROLS)) > MAX_CONTROLS * len(text):
        raise _binary(name)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_length(name: str, text: str, limits: Limits) -> None:
    """Refuse a text longer than `limits` allow.

    Raises
    ------
    DocumentError
        With the length and the limit.
    """
    if len(text) > limits.max_chars:
        reason = f"{len(text):,} characters of text; at most {limits.max_chars:,} are allowed; split it"
        raise DocumentError(name, reason)


def _decode(name: str, data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _strictly(name, data, encoding)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        sample = _sample(data, error.start)
        if b"\0" in sample:
            raise _binary(name) from error
        if _is_damaged_utf8(sample):
            reason = (
                f"it is UTF-8 with a damaged character at byte {error.start:,}; repair it, or save it again as UTF-8"
            )
            raise DocumentError(name, reason) from error
    return _strictly(name, data, _guess(name, sample))


def _sample(data: bytes, start: int) -> bytes:
    """Whole lines from byte `start` on, the first that is not UTF-8; all of short data."""
    if len(data) <= _SAMPLE_BYTES:
        return data
    begin = data.rfind(b"\n", 0, start) + 1
    end = data.rfind(b"\n", begin, begin + _SAMPLE_BYTES)
    return data[begin : end if end > start else begin + _SAMPLE_BYTES]


def _is_damaged_utf8(sample: bytes) -> bool:
    """Whether most characters beyond ASCII are valid UTF-8, which does not happen by chance in another encoding."""
    text = sample.decode("utf-8", "replace")
    n_damaged = text.count("\ufffd")
    return len(text) - len(text.encode("ascii", "ignore")) > 10 * n_damaged


def _guess(name: str, sample: bytes) -> str:
    """The most likely encoding; the most common one of equally likely ones."""
    matches = from_bytes(sample)
    best = matches.best()
    if best is None:
        raise DocumentError(name, "its encoding is unknown; save it as UTF-8")
    common = "cp1254" if best.language == "Turkish" else "cp1252"
    tied = [m for m in matches if (m.chaos, m.coherence) == (best.chaos, best.coherence)]
    return common if any(common in match.could_be_from_charset for match in tied) else best.encoding


def _strictly(name: str, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DocumentError(name, f"it seems to be {encoding}, but not all of it is; save it as UTF-8") from error


def _binary(name: str) -> DocumentError:
    return DocumentError(name, "the content is binary, not text")
