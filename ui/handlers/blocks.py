"""A document's blocks as the page draws them, and its edits.

The text travels once, in pages of pieces (the spans between candidates); after that only small lists of numbers do.
"""

from statistics import median
from typing import Any

import numpy as np

from blockrag.documents import Document
from blockrag.errors import SegmentationError
from blockrag.kv.memory import MemoryTier
from blockrag.progress import OnProgress
from blockrag.segment import Block, Edit, Scored, Segmentation
from ui import strings
from ui.collection_document import Entry
from ui.open_collection import OpenCollection

MAX_PIECES = 5_000

PROFILE_BINS = 400
"""Steps of the strip that shows boundary scores beside the text."""


def view(workspace: OpenCollection, document_id: str | None) -> dict[str, Any]:
    """A document's blocks at its granularity."""
    entry = workspace.entry(document_id)
    if entry is None:
        return {"empty": strings.NO_BLOCKS}
    blocks = entry.segmentation.blocks(entry.granularity)
    return _shown(workspace, entry.document) | {
        "version": entry.version,
        "granularity": entry.granularity,
        "starts": [block.start for block in blocks],
        "tokens": [block.n_tokens for block in blocks],
        "scores": [round(block.score, 3) for block in blocks],
        "profile": _profile(entry.segmentation.scored, len(entry.document.text)),
        "added": _added(entry.segmentation),
        "edits": len(entry.segmentation.edits),
        "redo": entry.cut.n_redo,
        "summary": _summary(blocks),
        "cost": cost(workspace, sum(block.n_tokens for block in blocks)),
        "hint": strings.EDIT_HINT,
    }


