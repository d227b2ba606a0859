"""Finds where a block may begin: at lines and at sentences, and never inside a grapheme."""

import re
from collections.abc import Iterator

import numpy as np
import regex

_LINE_END = r"\n\r\f\v\x1c-\x1e\x85\u2028\u2029"
_CLOSERS = r"[\"'”’»›)\]}）】」』》*_]{0,6}(?:\[\d{1,4}\])?"  # may end with a footnote's number
_BREAK = re.compile(
    rf"[{_LINE_END}]\s*"
    rf"|(?P<stop>[.!?…])(?P<closers>{_CLOSERS})[^\S{_LINE_END}]+(?=\S)"
    rf"|[。！？｡．؟۔।॥።։။។]+{_CLOSERS}\s*"  # needs no space after it
    r"|[\u0f0d-\u0f14][\u0f0d-\u0f14\s]*"  # Tibetan; often two with a space between
)
_WORD_CHARS = 24  # longest word looked at before a full stop

_NEVER_LAST = frozenset(
    "mr mrs ms messrs dr prof st rev hon gen col lt sgt capt cmdr adm maj sen rep gov pres jr sr mt fig figs"
    " eq eqs vs cf al approx viz resp ca".split()
)
_BEFORE_NUMBER = frozenset(
    "no nos nr sec secs art arts ch chap vol vols p pp pt par para ex app ver v tab ref refs"
    " jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
_GOES_ON = re.compile(r"[\u3041-\u3096、，]")
_GRAPHEME = regex.compile(r"\X")
_WORD = re.compile(r"[^\s(\[{\"'“‘«—–]*\Z")
_LIST_MARKER = re.compile(rf"(?:\A|[{_LINE_END}])[\s>#*+\-]*\(?(?:[\d.]+|[A-Za-z]|[ivxIVX]+)\Z")


def find_candidates(text: str) -> np.ndarray:
    """Offsets at which a block may begin: the starts of lines and of sentences.

    Turns of speech, list items and definitions begin lines, so they are included. A candidate is the first visible
    character after white space, which belongs to the block before; scripts without spaces are cut directly after their
    full stop. No candidate is inside a grapheme.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    np.ndarray
        int64 ``(candidates,)``, strictly increasing, each above 0 and below ``len(text)``.
    """
    first = len(text) - len(text.lstrip())
    return np.fromiter((char for char in _breaks(text) if first < char < len(text)), np.int64)


def is_grapheme_boundary(text: str, char: int) -> bool:
    """Whether `text` may be cut before the character at offset `char`: not inside an extended grapheme cluster
    (Unicode Standard Annex 29)."""
    if not 0 < char < len(text):
        return True
    return _GRAPHEME.match(text, char - 1, char + 1).end() == char


def _breaks(text: str) -> Iterator[int]:
    """Ends of all breaks, in order; the last may be the end of the text."""
    for found in _BREAK.finditer(text):
        if found["stop"] and not _ends_sentence(text, found):
            continue
        if found[0][-1] in "」』" and _GOES_ON.match(text, found.end()):
            continue  # 「…。」と言った: the sentence goes on behind the quotation
        if is_grapheme_boundary(text, found.end()):
            yield found.end()


def _ends_sentence(text: str, found: re.Match[str]) -> bool:
    """Whether a stop before white space ends a sentence, rather than an abbreviation or a list marker."""
    following = text[found.end()]
    if following.islower() and (found["stop"] in ".…" or found["closers"]):
        return False  # an abbreviation, or quoted speech inside a sentence
    if found["stop"] != "." or found["closers"]:
        return True
    before = text[max(0, found.start() - _WORD_CHARS) : found.start()]
    word = _WORD.search(before)[0].lower()  # type: ignore[index]  # matches the empty word at least
    if _is_abbreviation(word, following):
        return False
    return not _LIST_MARKER.search(before)


def _is_abbreviation(word: str, following: str) -> bool:
    """Whether `word`, lower case and without its full stop, is an abbreviation before `following`."""
    if word in _BEFORE_NUMBER:
        return following.isdigit()
    is_initial = len(word) == 1 and word.isalpha() and word.isascii()
    has_inner_stops = re.fullmatch(r"[a-z]{1,2}(?:\.[a-z]{1,2})+", word) is not None  # e.g, U.S, Ph.D
    return word in _NEVER_LAST or is_initial or has_inner_stops
