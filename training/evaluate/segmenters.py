"""Segmenters under evaluation: those of this library, and those of LlamaIndex, chonkie and NLTK with their defaults.

Each offers its default boundaries and, if possible, its best `n` boundaries. The default of this library's segmenters
is every candidate with a score above 0.5 (the middle of the slider), without size bounds. Other libraries are imported
only if used; all segmenters that need sentence vectors share one encoder.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tokenizers import Tokenizer

from blockrag.models import local_path
from blockrag.retrieve.embedder import Embedder
from blockrag.segment import (
    DEFAULT_GRANULARITY,
    SEGMENTERS,
    Embed,
    FixedSize,
    HFTokenCounter,
    Segmenter,
    TokenCounter,
    make_segmenter,
)
from blockrag.segment.neural import Neural
from blockrag.segment.sizes import SpanSizes, dyadic_rank

_FINEST = 1 << 20
"""Number of equal parts of a text that ranks for ties distinguish."""

_STOP_WORDS = (
    "a about above after again against all am an and any are as at be because been before being below between both but "
    "by can could did do does doing down during each few for from further had has have having he her here hers him his "
    "how i if in into is it its just me more most my no nor not now of off on once only or other our out over own same "
    "she should so some such than that the their them then there these they this those through to too under until up "
    "very was we were what when where which while who whom why will with would you your"
).split()


class Splitter(Protocol):
    """A segmenter under evaluation."""

    def default(self, text: str) -> np.ndarray:
        """Offsets of the default boundaries, in characters, increasing."""

    def best(self, text: str, n: int) -> np.ndarray | None:
        """Offsets of the `n` best boundaries, or None if the number cannot be chosen."""


class CachedEmbedder:
    """A sentence encoder with a cache: searching for a number of boundaries encodes the same sentences repeatedly.

    Parameters
    ----------
    embed : Embed
    tokenizer : Tokenizer
        The encoder's tokenizer. It is copied without padding and truncation, which would make all sentences count the
        same.
    """

    def __init__(self, embed: Embed, tokenizer: Tokenizer):
        self.embed, self.tokenizer = embed, Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Unit vectors."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self.embed(new), strict=True))
        return [self._known[text] for text in texts]

    def clear(self) -> None:
        """Empty the cache; called for each new document."""
        self._known.clear()


class OwnSplitter:
    """A segmenter of this library. Ties go to the candidate that halves the text more evenly, as in the tree."""

    def __init__(self, segmenter: Segmenter, counter: TokenCounter):
        self._segmenter, self._counter = segmenter, counter
        self._last: tuple[str, np.ndarray, np.ndarray] = ("", np.empty(0, np.int64), np.empty(0, np.float32))

    def default(self, text: str) -> np.ndarray:
        """See `Splitter`."""
        chars, scores = self._scored(text)
        return chars[scores > 1 - DEFAULT_GRANULARITY]

    def best(self, text: str, n: int) -> np.ndarray:
        """See `Splitter`."""
        chars, scores = self._scored(text)
        sizes = SpanSizes(text, self._counter)
        halves = sizes.n_before(chars) * _FINEST // max(1, sizes.estimate(0, len(text)))
        ranks = dyadic_rank(halves)
        return np.sort(chars[np.lexsort((-ranks, -scores))[:n]])

    def _scored(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        if self._last[0] != text:  # `default` and `best` of one text share a run
            found = self._segmenter.boundaries(text)
            self._last = (text, found.chars, found.scores)
        return self._last[1:]


class EqualSplitter:
    """Pieces of equal size: by default those of `FixedSize`."""

    def __init__(self, counter: TokenCounter):
        self._counter = counter

    def default(self, text: str) -> np.ndarray:
        """See `Splitter`."""
        return OwnSplitter(FixedSize(self._counter), self._counter).default(text)

    def best(self, text: str, n: int) -> np.ndarray:
        """See `Splitter`; fewer than `n` if two pieces would begin at one candidate."""
        size = max(1, len(self._counter.starts(text)) // (n + 1))
        found = FixedSize(self._counter, size).boundaries(text)
        return found.chars[found.scores > 0][:n]


class LlamaIndexSplitter:
    """LlamaIndex's SemanticSplitterNodeParser: distances of neighbouring groups of three sentences, 95th percentile.

    `best` takes the `n` largest distances, as a fitting percentile would.
    """

    def __init__(self, embed: CachedEmbedder):
        from llama_index.core.base.embeddings.base import BaseEmbedding  # noqa: PLC0415
        from llama_index.core.node_parser import SemanticSplitterNodeParser  # noqa: PLC0415

        class Encoder(BaseEmbedding):
            def _get_query_embedding(self, query: str) -> list[float]:
                return embed([query])[0].tolist()

            def _get_text_embedding(self, text: str) -> list[float]:
                return embed([text])[0].tolist()

            def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
                return [vector.tolist() for vector in embed(texts)]

            async def _aget_query_embedding(self, query: str) -> list[float]:
                return self._get_query_embedding(query)

        self._embed = embed
        self._parser: Any = SemanticSplitterNodeParser.from_defaults(embed_model=Encoder(embed_batch_size=128))

    def default(self, text: str) -> np.ndarray:
        """See `Splitter`."""
        self._embed.clear()
        sentences, distances = self._distances(text)
        return _offsets(text, self._parser._build_node_chunks(sentences, distances))

    def best(self, text: str, n: int) -> np.ndarray:
        """See `Splitter`."""
        sentences, distances = self._distances(text)
        chars = _offsets(text, [sentence["sentence"] for sentence in sentences], keep_all=True)
        return np.sort(chars[np.argsort(-np.array(distances), kind="stable")[:n]])

    def _distances(self, text: str) -> tuple[list[Any], list[float]]:
        sentences = self._parser._build_sentence_groups(self._parser.sentence_splitter(text))
        vectors = self._parser.embed_model.get_text_embedding_batch([s["combined_sentence"] for s in sentences])
        for sentence, vector in zip(sentences, vectors, strict=True):
            sentence["combined_sentence_embedding"] = vector
        return sentences, self._parser._calculate_distances_between_sentence_groups(sentences)


class ChonkieSplitter:
    """chonkie's SemanticChunker: minima of the smoothed similarity of neighbouring sentences."""

    def __init__(self, embed: CachedEmbedder):
        from chonkie import SemanticChunker  # noqa: PLC0415
        from chonkie.embeddings import BaseEmbeddings  # noqa: PLC0415

        class Encoder(BaseEmbeddings):
            def embed(self, text: str) -> np.ndarray:
                return embed([text])[0]

            def embed_batch(self, texts: list[str]) -> list[np.ndarray]:
                return embed(texts)

            @property
            def dimension(self) -> int:
                return len(embed([""])[0])

            def get_tokenizer(self) -> Tokenizer:
                return embed.tokenizer

        self._embed = embed
        self._make = lambda **options: SemanticChunker(Encoder(), **options)

    def default(self, text: str) -> np.ndarray:
        """See `Splitter`."""
        self._embed.clear()
        return self._split(text)

    def best(self, text: str, n: int) -> np.ndarray:
        """See `Splitter`; the nearest number that six bisections of the threshold reach."""
        low, high, found = 0.01, 0.99, []
        for _ in range(6):
            middle = (low + high) / 2
            found.append(self._split(text, threshold=middle))
            low, high = (low, middle) if len(found[-1]) > n else (middle, high)
        return min(found, key=lambda chars: abs(len(chars) - n))

    def _split(self, text: str, **options: float) -> np.ndarray:
        return _offsets(text, [chunk.text for chunk in self._make(**options).chunk(text)])


