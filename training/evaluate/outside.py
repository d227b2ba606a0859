"""Segmenters of other libraries, each with its own defaults and, where it wants one, the same sentence encoder.

LlamaIndex's SemanticSplitterNodeParser, chonkie's SemanticChunker, NLTK's TextTiling. Imported when asked for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from blockrag.segment import Embed as EmbedTexts

_STOP_WORDS = (
    "a about above after again against all am an and any are as at be because been before being below between both but "
    "by can could did do does doing down during each few for from further had has have having he her here hers him his "
    "how i if in into is it its just me more most my no nor not now of off on once only or other our out over own same "
    "she should so some such than that the their them then there these they this those through to too under until up "
    "very was we were what when where which while who whom why will with would you your"
).split()


class Embed:
    """A sentence encoder that remembers what it was asked: the same texts come again when the number is searched for.

    Parameters
    ----------
    texts : EmbedTexts
        Encodes.
    tokenizer : Tokenizer
        The encoder's own; a copy is kept that neither pads nor truncates, or every sentence would count the same.
    """

    def __init__(self, texts: EmbedTexts, tokenizer: Tokenizer):
        self.texts, self.tokenizer = texts, Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Unit vectors."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self.texts(new), strict=True))
        return [self._known[text] for text in texts]

    def forget(self) -> None:
        """Another document begins."""
        self._known.clear()


class LlamaIndex:
    """Distances between the embeddings of neighbouring groups of three sentences; the 95th percentile by default.

    Told a number, it takes as many of the largest distances: what a percentile that fits would give.
    """

    def __init__(self, embed: Embed):
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
        """See `Cutter`."""
        self._embed.forget()
        sentences, distances = self._distances(text)
        return _offsets(text, self._parser._build_node_chunks(sentences, distances))

    def best(self, text: str, n: int) -> np.ndarray:
        """See `Cutter`."""
        sentences, distances = self._distances(text)
        chars = _offsets(text, [sentence["sentence"] for sentence in sentences], keep_all=True)
        return np.sort(chars[np.argsort(-np.array(distances), kind="stable")[:n]])

    def _distances(self, text: str) -> tuple[list[Any], list[float]]:
        sentences = self._parser._build_sentence_groups(self._parser.sentence_splitter(text))
        vectors = self._parser.embed_model.get_text_embedding_batch([s["combined_sentence"] for s in sentences])
        for sentence, vector in zip(sentences, vectors, strict=True):
            sentence["combined_sentence_embedding"] = vector
        return sentences, self._parser._calculate_distances_between_sentence_groups(sentences)


class Chonkie:
    """Minima of the smoothed likeness of neighbouring sentences; told a number, the threshold that comes nearest."""

    def __init__(self, embed: Embed):
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
        """See `Cutter`."""
        self._embed.forget()
        return self._cut(text)

    def best(self, text: str, n: int) -> np.ndarray:
        """See `Cutter`; the number is met as nearly as six halvings of the threshold's range can."""
        low, high, found = 0.01, 0.99, []
        for _ in range(6):
            middle = (low + high) / 2
            found.append(self._cut(text, threshold=middle))
            low, high = (low, middle) if len(found[-1]) > n else (middle, high)
        return min(found, key=lambda chars: abs(len(chars) - n))

    def _cut(self, text: str, **options: float) -> np.ndarray:
        return _offsets(text, [chunk.text for chunk in self._make(**options).chunk(text)])


class TextTiling:
    """Hearst's algorithm on words, as NLTK has it; it cuts at blank lines only, and cannot be told a number."""

    def __init__(self) -> None:
        from nltk.tokenize import TextTilingTokenizer  # noqa: PLC0415

        self._tokenizer = TextTilingTokenizer(stopwords=_STOP_WORDS)

    def default(self, text: str) -> np.ndarray:
        """See `Cutter`; texts without blank lines, which NLTK refuses, have no boundaries."""
        try:
            return _offsets(text, self._tokenizer.tokenize(text))
        except ValueError as error:
            if "No paragraph breaks" not in str(error):
                raise
            return np.empty(0, np.int64)

    def best(self, text: str, n: int) -> None:
        """See `Cutter`."""


def _offsets(text: str, chunks: Sequence[str], keep_all: bool = False) -> np.ndarray:
    """Where each chunk but the first begins; of chunks that were changed, where their first words are found."""
    found, char = [], 0
    for chunk in chunks:
        begin = chunk.lstrip()
        place = text.find(begin[:40], char) if begin else char
        char = char if place < 0 else place
        found.append(char)
        char += max(1, len(begin))
    return np.array(found[1:] if keep_all else sorted(set(found[1:])), np.int64)
