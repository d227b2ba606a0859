"""Decode bytes to text: encodings, line breaks, characters that no text holds, length."""

import codecs
import re

from blockrag.documents.document import Content, Limits
from blockrag.documents.encodings import SAMPLE_BYTES, guess, marked
from blockrag.documents.single_byte import Guess
from blockrag.errors import DocumentError

MAX_CONTROLS = 0.01
"""Largest share of control characters in text."""
MAX_NULS = 0.1
_MAX_OTHERS = 8
"""Largest share of NULs that are left out; with more of them, the file is binary."""

_CONTROLS = [chr(c) for c in range(1, 32) if chr(c) not in "\t\n\r\f\v\x1b"]
_LINE_BREAKS = re.compile("\r\n?|\v")


def read(name: str, data: bytes, limits: Limits) -> Content:
    """The decoded text."""
    return decode_content(name, data)


def decode(name: str, data: bytes) -> str:
    """The text alone; see `decode_content`."""
    return decode_content(name, data).text


def decode_content(name: str, data: bytes) -> Content:
    """Decode by byte order mark, as UTF-8, or in the encoding that the bytes suggest.

    Line ends and vertical tabs become ``\\n``, and NULs are left out; nothing else is changed or replaced.

    Raises
    ------
    DocumentError
        If the bytes are not text, or their encoding cannot be determined.
    """
    found = _detect(name, data)
    content = cleaned(name, _strictly(name, data, found.encoding))
    notes = content.notes if not found.others else (*content.notes, _tie(found))
    return Content(content.text, found.encoding.removesuffix("-sig"), notes)


def decode_as(name: str, data: bytes, encoding: str) -> str:
    """Decode in an encoding that the user names.

    Raises
    ------
    DocumentError
        If there is no such encoding, or the bytes are not in it.
    """
    try:
        is_text = codecs.lookup(encoding)._is_text_encoding
    except LookupError:
        is_text = False
    if not is_text:
        raise DocumentError(
            name, f"there is no text encoding {encoding!r}; give one such as utf-8, cp1252 or shift_jis"
        )
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        where = f" at byte {error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
        raise DocumentError(name, f"it is not {encoding}{where}; leave the encoding out to have it found") from error


def cleaned(name: str, text: str) -> Content:
    """`text` with ``\\n`` as its line break and without NULs.

    Raises
    ------
    DocumentError
        If it has too many control characters to be text.
    """
    n_nuls, n_chars = text.count("\0"), len(text)
    if sum(map(text.count, _CONTROLS)) > MAX_CONTROLS * n_chars or n_nuls > MAX_NULS * n_chars:
        raise DocumentError(name, "the content is binary, not text")
    notes = (f"{n_nuls:,} NUL characters were left out.",) if n_nuls else ()
    return Content(with_line_breaks(text), notes=notes)


def with_line_breaks(text: str) -> str:
    """`text` without NULs, with ``\\n`` for every ``\\r\\n``, ``\\r`` and vertical tab, which JSON may hold escaped."""
    return _LINE_BREAKS.sub("\n", text.replace("\0", ""))


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


def _detect(name: str, data: bytes) -> Guess:
    told = marked(data)
    if told:
        return Guess(told)
    try:
        data.decode("utf-8")
        return Guess("utf-8")
    except UnicodeDecodeError as error:
        sample = _sample(data, error.start)
        if sample.count(0) > MAX_NULS * len(sample):
            raise DocumentError(name, "the content is binary, not text") from error
        if _is_damaged_utf8(sample):
            reason = (
                f"it is UTF-8 with a damaged character at byte {error.start:,}; repair it, or save it again as UTF-8"
            )
            raise DocumentError(name, reason) from error
    found = guess(sample)
    if found is None:
        if b"\0" in sample:
            raise DocumentError(name, "the content is binary, not text")
        raise DocumentError(name, "its encoding is unknown; save it as UTF-8, or name its encoding (--encoding)")
    return found


def _tie(found: Guess) -> str:
    others = ", ".join(found.others[:_MAX_OTHERS])
    if len(found.others) > _MAX_OTHERS:
        others += f" and {len(found.others) - _MAX_OTHERS} more"
    return (
        f"The encoding {found.encoding} is a guess: {others} would fit as well. If characters look wrong, name the "
        "encoding (--encoding)."
    )


def _sample(data: bytes, start: int) -> bytes:
    """Whole lines from byte `start` on, the first that is not UTF-8; all of short data."""
    if len(data) <= SAMPLE_BYTES:
        return data
    begin = data.rfind(b"\n", 0, start) + 1
    end = data.rfind(b"\n", begin, begin + SAMPLE_BYTES)
    return data[begin : end if end > start else begin + SAMPLE_BYTES]


def _is_damaged_utf8(sample: bytes) -> bool:
    """Whether most characters beyond ASCII are valid UTF-8, which does not happen by chance in another encoding."""
    text = sample.decode("utf-8", "replace")
    n_damaged = text.count("\ufffd")
    return len(text) - len(text.encode("ascii", "ignore")) > 10 * n_damaged


def _strictly(name: str, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DocumentError(name, f"it seems to be {encoding}, but not all of it is; save it as UTF-8") from error
