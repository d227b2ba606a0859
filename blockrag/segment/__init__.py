"""Text -> scored candidates -> blocks at any granularity: the public names and the table of segmenters."""

from collections.abc import Callable
from functools import cache

from blockrag.errors import SegmentationError
from blockrag.segment.base import Scored, Segmenter
from blockrag.segment.candidates import find_candidates
from blockrag.segment.fixed import FixedSize
from blockrag.segment.segmentation import Block, Edit, Segmentation
from blockrag.segment.similarity import Embed, Similarity
from blockrag.segment.sizes import HFTokenCounter, SizeBounds, TokenCounter
from blockrag.segment.structural import Structural

DEFAULT_SEGMENTER = "neural"
DEFAULT_GRANULARITY = 0.5

__all__ = [
    "DEFAULT_GRANULARITY",
    "DEFAULT_SEGMENTER",
    "SEGMENTERS",
    "Block",
    "Edit",
    "Embed",
    "FixedSize",
    "HFTokenCounter",
    "Scored",
    "Segmentation",
    "Segmenter",
    "Similarity",
    "SizeBounds",
    "Structural",
    "TokenCounter",
    "find_candidates",
    "make_segmenter",
]


def _make_similarity(counter: TokenCounter, embed: Embed | None) -> Segmenter:
    if embed is None:
        others = ", ".join(name for name in SEGMENTERS if name != Similarity.name)
        raise SegmentationError(
            f"The segmenter 'similarity' needs an embedding function; give one or choose: {others}."
        )
    return Similarity(embed)


@cache
def _neural() -> Segmenter:
    from blockrag.segment.neural import Neural  # noqa: PLC0415  (imports torch and transformers)

    return Neural()


SEGMENTERS: dict[str, Callable[[TokenCounter, Embed | None], Segmenter]] = {
    "neural": lambda counter, embed: _neural(),
    "fixed": lambda counter, embed: FixedSize(counter),
    "structural": lambda counter, embed: Structural(),
    "similarity": _make_similarity,
}
"""Factories of segmenters, by the names used in settings."""


def make_segmenter(name: str, *, counter: TokenCounter, embed: Embed | None = None) -> Segmenter:
    """The segmenter called `name`.

    Parameters
    ----------
    name : str
        A key of `SEGMENTERS`.
    counter : TokenCounter
        For segmenters that count tokens.
    embed : Embed, optional
        For segmenters that compare embeddings.

    Raises
    ------
    SegmentationError
        If there is no such segmenter, or it needs `embed`.
    """
    if name not in SEGMENTERS:
        raise SegmentationError(f"There is no segmenter {name!r}; choose: {', '.join(SEGMENTERS)}.")
    return SEGMENTERS[name](counter, embed)
