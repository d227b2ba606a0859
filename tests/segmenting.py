"""Token counters, a fake embedding and texts for tests of segmentation."""

import zlib
from functools import cache

import numpy as np
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from blockrag.documents.document import Document
from blockrag.segment import HFTokenCounter, Segmentation, SizeBounds, make_segmenter

TEXT = """# Tides

The sea rises and falls twice a day. Sailors have known this for as long as they have sailed. The moon pulls
the water towards it, and the water follows. Dr. Ames wrote in 1902 that "no harbour is too small for a tide".

## Spring tides

When sun and moon stand in one line, their pulls add up. High water is then higher, and low water lower. It
happens twice a month. The name has nothing to do with the season.

1. New moon: both pull from the same side.
2. Full moon: they pull from opposite sides.

```python
def height(hour):
    return 3.2 * cos(hour / 6.2)
```

## Neap tides

At the quarters of the moon the two work against each other. The range is small. Nets are mended on such days.
"""


class ByteCounter:
    """One token per UTF-8 byte, so that estimates are exact."""

    def starts(self, text: str) -> np.ndarray:
        return np.repeat(np.arange(len(text)), [len(c.encode()) for c in text])

    def count(self, text: str) -> int:
        return len(text.encode())


class EdgeCounter(ByteCounter):
    """Exaggerates a property of tokenizers: a span has different tokens alone than within the text."""

    def count(self, text: str) -> int:
        ends_in_space, begins_visibly = text[-1].isspace(), not text[0].isspace()
        return max(1, super().count(text) + 4 * ends_in_space - 3 * begins_visibly)


@cache
def bpe() -> PreTrainedTokenizerFast:
    """Byte-level BPE with a few hundred merges, like that of answer models."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=64)


@cache
def bpe_counter() -> HFTokenCounter:
    """The counter of `bpe`."""
    return HFTokenCounter(bpe())


def embed(sentences: list[str]) -> np.ndarray:
    """Unit vectors, float32 ``(sentences, 8)``: sums of a random vector for each word."""
    rows = [_word_vectors(sentence).sum(axis=0) + 1e-3 for sentence in sentences]
    return np.array([row / np.linalg.norm(row) for row in rows], np.float32)


def _word_vectors(sentence: str) -> np.ndarray:
    seeds = [zlib.crc32(word.lower().encode()) for word in sentence.split()] or [0]
    return np.array([np.random.default_rng(seed).normal(size=8) for seed in seeds])


def segment(text: str, name: str = "structural", bounds: SizeBounds | None = None, counter=None) -> Segmentation:
    """Segment `text` with the segmenter `name`; `counter` defaults to `bpe_counter`."""
    counter = counter or bpe_counter()
    document = Document("text.md", "text/markdown", text)
    bounds = bounds or SizeBounds(8, 64)
    return Segmentation.create(document, make_segmenter(name, counter=counter, embed=embed), counter, bounds)


def texts(segmentation: Segmentation, granularity: float) -> list[str]:
    """Text of each block."""
    text = segmentation.document.text
    return [text[block.start : block.end] for block in segmentation.blocks(granularity)]


PIECES = [
    "The tide rose. ", "It fell again! ", "Dr. Ames (e.g. he) left. ", "word ", "a", "x" * 40, " ", "\t", "    ",
    "\n", "\n\n", "\r\n", "\r\n\r\n", "\f", "# Heading\n", "## Deeper\n\n", "- item\n", "1. Clause\n", "Ann: hello\n",
    "[12:03] Ben: hi\n", "```\ncode()\n```\n", "| a | b |\n", "def f(x):\n    return x\n", "@decorator\n", "// note\n",
    "Title\n=====\n", "From: x\nTo: y\n", "ARTICLE IV\n", "今天天气很好。", "我们走吧！", "הגאות עלתה. ", "کیا؟ ",
    "नमस्ते दुनिया। ", "👩‍👩‍👧 ", "🇩🇪🇫🇷", "e\u0301", "\u0301", "\u200d", "\ufe0f", "각", "ᄀ", "ᆨ", "\u2028", "\x85", "3.14 ",
    "a=1;" * 30, "。" * 9, "…", "?!", '." ', "zalgo" + "\u0316\u0317" * 12,
]  # fmt: skip
"""Pieces for generated texts: prose, layout, code, scripts without spaces, and combining characters."""

soup = st.lists(st.sampled_from(PIECES), min_size=1, max_size=60).map("".join).filter(lambda text: not text.isspace())
