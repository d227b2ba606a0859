"""Encoded documents with the levels of their candidates, and a sampler of randomly changed crops."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Tokenizer

from blockrag.segment import find_candidates
from blockrag.segment.neural.encoding import FIRST_MARKER, N_DEPTHS, Encoded, encode, join
from training.corpus import Row
from training.segmenter.config import SegmenterConfig

MASK = 103
"""Id of BERT's mask token."""

NO_LEVEL = 4
"""Level of a candidate that is not a boundary."""


@dataclass(frozen=True, eq=False)
class Example:
    """An encoded text with the level at which each piece begins, uint8 ``(pieces,)``.

    `dataset` is its source; `headings` is ``"kept"``, ``"stripped"`` or ``"none"``.
    """

    encoded: Encoded
    levels: np.ndarray
    category: str
    dataset: str = ""
    headings: str = "none"

    def crop(self, first: int, stop: int) -> "Example":
        """Pieces ``[first, stop)``."""
        return replace(self, encoded=self.encoded.crop(first, stop), levels=self.levels[first:stop])


def make_example(row: Row, tokenizer: Tokenizer) -> Example:
    """Encode one row of the data set."""
    text, candidates = row["text"], find_candidates(row["text"])
    level_at = {boundary["char"]: boundary["level"] for boundary in row["boundaries"]}
    levels = np.array([1, *(level_at.get(char, NO_LEVEL) for char in candidates.tolist())], np.uint8)
    headings = "stripped" if row.get("variant") == "stripped" else "kept" if row["headings"] else "none"
    return Example(encode(text, candidates, tokenizer), levels, row["category"], row.get("dataset", ""), headings)


class Sampler:
    """Endless random crops: draws a category, a document weighted by length, then a start.

    Parameters
    ----------
    examples : Sequence[Example]
        To draw from.
    config : SegmenterConfig
        How to draw and change them.
    seed : int
        Determines the draws.
    """

    def __init__(self, examples: Sequence[Example], config: SegmenterConfig, seed: int):
        self._config = config
        self._random = np.random.default_rng(seed)
        self._by_category: dict[str, list[Example]] = defaultdict(list)
        for example in examples:
            self._by_category[example.category].append(example)
        self._names = sorted(self._by_category)
        lengths = {name: [len(e.encoded.ids) for e in self._by_category[name]] for name in self._names}
        self._shares = {name: np.array(lengths[name]) / sum(lengths[name]) for name in self._names}
        sizes = np.array([sum(lengths[name]) for name in self._names], float) ** (1 - config.balance)
        self._weights = sizes / sizes.sum()

    def __iter__(self) -> Iterator[Example]:
        while True:
            yield self._draw()

    def _draw(self) -> Example:
        random, config = self._random, self._config
        name = str(random.choice(self._names, p=self._weights))
        if random.random() < config.packed:
            half = config.max_tokens // 2
            found = pack([self._crop(name, half), self._crop(name, half)])
        else:
            found = self._crop(name, config.max_tokens)
        if random.random() < config.flattened:
            found = flatten(found, lines_too=bool(random.random() < 0.3))
        if random.random() < config.lowered:
            found = lower(found)
        return hide(found, config.masked, random) if config.masked else found

    def _crop(self, category: str, max_tokens: int) -> Example:
        group = self._by_category[category]
        example = group[int(self._random.choice(len(group), p=self._shares[category]))]
        edges = np.append(example.encoded.markers, len(example.encoded.ids))
        if edges[-1] <= max_tokens:
            return example
        last = int(np.searchsorted(edges[:-1], edges[-1] - max_tokens))
        first = int(self._random.integers(0, last + 1))
        stop = int(np.searchsorted(edges, edges[first] + max_tokens, "right")) - 1
        return example.crop(first, max(first + 1, stop))


def pack(parts: Iterable[Example]) -> Example:
    """Concatenate documents: each becomes a block of level 1, and its own levels go down by one."""
    parts = list(parts)
    levels = [np.where(part.levels < NO_LEVEL, np.minimum(part.levels + 1, 3), NO_LEVEL) for part in parts]
    for each in levels:
        each[0] = 1
    return replace(parts[0], encoded=join([p.encoded for p in parts]), levels=np.concatenate(levels).astype(np.uint8))


def flatten(example: Example, lines_too: bool) -> Example:
    """Remove blank lines, or with `lines_too` all line breaks, so that words and not layout tell where blocks begin."""
    ids, markers = example.encoded.ids.copy(), example.encoded.markers
    gaps, indents = np.divmod(ids[markers] - FIRST_MARKER, N_DEPTHS)
    ids[markers] = FIRST_MARKER if lines_too else FIRST_MARKER + np.minimum(gaps, 1) * N_DEPTHS + indents
    return replace(example, encoded=replace(example.encoded, ids=ids))


def lower(example: Example) -> Example:
    """Convert to lower case."""
    return replace(example, encoded=replace(example.encoded, cases=np.zeros_like(example.encoded.cases)))


def hide(example: Example, share: float, random: np.random.Generator) -> Example:
    """Mask a share of the tokens, never the markers, so that boundaries do not depend on single words."""
    encoded = example.encoded
    hidden = random.random(len(encoded.ids)) < share
    hidden[encoded.markers] = False
    ids, cases = encoded.ids.copy(), encoded.cases.copy()
    ids[hidden], cases[hidden] = MASK, 0
    return replace(example, encoded=replace(encoded, ids=ids, cases=cases))
