"""What is judged: segmenters of this library and of others, as boundaries by default and, where they can, in order.

Of ours, the default is every candidate with a score above 0.5: what the middle of the slider means, without bounds on
sizes.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer

from blockrag.models import local_path
from blockrag.retrieve.embedder import Embedder
from blockrag.segment import (
    DEFAULT_GRANULARITY,
    SEGMENTERS,
    FixedSize,
    HFTokenCounter,
    Segmenter,
    TokenCounter,
    make_segmenter,
)
from blockrag.segment.neural import Neural
from blockrag.segment.sizes import SpanSizes, dyadic_rank
from training.evaluate import outside
from training.evaluate.outside import Embed

_FINEST = 1 << 20
"""Into so many parts a text is halved again and again, to break ties."""


class Cutter(Protocol):
    """One that is judged."""

    def default(self, text: str) -> np.ndarray:
        """Where blocks begin as it comes: characters, increasing."""

    def best(self, text: str, n: int) -> np.ndarray | None:
        """The `n` boundaries that it is surest of, or None where it cannot be told how many."""


class Ours:
    """A segmenter of this library; ties go to the candidate that halves the text more evenly, as in the tree.

    Parameters
    ----------
    segmenter : Segmenter
        It.
    counter : TokenCounter
        Measures what is even.
    """

    def __init__(self, segmenter: Segmenter, counter: TokenCounter):
        self._segmenter, self._counter = segmenter, counter
        self._last: tuple[str, np.ndarray, np.ndarray] = ("", np.empty(0, np.int64), np.empty(0, np.float32))

    def default(self, text: str) -> np.ndarray:
        """See `Cutter`."""
        chars, scores = self._scored(text)
        return chars[scores > 1 - DEFAULT_GRANULARITY]

    def best(self, text: str, n: int) -> np.ndarray:
        """See `Cutter`."""
        chars, scores = self._scored(text)
        sizes = SpanSizes(text, self._counter)
        halves = sizes.n_before(chars) * _FINEST // max(1, sizes.estimate(0, len(text)))
        ranks = dyadic_rank(halves)
        return np.sort(chars[np.lexsort((-ranks, -scores))[:n]])

    def _scored(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        if self._last[0] != text:  # asked for the default and for the best of one text, it runs once
            found = self._segmenter.boundaries(text)
            self._last = (text, found.chars, found.scores)
        return self._last[1:]


class Equal:
    """Pieces of equal size: by default those of `FixedSize`, else as many as there shall be."""

    def __init__(self, counter: TokenCounter):
        self._counter = counter

    def default(self, text: str) -> np.ndarray:
        """See `Cutter`."""
        return Ours(FixedSize(self._counter), self._counter).default(text)

    def best(self, text: str, n: int) -> np.ndarray:
        """See `Cutter`; fewer where a candidate would serve twice."""
        size = max(1, len(self._counter.starts(text)) // (n + 1))
        found = FixedSize(self._counter, size).boundaries(text)
        return found.chars[found.scores > 0][:n]


def make_cutter(name: str, counter: TokenCounter, embed: Embed, neural: Path | None, device: str) -> Cutter:
    """The one called `name`.

    Raises
    ------
    ValueError
        If there is none.
    ImportError
        If its library is not installed.
    """
    others: dict[str, Callable[[], Cutter]] = {
        "fixed": lambda: Equal(counter),
        "texttiling": outside.TextTiling,
        "llamaindex": lambda: outside.LlamaIndex(embed),
        "chonkie": lambda: outside.Chonkie(embed),
    }
    if name == "neural" and neural is not None:
        return Ours(Neural(neural, device), counter)
    if name in others:
        return others[name]()
    if name in SEGMENTERS:
        return Ours(make_segmenter(name, counter=counter, embed=embed.texts), counter)
    known = ", ".join({**SEGMENTERS, **others})
    raise ValueError(f"There is no segmenter {name!r}; choose: neural (with --neural FOLDER), {known}.")


def make_cutters(names: Sequence[str], neural: Path | None, device: str) -> dict[str, Cutter]:
    """Those called `names`, by name; tokens are SmolLM2's, and MiniLM is the encoder of all that want one."""
    from transformers import AutoTokenizer  # noqa: PLC0415  # slow to import

    counter = HFTokenCounter(AutoTokenizer.from_pretrained(local_path("smollm2")))
    folder = local_path("minilm")
    encoder = cache(lambda: Embedder(folder, "", device))  # loaded by the first segmenter that uses it
    embed = Embed(lambda texts: encoder().embed(texts), Tokenizer.from_file(str(folder / "tokenizer.json")))
    return {name: make_cutter(name, counter, embed, neural, device) for name in names}
