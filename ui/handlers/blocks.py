"""Step 2: a document's blocks as the page draws them, and its edits.

The text travels once, in pages of pieces (the spans between candidates); after that only small lists of numbers do.
"""

from statistics import median
from typing import Any

from blockrag.documents import Document
from blockrag.errors import SegmentationError
from ui import strings
from ui.workspace import Entry, Workspace

MAX_PIECES = 5_000


def view(workspace: Workspace, document_id: str | None) -> dict[str, Any]:
    """A document's blocks at its granularity."""
    entry = workspace.entries.get(document_id or "")
    if entry is None:
        return {"empty": strings.NO_BLOCKS}
    blocks = entry.segmentation.blocks(entry.granularity)
    sizes = [block.n_tokens for block in blocks]
    return {
        "workspace": workspace.id,
        "doc": document_id,
        "version": entry.version,
        "starts": [block.start for block in blocks],
        "tokens": sizes,
        "scores": [round(block.score, 3) for block in blocks],
        "edits": len(entry.segmentation.edits),
        "readonly": False,
        "highlight": None,
        "summary": f"{len(blocks)} blocks of {min(sizes)} to {max(sizes)} tokens, median {median(sizes):.0f}",
    }


def source_view(workspace: Workspace, document: Document | None, start: int, end: int, caption: str) -> dict[str, Any]:
    """A document with one span marked."""
    if document is None:
        return {"empty": strings.NO_SOURCE}
    starts = sorted({0, start, end} - ({end} if end >= len(document.text) else set()))
    return {
        "workspace": workspace.id,
        "doc": document.sha256,
        "version": 0,
        "starts": starts,
        "tokens": [0] * len(starts),
        "scores": [0] * len(starts),
        "edits": 0,
        "readonly": True,
        "highlight": start,
        "summary": caption,
    }


def read_pieces(workspace: Workspace, document_id: str, first: int, n: int) -> dict[str, Any]:
    """Pieces ``first`` to ``first + n`` of a document: their offsets and texts, and whether they are the last."""
    if not (0 <= first and 0 < n <= MAX_PIECES):
        raise ValueError(f"pieces {first} to {first + n} were asked for; at most {MAX_PIECES} at once")
    entry = workspace.entries[document_id]
    text, cuts = entry.document.text, entry.segmentation.scored.chars
    offsets = [0, *cuts.tolist(), len(text)][first : first + n + 1]
    return {
        "offsets": offsets[:-1],
        "pieces": [text[a:b] for a, b in zip(offsets, offsets[1:], strict=False)],
        "last": offsets[-1] == len(text),
    }


def toggle(entry: Entry, char: int, version: int, add: bool) -> None:
    """Begin a block at `char`, or merge the one that begins there with its neighbour.

    Raises
    ------
    SegmentationError
        If the edit would break a bound.
    """
    if version != entry.version:
        raise SegmentationError(strings.STALE)
    cut = entry.segmentation
    entry.change(cut.with_boundary(char) if add else cut.without_boundary(char, entry.granularity))


def undo(entry: Entry) -> None:
    """Take the last edit back, if there is one."""
    if entry.segmentation.edits:
        entry.change(entry.segmentation.undo())
