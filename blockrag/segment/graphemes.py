"""Where a text may be cut without breaking what a reader sees as one character. Knows no words."""

import unicodedata

_ZERO_WIDTH_JOINER = "\u200d"
_VIRAMA = 9  # canonical combining class of the marks that join two consonants into one letter


# Joiners, Thai and Lao AM, half-width voicing marks; skin tones; tags of regional flags.
_EXTENDING = frozenset("\u200c\u200d\u0e33\u0eb3\uff9e\uff9f").union(
    map(chr, (*range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080)))
)
# Signs written before the number or letter that they belong to.
_PREPENDED = frozenset("\u06dd\u070f\u0890\u0891\u08e2\u0d4e").union(
    map(chr, (*range(0x0600, 0x0606), 0x110BD, 0x110CD, 0x111C2, 0x111C3, 0x1193F, 0x11941, 0x11A3A)),
    map(chr, (*range(0x11A84, 0x11A8A), 0x11D46)),
)
_FLAG_HALVES = frozenset(map(chr, range(0x1F1E6, 0x1F200)))
# Hangul syllable types, and those that go on with the same syllable (rules GB6 to GB8).
_HANGUL_JOINS = {
    "L": ("L", "V", "LV", "LVT"),
    "LV": ("V", "T"),
    "V": ("V", "T"),
    "LVT": ("T",),
    "T": ("T",),
    "": (),
}


def is_grapheme_boundary(text: str, char: int) -> bool:
    """Whether `text` may be cut before the character at offset `char`.

    Never true inside an extended grapheme cluster (Unicode Standard Annex 29); false in a few places where
    the annex would allow a cut (after any joiner or virama, before any combining mark), which costs nothing
    here.
    """
    if not 0 < char < len(text):
        return True
    before, after = text[char - 1], text[char]
    if before.isascii() and after.isascii():
        return (before, after) != ("\r", "\n")
    if _is_extending(after) or before == _ZERO_WIDTH_JOINER or before in _PREPENDED or _ends_in_virama(text, char):
        return False
    if before in _FLAG_HALVES and after in _FLAG_HALVES:
        return _n_flag_halves_before(text, char) % 2 == 0
    return _hangul(after) not in _HANGUL_JOINS[_hangul(before)]


def _is_extending(c: str) -> bool:
    return c in _EXTENDING or unicodedata.category(c).startswith("M")


def _ends_in_virama(text: str, char: int) -> bool:
    """Whether a virama is among the marks right before `char`."""
    start = char
    while start and _is_extending(text[start - 1]):
        start -= 1
        if unicodedata.combining(text[start]) == _VIRAMA:
            return True
    return False


def _n_flag_halves_before(text: str, char: int) -> int:
    start = char
    while start and text[start - 1] in _FLAG_HALVES:
        start -= 1
    return char - start


def _hangul(c: str) -> str:
    """Hangul syllable type of `c`; empty for any other character."""
    if "\uac00" <= c <= "\ud7a3":
        return "LVT" if (ord(c) - 0xAC00) % 28 else "LV"
    if "\u1100" <= c <= "\u115f" or "\ua960" <= c <= "\ua97c":
        return "L"
    if "\u1160" <= c <= "\u11a7" or "\ud7b0" <= c <= "\ud7c6":
        return "V"
    return "T" if "\u11a8" <= c <= "\u11ff" or "\ud7cb" <= c <= "\ud7fb" else ""
