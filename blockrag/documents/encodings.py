"""Detect the encoding of bytes: by mark, by structure, by what the decoded text would look like."""

import codecs
import re
from itertools import groupby

from blockrag.documents import single_byte
from blockrag.documents.single_byte import Guess

SAMPLE_BYTES = 1 << 20
"""Bytes of a file that a guess is made from."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ESCAPES = ((re.compile(rb"\x1b\$(?:[@B]|\([@BCD])"), "iso2022_jp_2"), (re.compile(rb"\x1b\$\)C"), "iso2022_kr"))
"""Sequences that switch a 7-bit text to a character set of two bytes."""

_LEADS = {
    # preferred name: (decoder, first bytes of punctuation, syllables and the most frequent ideographs)
    "shift_jis": ("cp932", ((0x81, 0x83), (0x88, 0x97))),
    "euc_kr": ("cp949", ((0xA1, 0xA3), (0xB0, 0xC8))),
    "euc_jp": ("euc_jp", ((0xA1, 0xA5), (0xB0, 0xCF))),
    "gbk": ("gb18030", ((0xA1, 0xA3), (0xB0, 0xD7))),
    "big5": ("cp950", ((0xA1, 0xA3), (0xA4, 0xC6))),
}
"""East Asian encodings, each with the region of its table that ordinary text comes from. Of equal scores the first
wins: the region of Korean syllables is the smallest that also lies inside the Japanese and the Chinese one."""

_SAMPLE_CHARS = 4_000
_RUN, _ENCLOSED = re.compile(r"[^\0-\x7f]+"), re.compile(r"(?<=[a-z])[^\0-\x7f]{1,2}(?=[a-z])")
_LONE = re.compile(r"(?:[\0-\x7f]*[^A-Za-z\x80-\U0010ffff])?[\u3041-\ud7a3](?:[^A-Za-z\x80-\U0010ffff][\0-\x7f]*)?")
"""Characters beyond ASCII side by side; and few of them between small Latin letters, where accented letters stand."""
_LEAST_COMMON = 0.7
"""Smallest share of ordinary characters in a text that is really in an encoding of `_LEADS`."""
_TIE = 0.1
_FEW_BYTES, _IS_WORDS = 10, 0.9
"""With at most so many bytes beyond ASCII, text in an encoding of `_LEADS` may as well be words in one of single bytes:
if these score so well, they are."""
_READS = 0.78
"""With more of them, a lower score is enough: East Asian text makes no words of one alphabet."""
_THAI = ("cp874", "tis_620", "iso8859_11")
"""Encodings whose letters are also ordinary pairs of GBK; Chinese does not read as Thai."""
_NULS = 0.4
"""Smallest share of NULs among every other byte of UTF-16 text in a Latin script."""


def marked(data: bytes) -> str:
    """The encoding that the bytes themselves tell: a byte order mark, the escapes of ISO-2022, or the NULs of UTF-16
    and UTF-32. Empty if they tell none."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    return _escaped(data) or (_wide(data) if b"\0" in data[:SAMPLE_BYTES] else "")


def guess(sample: bytes) -> Guess | None:
    """The likeliest encoding of bytes that are not UTF-8, or None if none fits."""
    wide = _guess_east_asian(sample)
    narrow = single_byte.guess(sample)
    if wide and sum(byte > 0x7F for byte in sample[:_SAMPLE_CHARS]) > _FEW_BYTES:
        is_thai = narrow is not None and narrow.encoding in _THAI and narrow.score >= _LEAST_COMMON
        is_thai_or_words = is_thai or (narrow is not None and narrow.encoding not in _THAI and narrow.score >= _READS)
        return Guess(narrow.encoding, (wide.encoding, *narrow.others)) if narrow and is_thai_or_words else wide
    if wide is None and narrow is not None:
        return Guess(narrow.encoding, (*_alone(sample), *narrow.others))
    if wide is None or narrow is None:
        return wide or narrow
    if narrow.score >= _IS_WORDS:
        return Guess(narrow.encoding, (wide.encoding, *wide.others, *narrow.others))
    return Guess(wide.encoding, (*wide.others, narrow.encoding) if narrow.score >= _LEAST_COMMON else wide.others)


