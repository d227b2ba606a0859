"""Step 2: a document's blocks as the page draws them, and its edits.

The text travels once, in pages of pieces (the spans between candidates); after that only small lists of numbers do.
"""

from statistics import median
from typing import Any

from blockrag.documents import Document
from blockrag.segment import Segmentation
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
    return _shown(workspace, entry.document) | {
        "version": entry.version,
        "starts": [block.start for block in blocks],
        "tokens": sizes,
        "scores": [round(block.score, 3) for block in blocks],
        "added": _added(entry.segmentation),
        "edits": len(entry.segmentation.edits),
        "summary": f"{len(blocks)} blocks of {min(sizes)} to {max(sizes)} tokens, median {median(sizes):.0f}",
        "hint": strings.EDIT_HINT,
    }


def source_view(workspace: Workspace, document: Document | None, start: int, end: int, caption: str) -> dict[str, Any]:
    """A document with one span marked, for reading only."""
    if document is None:
        return {"empty": strings.NO_SOURCE}
    starts = sorted({0, start, end} - {len(document.text)})
    return _shown(workspace, document) | {"starts": starts, "highlight": start, "summary": caption}


def _shown(workspace: Workspace, document: Document) -> dict[str, Any]:
    return {"workspace": workspace.id, "doc": document.sha256, "length": len(document.text)}


def _added(segmentation: Segmentation) -> list[int]:
    """Where the user began a block and did not take it back; adding and removing cancel each other."""
    balance: dict[int, int] = {}
    for edit in segmentation.edits:
        balance[edit.char] = balance.get(edit.char, 0) + (1 if edit.kind == "added" else -1)
    return [char for char, n in balance.items() if n > 0]


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


def toggle(workspace: Workspace, entry: Entry, char: int, add: bool) -> None:
    """Begin a block at `char`, or merge the one that begins there with the one before it.

    Raises
    ------
    SegmentationError
        If the edit would break a bound, or no block begins at `char` any more.
    """
    if add:
        workspace.change(entry, lambda cut: cut.with_boundary(char))
    else:
        workspace.change(entry, lambda cut: cut.without_boundary(char, entry.granularity))


def undo(workspace: Workspace, entry: Entry) -> None:
    """Take the last edit back, if there is one."""
    workspace.change(entry, lambda cut: cut.undo() if cut.edits else cut)
