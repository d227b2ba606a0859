"""The text of an HTML page: its encoding by mark, by declaration as browsers take it (WHATWG Encoding), or by guess."""

import codecs
import re

from blockrag.documents.document import Content
from blockrag.documents.encodings import marked, same_text
from blockrag.documents.text import cleaned, decode_content

_HEAD_BYTES = 1 << 16
_DECLARED = re.compile(
    rb"""<meta\s[^>]*?charset\s*=\s*["']?\s*([\w:.+-]+)|<\?xml\s[^>]*?encoding\s*=\s*["']([\w:.+-]+)""", re.IGNORECASE
)
_NO_MARKUP = re.compile(rb"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1|\Z)", re.DOTALL | re.IGNORECASE)
_LABELS = {
    **dict.fromkeys(
        "ascii us-ascii iso-8859-1 iso8859-1 iso88591 iso_8859-1 latin1 l1 cp819 ibm819 iso-ir-100 csisolatin1 cp1252 "
        "windows-1252 x-cp1252 ansi_x3.4-1968 x-user-defined".split(),
        "cp1252",
    ),
    **dict.fromkeys(
        "gb2312 gb_2312 gb_2312-80 gbk x-gbk gb18030 chinese csgb2312 iso-ir-58 csiso58gb231280".split(), "gb18030"
    ),
    **dict.fromkeys(
        "shift_jis shift-jis sjis x-sjis ms_kanji ms932 csshiftjis windows-31j windows-932".split(), "cp932"
    ),
    **dict.fromkeys(
        "euc-kr korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 cseuckr iso-ir-149 windows-949".split(), "cp949"
    ),
    **dict.fromkeys("big5 big5-hkscs cn-big5 csbig5 x-x-big5".split(), "big5hkscs"),
    **dict.fromkeys("iso-8859-9 iso8859-9 iso88599 latin5 l5 windows-1254 x-cp1254 cp1254".split(), "cp1254"),
    **dict.fromkeys("iso-8859-11 iso8859-11 tis-620 dos-874 windows-874".split(), "cp874"),
    **dict.fromkeys("iso-8859-8-i iso-8859-8-e logical visual hebrew".split(), "iso8859_8"),
    **dict.fromkeys("koi koi8 koi8-r koi8_r cskoi8r".split(), "koi8_r"),
    **dict.fromkeys("koi8-u koi8-ru".split(), "koi8_u"),
    **dict.fromkeys("macintosh mac x-mac-roman csmacintosh".split(), "mac_roman"),
    **dict.fromkeys("x-mac-cyrillic x-mac-ukrainian".split(), "mac_cyrillic"),
    **dict.fromkeys("x-euc-jp euc-jp cseucpkdfmtjapanese".split(), "euc_jp"),
    **dict.fromkeys("866 ibm866 cp866 csibm866".split(), "cp866"),
    **dict.fromkeys("iso-8859-6-e iso-8859-6-i".split(), "iso8859_6"),
    **dict.fromkeys("csisolatin6 l6 latin6 iso-ir-157".split(), "iso8859_10"),
    **dict.fromkeys("csisolatin9 l9 latin9 iso-ir-203".split(), "iso8859_15"),
    **{f"csisolatin{number}": f"iso8859_{number}" for number in (2, 3, 4)},
    "csisolatincyrillic": "iso8859_5", "csisolatinarabic": "iso8859_6", "csisolatingreek": "iso8859_7",
    "csisolatinhebrew": "iso8859_8", "sun_eu_greek": "iso8859_7", "elot_928": "iso8859_7", "ecma-114": "iso8859_6",
    "asmo-708": "iso8859_6", "ecma-118": "iso8859_7", "csisolatin5": "cp1254", "csiso88596e": "iso8859_6",
    "csiso88596i": "iso8859_6", "csiso88598e": "iso8859_8", "csiso88598i": "iso8859_8",
    "csiso2022jp": "iso2022_jp", "csbig5": "big5hkscs",
    **{f"x-cp{number}": f"cp{number}" for number in range(1250, 1259)},
    **dict.fromkeys(
        "utf-8 utf8 unicode-1-1-utf-8 unicode11utf8 unicode20utf8 x-unicode20utf8 csunicode utf-16 "
        "utf-16le utf-16be utf-7 unicode".split(),
        "utf-8",
    ),
}  # fmt: skip
"""Python's codec for labels that browsers take otherwise than Python does. A page whose bytes are ASCII up to its
declaration cannot be UTF-16, whatever it declares."""
_MAX_DAMAGE = 0.001
"""Largest share of characters that may be damaged in a page read in the encoding that it declares."""


def page_text(name: str, data: bytes) -> Content:
    """Decode a page.

    A byte order mark comes first, then the declaration, then what the bytes suggest. If the bytes
    contradict the declaration, a note says so.

    Raises
    ------
    DocumentError
        If the bytes are not text, or their encoding cannot be determined.
    """
    label, encoding = _declared(data)
    if not encoding or marked(data):
        return decode_content(name, data)
    if encoding != "utf-8" and not data.isascii() and same_text(data, "utf-8", "utf-8"):
        content = decode_content(name, data)
        return Content(content.text, content.encoding, (*content.notes, _contradiction(label, "utf-8")))
    text = data.decode(encoding, "replace")
    n_damaged = text.count("\ufffd")
    if n_damaged > max(1, _MAX_DAMAGE * len(text)):
        content = decode_content(name, data)
        return Content(content.text, content.encoding, (*content.notes, _contradiction(label, content.encoding)))
    content = cleaned(name, text)
    damage = (f"{n_damaged:,} characters are damaged.",) if n_damaged else ()
    return Content(content.text, encoding, (*content.notes, *damage))


def _contradiction(label: str, encoding: str) -> str:
    return f"The page declares {label}, but is in {encoding}."


def _declared(data: bytes) -> tuple[str, str]:
    """The label that the page declares, and Python's name of the encoding that browsers take it for; empty if none."""
    found = _DECLARED.search(_NO_MARKUP.sub(b"", data[:_HEAD_BYTES]))
    if not found:
        return "", ""
    label = (found[1] or found[2]).decode("ascii").lower()
    return label, codec_of(label)


def codec_of(label: str) -> str:
    """Python's name of the encoding that browsers take a label for; empty if there is none."""
    label = label.strip().lower()
    iso = re.fullmatch(r"(?:cs)?iso[-_]?(?:8859|ir)[-_]?(\d{1,3})(?::19\d\d)?", label)
    if iso and "8859" in label and label not in _LABELS:
        label = f"iso-8859-{iso[1]}"
    encoding = _LABELS.get(label, label)
    try:
        return encoding if codecs.lookup(encoding)._is_text_encoding else ""
    except LookupError:
        return ""
