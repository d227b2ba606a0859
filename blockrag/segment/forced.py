"""Where to cut a span that the maximum forces apart: at a line, a sentence, a clause, a word, a character."""

import re
from collections.abc import Iterable, Iterator

import numpy as np

from blockrag.segment.candidates import find_candidates, is_grapheme_boundary

_REACH_SHARE = 4
"""A line, a sentence or a clause is looked for in the middle half of the span: a quarter to each side."""
_REACH_CHARS = 128
"""How far from the middle a word or a character is looked for."""

_MOST = 2 * _REACH_CHARS
"""Offsets of each kind that are tried."""

_CLAUSE = re.compile(
    r"[;；，、︔﹔；][\"'”’」』）)]*\s*(?=\S)|(?<=[}\])\"],)\s*(?=\S)|[」』》】]\s*(?=\S)|\s(?=\([a-z0-9ivx]{1,4}\)\s)"
)
_COMMA = re.compile(r"[,:،][\"'”’)]*\s+(?=\S)")
_TSHEG = "\u0f0b\u0f0c"
"""Ends a syllable in Tibetan, which has no spaces between words."""


def forced_cuts(text: str, start: int, end: int, middle: int) -> Iterator[int]:
    """Offsets inside a span, the best first: starts of lines, of sentences, of clauses, of words, of graphemes, then
    any; of each kind the one nearest to the middle first.

    Parameters
    ----------
    text : str
        The whole text.
    start, end, middle : int
        The span, and its middle by tokens.
    """
    reach = max(_REACH_CHARS, (end - start) // _REACH_SHARE)
    low, high = max(start + 1, middle - reach), min(end, middle + reach)
    marks = find_candidates(text[low - 1 : high]) + low - 1
    at_line = np.fromiter((_begins_line(text, char) for char in marks.tolist()), bool, len(marks))
    yield from _outward(marks[at_line].tolist(), middle)
    yield from _outward(marks[~at_line].tolist(), middle)
    for pattern in (_CLAUSE, _COMMA):
        found = (match.end() for match in pattern.finditer(text, low, high))
        yield from (char for char in _outward(found, middle) if low <= char < high and is_grapheme_boundary(text, char))
    near = _outward(range(max(start + 1, middle - _REACH_CHARS), min(end, middle + _REACH_CHARS)), middle)
    yield from (char for char in near if _begins_word(text, char))
    yield from (char for char in near if is_grapheme_boundary(text, char))
    yield from near


def _outward(chars: Iterable[int], middle: int) -> list[int]:
    return sorted(chars, key=lambda char: abs(char - middle))[:_MOST]


def _begins_line(text: str, char: int) -> bool:
    before = char - 1
    while before > 0 and text[before] in " \t":
        before -= 1
    return text[before] in "\n\r\f\v\x85\u2028\u2029"


def _begins_word(text: str, char: int) -> bool:
    """Whether a visible character stands at `char` after white space or at the end of a Tibetan syllable."""
    is_after = text[char - 1].isspace() or text[char - 1] in _TSHEG
    return is_after and not text[char].isspace() and is_grapheme_boundary(text, char)
