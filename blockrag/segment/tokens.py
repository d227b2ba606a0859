"""Counts the tokens of a text."""

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from blockrag.errors import SegmentationError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PIECE_CHARS = 1 << 16
_PIECES_AT_ONCE = 16


class TokenCounter(Protocol):
    """Measures the size of blocks."""

    def starts(self, text: str) -> np.ndarray:
        """Estimate of the offsets at which the tokens of the whole text begin. Needs little memory beside the result.

        Returns
        -------
        np.ndarray
            int64 ``(tokens,)``, character offsets, not decreasing.
        """

    def count(self, text: str) -> int:
        """Tokens of `text` tokenised alone: exact."""


class HFTokenCounter:
    """Counts with a fast Hugging Face tokenizer, special tokens not added.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer. It is copied, so that its later padding and truncation settings have no effect.

    Raises
    ------
    SegmentationError
        If the tokenizer is not a fast one, since it gives no offsets.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        if not tokenizer.is_fast:
            raise SegmentationError(f"{type(tokenizer).__name__} gives no offsets; load it with use_fast=True.")
        self._core = copy.deepcopy(tokenizer.backend_tokenizer)
        self._core.no_truncation()
        self._core.no_padding()
        self._core.encode_special_tokens = True  # a control token written in a document is text, as in the prompt

    def starts(self, text: str) -> np.ndarray:
        """See `TokenCounter`; tokens that would span two pieces of 65,536 characters are cut there."""
        pieces = list(_pieces(text))
        found = [np.empty(0, np.int64)]
        for i in range(0, len(pieces), _PIECES_AT_ONCE):
            group = pieces[i : i + _PIECES_AT_ONCE]
            encodings = self._core.encode_batch([text[a:b] for a, b in group], add_special_tokens=False)
            for (first, _), encoding in zip(group, encodings, strict=True):
                offsets = np.fromiter((begin for begin, _ in encoding.offsets), np.int64, len(encoding))
                found.append(offsets + first)
        return np.concatenate(found)

    def count(self, text: str) -> int:
        """Tokens of `text` alone."""
        return len(self._core.encode(text, add_special_tokens=False))


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Spans that tile `text`, ending after a line if possible, so that few words are cut."""
    start = 0
    while start < len(text):
        stop = start + _PIECE_CHARS
        if stop < len(text):
            stop = text.rfind("\n", start, stop) + 1 or stop
        yield start, min(stop, len(text))
        start = stop