class TextTilingSplitter:
    """NLTK's TextTiling (Hearst), which compares words and splits only at blank lines."""

    def __init__(self) -> None:
        from nltk.tokenize import TextTilingTokenizer  # noqa: PLC0415

        self._tokenizer = TextTilingTokenizer(stopwords=_STOP_WORDS)

    def default(self, text: str) -> np.ndarray:
        """See `Splitter`; texts without blank lines or too short, which NLTK refuses, have no boundaries."""
        try:
            return _offsets(text, self._tokenizer.tokenize(text))
        except ValueError as error:
            if not any(reason in str(error) for reason in ("No paragraph breaks", "bigger than window size")):
                raise
            return np.empty(0, np.int64)

    def best(self, text: str, n: int) -> None:
        """See `Splitter`; the number cannot be chosen."""


def _offsets(text: str, chunks: Sequence[str], keep_all: bool = False) -> np.ndarray:
    """Start of each chunk but the first; modified chunks are located by their first 40 characters."""
    found, char = [], 0
    for chunk in chunks:
        start = chunk.lstrip()
        place = text.find(start[:40], char) if start else char
        char = char if place < 0 else place
        found.append(char)
        char += max(1, len(start))
    return np.array(found[1:] if keep_all else sorted(set(found[1:])), np.int64)


def make_splitter(
    name: str, counter: TokenCounter, embed: CachedEmbedder, neural: Path | None, device: str
) -> Splitter:
    """The segmenter `name`.

    Raises
    ------
    ValueError
        If the name is unknown.
    ImportError
        If its library is not installed.
    """
    others: dict[str, Callable[[], Splitter]] = {
        "fixed": lambda: EqualSplitter(counter),
        "texttiling": TextTilingSplitter,
        "llamaindex": lambda: LlamaIndexSplitter(embed),
        "chonkie": lambda: ChonkieSplitter(embed),
    }
    if name == "neural" and neural is not None:
        return OwnSplitter(Neural(neural, device), counter)
    if name in others:
        return others[name]()
    if name in SEGMENTERS:
        return OwnSplitter(make_segmenter(name, counter=counter, embed=embed.embed), counter)
    known = ", ".join({**SEGMENTERS, **others})
    raise ValueError(f"There is no segmenter {name!r}; choose: neural (with --neural FOLDER), {known}.")


def make_splitters(names: Sequence[str], neural: Path | None, device: str) -> dict[str, Splitter]:
    """Segmenters by name. SmolLM2's tokenizer counts tokens, MiniLM encodes sentences."""
    from transformers import AutoTokenizer  # noqa: PLC0415  (slow to import)

    counter = HFTokenCounter(AutoTokenizer.from_pretrained(local_path("smollm2")))
    folder = local_path("minilm")
    encoder = cache(lambda: Embedder(folder, "", device))  # loaded by the first segmenter that uses it
    embed = CachedEmbedder(lambda texts: encoder().embed(texts), Tokenizer.from_file(str(folder / "tokenizer.json")))
    return {name: make_splitter(name, counter, embed, neural, device) for name in names}
