"""Turns text and candidates into tokens with a marker at every candidate, in overlapping windows."""

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from tokenizers import Tokenizer

HEAD, TAIL = 48, 16
"""Tokens kept of the beginning and of the end of a piece; the middle of a long piece does not matter."""

N_CASES = 3
"""Cases of a token: without a capital, beginning with one, all capitals."""

_GAPS = 5
"""Before a candidate: no line end, one, a blank line, several, a page break."""
_INDENTS = (1, 3, 5, 9)
"""Least columns of each depth of indentation after the first; a tab is four."""
FIRST_MARKER = 1
"""Id of the first of BERT's unused tokens: the markers, which tell a candidate's gap and indentation."""
N_DEPTHS = len(_INDENTS) + 1
"""Depths of indentation; a marker's number is gap * N_DEPTHS + depth."""
N_MARKERS = _GAPS * N_DEPTHS

_PIECES_AT_ONCE = 4096

PAD, CLS, SEP = 0, 101, 102
"""BERT's ids."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Tokens of one text, with a marker before each piece between two candidates.

    Attributes
    ----------
    ids : np.ndarray
        int32 ``(tokens,)``.
    cases : np.ndarray
        uint8 ``(tokens,)``, below `N_CASES`.
    markers : np.ndarray
        int64 ``(candidates + 1,)``, positions in `ids`; the first is at the text's beginning.
    """

    ids: np.ndarray
    cases: np.ndarray
    markers: np.ndarray

    def crop(self, first: int, stop: int) -> "Encoded":
        """Only pieces ``[first, stop)``; piece `first` is then the beginning."""
        begin = int(self.markers[first])
        end = int(self.markers[stop]) if stop < len(self.markers) else len(self.ids)
        return Encoded(self.ids[begin:end], self.cases[begin:end], self.markers[first:stop] - begin)


def encode(text: str, candidates: np.ndarray, tokenizer: Tokenizer) -> Encoded:
    """Tokenise `text` piece by piece.

    Parameters
    ----------
    text : str
        The whole text.
    candidates : np.ndarray
        int64 ``(candidates,)`` from `find_candidates`.
    tokenizer : Tokenizer
        A BERT word-piece tokenizer that neither pads nor truncates.
    """
    edges = [0, *candidates.tolist(), len(text)]
    spans = list(pairwise(edges))
    found: list[Encoded] = []
    for i in range(0, len(spans), _PIECES_AT_ONCE):
        found.append(_encode_pieces(text, spans[i : i + _PIECES_AT_ONCE], tokenizer))
    return join(found)


def join(parts: list[Encoded]) -> Encoded:
    """Concatenate encoded texts."""
    ends = np.cumsum([0, *(len(part.ids) for part in parts)])
    columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Encoded)}
    columns["markers"] = [part.markers + end for part, end in zip(parts, ends, strict=False)]
    return Encoded(**{name: np.concatenate(values) for name, values in columns.items()})


def _encode_pieces(text: str, spans: list[tuple[int, int]], tokenizer: Tokenizer) -> Encoded:
    pieces = [text[start:end] for start, end in spans]
    ids: list[int] = []
    cases: list[int] = []
    markers = []
    for (start, _), piece, encoding in zip(
        spans, pieces, tokenizer.encode_batch(pieces, add_special_tokens=False), strict=True
    ):
        kept, offsets = _shorten(encoding.ids), _shorten(encoding.offsets)
        markers.append(len(ids))
        ids += [marker(text, start), *kept]
        cases += [0, *(_case(piece[a:b]) for a, b in offsets)]
    return Encoded(np.array(ids, np.int32), np.array(cases, np.uint8), np.array(markers, np.int64))


def _shorten(values: list) -> list:
    return values if len(values) <= HEAD + TAIL else values[:HEAD] + values[-TAIL:]


def _case(word: str) -> int:
    return 0 if not word[:1].isupper() else 2 if len(word) > 1 and word.isupper() else 1


def marker(text: str, char: int) -> int:
    """Id of the marker of a candidate at `char`, which tells the white space before it."""
    gap = text[len(text[max(0, char - 256) : char].rstrip()) + max(0, char - 256) : char]
    if "\f" in gap:
        lines = 4
    else:
        lines = min(3, max(gap.count("\n"), gap.count("\r")))
    indent = gap[max(gap.rfind("\n"), gap.rfind("\r")) + 1 :].expandtabs(4) if lines else ""
    depth = sum(len(indent) >= least for least in _INDENTS)
    return FIRST_MARKER + lines * N_DEPTHS + depth


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows over one text.

    Attributes
    ----------
    ids, cases : np.ndarray
        int64 ``(windows, size)``; each row begins with CLS, ends with SEP, and is padded where the text is short.
    rows, columns : np.ndarray
        int64 ``(markers,)``: window and column in which each marker is read.
    """

    ids: np.ndarray
    cases: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


def lay(encoded: Encoded, size: int, overlap: int) -> Windows:
    """Windows of `size` tokens, neighbours sharing `overlap`; a marker is read in the window whose middle is nearest.

    So at least ``overlap / 2`` tokens are visible on both sides of every marker, except at the ends of the text.
    """
    room, n_tokens = size - 2, len(encoded.ids)
    step = room - overlap
    n_windows = 1 + max(0, -(-(n_tokens - room) // step))
    size = min(size, n_tokens + 2)
    starts = np.arange(n_windows) * step
    starts[-1] = max(0, n_tokens - room)  # the last one is full
    index = starts[:, None] + np.arange(size - 2)
    ids = np.full((n_windows, size), CLS, np.int64)
    ids[:, 1:-1] = encoded.ids[index]
    ids[:, -1] = SEP
    cases = np.zeros_like(ids)
    cases[:, 1:-1] = encoded.cases[index]
    rows = _nearest(starts + (size - 2) / 2, encoded.markers)
    return Windows(ids, cases, rows, encoded.markers - starts[rows] + 1)


def _nearest(middles: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Index of the middle nearest to each position; middles increase."""
    return np.searchsorted((middles[1:] + middles[:-1]) / 2, positions, "right")