def _alone(sample: bytes) -> tuple[str, ...]:
    """Encodings of `_LEADS` in which the only bytes beyond ASCII are one character that stands alone."""
    texts = {name: sample.decode(decoder) for name, (decoder, _) in _LEADS.items() if _decodes(sample, decoder)}
    return tuple(name for name, text in texts.items() if _LONE.fullmatch(text))


def same_text(sample: bytes, one: str, other: str) -> bool:
    """Whether both encodings make the same text of `sample`."""
    try:
        return sample.decode(one) == sample.decode(other)
    except (UnicodeDecodeError, LookupError):
        return False


def _escaped(data: bytes) -> str:
    for escape, encoding in _ESCAPES:
        if escape.search(data) and _decodes(data, encoding):
            return "iso2022_jp" if encoding == "iso2022_jp_2" and _decodes(data, "iso2022_jp") else encoding
    return ""


def _wide(data: bytes) -> str:
    """UTF-16 or UTF-32 without a mark, if the bytes are that."""
    sample = data[: SAMPLE_BYTES // 4 * 4]
    if len(data) % 4 == 0:
        for encoding in ("utf-32-le", "utf-32-be"):  # four bytes are hardly ever a character by chance
            if _decodes(sample, encoding):
                return encoding
    if len(data) % 2:
        return ""
    half = max(1, len(sample) // 2)
    even, odd = sample[::2].count(0) / half, sample[1::2].count(0) / half
    for encoding, most, least in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        is_latin = most >= _NULS and least <= most / 20
        if most and _decodes(sample, encoding) and (is_latin or _is_wide_script(sample.decode(encoding))):
            return encoding
    return ""


def _is_wide_script(text: str) -> bool:
    """Whether `text` reads as one script with white space and punctuation, as chance pairs of bytes do not."""
    visible = [c for c in text[:_SAMPLE_CHARS] if not c.isspace()]
    has_space = any(c in " \n\r" for c in text)
    blocks = {ord(c) >> 8 for c in visible if ord(c) > 0x7F}
    ideographs = sum(0x4E00 <= ord(c) <= 0x9FA5 or 0x3000 <= ord(c) <= 0x30FF or 0xFF00 <= ord(c) for c in visible)
    hangul = sum(0xAC00 <= ord(c) <= 0xD7A3 for c in visible)
    is_printable = all(c.isprintable() for c in visible)
    return is_printable and has_space and (len(blocks) <= 3 or max(ideographs, hangul) > 0.8 * len(visible))


def _guess_east_asian(sample: bytes) -> Guess | None:
    scores = {name: _commonness(sample, decoder, leads) for name, (decoder, leads) in _LEADS.items()}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] < _LEAST_COMMON:
        return None
    others = tuple(name for name, score in scores.items() if name != best and score >= scores[best] - _TIE)
    return Guess(_narrowest(sample, best), others)


def _narrowest(sample: bytes, name: str) -> str:
    """The standard's own name if the bytes need no vendor's extension."""
    decoder = _LEADS[name][0]
    return name if same_text(sample, name, decoder) else decoder


def _commonness(sample: bytes, decoder: str, leads: tuple[tuple[int, int], ...]) -> float:
    """Share of ordinary characters among those beyond ASCII; 0 if the bytes are not in this encoding, or if these
    characters stand alone between Latin letters, as accented ones do."""
    try:
        text = sample.decode(decoder)
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 4 or len(sample) < SAMPLE_BYTES // 2:  # else the sample ends in half a character
            return 0.0
        text = sample[: error.start].decode(decoder)
    first = next((i for i, c in enumerate(text) if ord(c) > 0x7F), 0)
    if len(_ENCLOSED.findall(text)) > 0.3 * len(_RUN.findall(text)):
        return 0.0
    runs = ["".join(run) for is_wide, run in groupby(text[first : first + _SAMPLE_CHARS], _is_wide) if is_wide]
    wide = "".join(runs)
    if not wide or 2 * sum(len(run) for run in runs if len(run) > 1) < len(wide):
        return 0.0
    firsts = [c.encode(decoder)[0] if len(c.encode(decoder)) == 2 else 0 for c in wide]
    return sum(any(low <= byte <= high for low, high in leads) for byte in firsts) / len(firsts)


def _is_wide(character: str) -> bool:
    return ord(character) > 0x7F


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
