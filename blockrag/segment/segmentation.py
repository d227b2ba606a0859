"""The blocks of one document at any granularity, with the user's edits. Only `Segmentation.create` runs a model."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np

from blockrag.documents.document import Document, without_surrogates
from blockrag.errors import SegmentationError
from blockrag.progress import OnProgress
from blockrag.segment.base import Scored, Segmenter
from blockrag.segment.candidates import is_grapheme_boundary
from blockrag.segment.layout import read_layout
from blockrag.segment.sizes import SizeBounds, SpanSizes, TokenCounter
from blockrag.segment.tree import FORCED, Splitter, Tree, build_tree


@dataclass(frozen=True)
class Block:
    """A span of a document.

    Attributes
    ----------
    start, end : int
        Characters ``[start, end)`` of the document's text.
    n_tokens : int
        Tokens of the span tokenised alone.
    score : float
        Level of the boundary at `start`, in [0, 1]: the boundary exists at granularities from ``1 - score`` on.
    """

    start: int
    end: int
    n_tokens: int
    score: float


@dataclass(frozen=True)
class Edit:
    """A boundary that the user added or removed, at character offset `char`."""

    char: int
    kind: Literal["added", "removed"]


@dataclass(frozen=True)
class Segmentation:
    """The blocks of a document. Immutable: every edit returns a new one.

    Made by `create`, or by `restore` from stored scores. The blocks of every granularity tile the document, and a finer
    one only adds boundaries. Block sizes are within `bounds` at every granularity and after every edit.

    Attributes
    ----------
    document : Document
        The document.
    scored : Scored
        Its candidates with the segmenter's scores.
    sizes : SpanSizes
        Token counts of its spans.
    bounds : SizeBounds
        Fewest and most tokens of a block.
    edits : tuple[Edit, ...]
        The user's edits, in order. Adding a removed boundary cancels the removal, and vice versa.

    Raises
    ------
    SegmentationError
        If the document has no visible character, the scores belong to another text, or an edit cannot be applied.
    """

    document: Document
    scored: Scored
    sizes: SpanSizes
    bounds: SizeBounds
    edits: tuple[Edit, ...] = ()

    @classmethod
    def create(
        cls,
        document: Document,
        segmenter: Segmenter,
        counter: TokenCounter,
        bounds: SizeBounds,
        on_progress: OnProgress | None = None,
    ) -> "Segmentation":
        """Segment `document`; only this step runs the segmenter. Halves of characters in its text become U+FFFD."""
        document = replace(document, text=without_surrogates(document.text))
        return cls.restore(
            document, segmenter.boundaries(document.text, on_progress, document.media_type), counter, bounds
        )

    @classmethod
    def restore(
        cls,
        document: Document,
        scored: Scored,
        counter: TokenCounter,
        bounds: SizeBounds,
        edits: Iterable[Edit] = (),
    ) -> "Segmentation":
        """The segmentation with these scores and edits."""
        return cls(document, scored, SpanSizes(document.text, counter), bounds, tuple(edits))

    def __post_init__(self) -> None:
        text, chars = self.document.text, self.scored.chars
        if not text or text.isspace():
            raise SegmentationError(f"{self.document.name} has no visible character, so there is nothing to segment.")
        if chars.size and chars[-1] >= len(text):
            raise SegmentationError(
                f"The last candidate is at character {chars[-1]}, but {self.document.name} has {len(text)}: "
                "these scores belong to another text; segment it anew."
            )
        for edit in self.edits:
            self._check_offset(edit.char)
        self._check_added()

    def boundaries(self, granularity: float) -> tuple[np.ndarray, np.ndarray]:
        """The offsets at which blocks begin, without the first one's, 0.

        Parameters
        ----------
        granularity : float
            From 0 (only boundaries that the maximum requires or the user added) to 1 (all).

        Returns
        -------
        chars : np.ndarray
            int64 ``(boundaries,)``, increasing offsets.
        levels : np.ndarray
            float64 ``(boundaries,)``, each at least ``1 - granularity``.
        """
        if not 0 <= granularity <= 1:
            raise SegmentationError(f"Granularity {granularity} is not in [0, 1]; 0 is coarsest, 1 finest.")
        shown = self._tree.levels >= 1 - granularity
        return self._tree.chars[shown], self._tree.levels[shown]

    def blocks(self, granularity: float) -> tuple[Block, ...]:
        """The blocks at `granularity` in [0, 1], in order; together they are the whole text."""
        chars, levels = self.boundaries(granularity)
        spans = pairwise((0, *chars.tolist(), len(self.document.text)))
        scores = (FORCED, *levels.tolist())
        return tuple(
            Block(start, end, self.sizes.count(start, end), score)
            for (start, end), score in zip(spans, scores, strict=True)
        )

    def with_boundary(self, char: int) -> "Segmentation":
        """Add a boundary at `char` at every granularity, or cancel its removal.

        Raises
        ------
        SegmentationError
            If `char` is outside the text or inside a grapheme, or if fewer tokens than the minimum are between it and
            the nearest boundary that the user added (or an end of the text).
        """
        return self if char in self._added else self._edited(Edit(char, "added"))

    def without_boundary(self, char: int, granularity: float) -> "Segmentation":
        """Remove the boundary at `char` at every granularity, or cancel its addition.

        If the blocks on both sides belong to a span above the maximum, the span is split elsewhere instead; otherwise
        no other boundary changes.

        Raises
        ------
        SegmentationError
            If no block begins at `char` at `granularity`, or the two blocks together have more tokens than the
            maximum.
        """
        chars, _ = self.boundaries(granularity)
        i = int(np.searchsorted(chars, char))
        if i == len(chars) or chars[i] != char:
            raise SegmentationError(f"No block begins at character {char} at granularity {granularity}.")
        if char not in self._added:
            start = int(chars[i - 1]) if i else 0
            end = int(chars[i + 1]) if i + 1 < len(chars) else len(self.document.text)
            self._check_merged(start, end)
        return self._edited(Edit(char, "removed"))

    def undo(self) -> "Segmentation":
        """Take the last edit back.

        Raises
        ------
        SegmentationError
            If there is no edit.
        """
        if not self.edits:
            raise SegmentationError("There is no edit to undo.")
        return replace(self, edits=self.edits[:-1])

    @cached_property
    def _tree(self) -> Tree:
        layout = read_layout(self.document.text, self.document.media_type)
        splitter = Splitter(self.document.text, self.scored, self.sizes, self.bounds, layout.parts_heading)
        return build_tree(splitter, self._added, self._removed)

    @cached_property
    def _balance(self) -> Counter[int]:
        """Additions minus removals at each edited offset: 1 added, -1 removed, 0 cancelled."""
        balance: Counter[int] = Counter()
        for edit in self.edits:
            balance[edit.char] += 1 if edit.kind == "added" else -1
        return balance

    @cached_property
    def _added(self) -> tuple[int, ...]:
        return tuple(sorted(char for char, n in self._balance.items() if n > 0))

    @cached_property
    def _removed(self) -> frozenset[int]:
        return frozenset(char for char, n in self._balance.items() if n < 0)

    def _edited(self, edit: Edit) -> "Segmentation":
        return replace(self, edits=(*self.edits, edit))

    def _check_offset(self, char: int) -> None:
        length = len(self.document.text)
        if not 0 < char < length:
            raise SegmentationError(
                f"A boundary at character {char} is outside the text; give one from 1 to {length - 1}."
            )
        if not is_grapheme_boundary(self.document.text, char):
            raise SegmentationError(
                f"A boundary at character {char} would split a character as readers see it; move it by one."
            )

    def _check_added(self) -> None:
        edges = (0, *self._added, len(self.document.text)) if self._added else ()
        for start, end in pairwise(edges):
            if self.sizes.fewer_than(start, end, self.bounds.minimum):
                raise SegmentationError(
                    f"{self._describe(start, end)}; the minimum is {self.bounds.minimum}. "
                    "Put the boundary elsewhere or lower the minimum."
                )

    def _check_merged(self, start: int, end: int) -> None:
        if self.sizes.more_than(start, end, self.bounds.maximum):
            raise SegmentationError(
                f"{self._describe(start, end)}; the maximum is {self.bounds.maximum}. "
                "Keep the boundary or raise the maximum."
            )

    def _describe(self, start: int, end: int) -> str:
        return f"Characters {start} to {end} would be a block of {self.sizes.count(start, end)} tokens"