def compare(
    workspace: OpenCollection,
    document_id: str | None,
    segmenter: str,
    granularity: float,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """The document cut in another way, to look at, with the boundaries that differ marked."""
    entry = workspace.entry(document_id)
    if entry is None:
        return {"empty": strings.NO_BLOCKS}
    cut = entry.segmentation
    if segmenter != entry.segmenter:
        cut = workspace.cut_otherwise(entry, segmenter, on_progress)
    blocks, here = cut.blocks(granularity), set(entry.starts)
    return _shown(workspace, entry.document) | {
        "compared": True,
        "starts": [block.start for block in blocks],
        "tokens": [block.n_tokens for block in blocks],
        "scores": [round(block.score, 3) for block in blocks],
        "differs": [block.start for block in blocks if block.start not in here],
        "summary": _summary(blocks),
    }


def source_view(
    workspace: OpenCollection, document: Document | None, start: int, end: int, caption: str
) -> dict[str, Any]:
    """A document with one span marked, for reading only."""
    if document is None:
        return {"empty": strings.NO_SOURCE}
    starts = sorted({0, start, end} - {len(document.text)})
    return _shown(workspace, document) | {"starts": starts, "highlight": start, "summary": caption}


def cost(workspace: OpenCollection, n_tokens: int) -> str:
    """What block KV of so many tokens takes on each tier."""
    engine = workspace.library.engine
    nbytes = n_tokens * engine.model.kv_nbytes_per_token
    parts = []
    for tier in engine.kv.tiers:
        if tier.budget_nbytes is None:
            parts.append(f"{tier.name}: {strings.NO_LIMIT}")
            continue
        share = nbytes / tier.budget_nbytes if tier.budget_nbytes else float("inf")
        most = "" if isinstance(tier, MemoryTier) else "at most "  # 8 bits at rest take less
        parts.append(f"{tier.name}: {most}{share:.1%}" if share < 1 else f"{tier.name}: {strings.TOO_LARGE}")
    return f"KV {size(nbytes)} ({', '.join(parts)})"


def size(nbytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} GB"


def _summary(blocks: tuple[Block, ...]) -> str:
    sizes = [block.n_tokens for block in blocks]
    return f"{len(blocks)} blocks of {min(sizes)} to {max(sizes)} tokens, median {median(sizes):.0f}"


def _shown(workspace: OpenCollection, document: Document) -> dict[str, Any]:
    return {"workspace": workspace.id, "doc": document.sha256, "length": len(document.text)}


def _profile(scored: Scored, length: int) -> list[int]:
    """The highest score, in hundredths, in each of so many equal parts of the text."""
    n_bins = min(PROFILE_BINS, length)
    best = np.zeros(n_bins)
    np.maximum.at(best, scored.chars * n_bins // length, scored.scores)
    return [round(100 * float(score)) for score in best]


def _added(segmentation: Segmentation) -> list[int]:
    """Where the user began a block and did not take it back; adding and removing cancel each other."""
    balance: dict[int, int] = {}
    for edit in segmentation.edits:
        balance[edit.char] = balance.get(edit.char, 0) + (1 if edit.kind == "added" else -1)
    return [char for char, n in balance.items() if n > 0]


def read_pieces(workspace: OpenCollection, document_id: str, first: int, n: int) -> dict[str, Any]:
    """Pieces ``first`` to ``first + n`` of a document: their offsets and texts, and whether they are the last."""
    if not (0 <= first and 0 < n <= MAX_PIECES):
        raise ValueError(f"pieces {first} to {first + n} were asked for; at most {MAX_PIECES} at once")
    entry = _entry(workspace, document_id)
    text, cuts = entry.document.text, entry.segmentation.scored.chars
    offsets = [0, *cuts.tolist(), len(text)][first : first + n + 1]
    return {
        "offsets": offsets[:-1],
        "pieces": [text[a:b] for a, b in zip(offsets, offsets[1:], strict=False)],
        "last": offsets[-1] == len(text),
    }


def toggle(workspace: OpenCollection, document_id: str, char: int, add: bool) -> None:
    """Begin a block at `char`, or merge the one that begins there with the one before it.

    Raises
    ------
    SegmentationError
        If the edit would break a bound, or no block begins at `char` any more.
    """

    def edits(entry: Entry) -> list[Edit]:
        before = entry.segmentation
        after = before.with_boundary(char) if add else before.without_boundary(char, entry.granularity)
        return list(after.edits[len(before.edits) :])

    workspace.edit(document_id, edits)


def move(workspace: OpenCollection, document_id: str, char: int, by: int) -> int:
    """Move the boundary at `char` to the next candidate (`by` 1) or the one before (`by` -1) that the sizes allow;
    returns where it is then.

    Raises
    ------
    SegmentationError
        If there is none before the neighbouring boundary.
    """
    moved = [char]

    def edits(entry: Entry) -> list[Edit]:
        before = entry.segmentation
        made, moved[0] = _moved(before, char, by, entry.granularity)
        return list(made.edits[len(before.edits) :])

    workspace.edit(document_id, edits)
    return moved[0]


def place(workspace: OpenCollection, document_id: str, char: int, to: int) -> None:
    """Move the boundary at `char` to `to`, which lies between the boundaries before and after it.

    Raises
    ------
    SegmentationError
        If it does not, or a block would break a bound.
    """

    def edits(entry: Entry) -> list[Edit]:
        before = entry.segmentation
        first, last = _beside(before, char, entry.granularity)
        if not first < to < last:
            raise SegmentationError("A boundary can be put between the one before and the one after it alone.")
        return list(_put(before, char, to, entry.granularity).edits[len(before.edits) :])

    workspace.edit(document_id, edits)


def _moved(cut: Segmentation, char: int, by: int, granularity: float) -> tuple[Segmentation, int]:
    stop = _beside(cut, char, granularity)[by > 0]
    places = [c for c in cut.scored.chars.tolist() if min(char, stop) < c < max(char, stop)]
    for to in places if by > 0 else reversed(places):
        try:
            return _put(cut, char, to, granularity), to
        except SegmentationError:
            continue
    raise SegmentationError("There is no place between this boundary and the next one where it could go.")


def _put(cut: Segmentation, char: int, to: int, granularity: float) -> Segmentation:
    """The boundary at `char` put elsewhere."""
    made = cut.with_boundary(to)
    return made.without_boundary(char, granularity) if char in made.boundaries(granularity)[0] else made


def _beside(cut: Segmentation, char: int, granularity: float) -> tuple[int, int]:
    """The boundaries before and after that at `char`."""
    starts = [0, *cut.boundaries(granularity)[0].tolist(), len(cut.document.text)]
    if char not in starts[1:-1]:
        raise SegmentationError(f"No block begins at character {char} any more.")
    i = starts.index(char)
    return starts[i - 1], starts[i + 1]


def _entry(workspace: OpenCollection, document_id: str) -> Entry:
    """The document an event speaks of: the browser's word, so that it is looked up, not believed."""
    entry = workspace.entry(document_id)
    if entry is None:
        raise SegmentationError(strings.REMOVED)
    return entry
