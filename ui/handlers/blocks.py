"""Draw a document's blocks and edit their boundaries.

The page fetches the text once, in pages of pieces (the spans between candidates). After that only lists of numbers
travel.
"""

import base64
import re
from collections.abc import Callable
from statistics import median

import numpy as np

from blockrag.documents.pdf_picture import picture
from blockrag.errors import SegmentationError
from blockrag.events import Source
from blockrag.kv.memory import MemoryTier
from blockrag.progress import OnProgress
from blockrag.segment import Block, Edit, Scored, Segmentation
from ui import strings
from ui.collection_document import CollectionDocument
from ui.components.payloads import BlocksPayload, PagePayload, TextPage
from ui.open_collection import OpenCollection

MAX_PIECES = 5_000

PROFILE_BINS = 400
"""Steps of the strip that shows boundary scores beside the text."""


def view(collection: OpenCollection, document_id: str | None) -> BlocksPayload:
    """Draw a document's blocks at its granularity, to edit."""
    document = collection.find(document_id)
    if document is None:
        return {"empty": strings.NO_BLOCKS}
    segmentation, saved = document.segmentation, document.saved
    blocks = segmentation.blocks(saved.granularity)
    return _block_lists(collection, document, blocks) | {
        "version": saved.version,
        "granularity": saved.granularity,
        "profile": _profile(segmentation.scored, len(document.content.text)),
        "added": _added(segmentation),
        "edits": len(segmentation.edits),
        "redo": saved.n_redo,
        "cost": _cost(collection, sum(block.n_tokens for block in blocks)),
        "hint": strings.EDIT_HINT,
    }


def compare(
    collection: OpenCollection,
    document_id: str | None,
    segmenter: str,
    granularity: float,
    on_progress: OnProgress | None = None,
) -> BlocksPayload:
    """Draw a document as another segmenter or granularity splits it, with the boundaries that differ marked."""
    document = collection.find(document_id)
    if document is None:
        return {"empty": strings.NO_BLOCKS}
    segmentation = document.segmentation
    if segmenter != document.saved.segmenter:
        segmentation = collection.preview(document, segmenter, on_progress)
    blocks, starts = segmentation.blocks(granularity), set(document.starts)
    return _block_lists(collection, document, blocks) | {
        "compared": True,
        "differs": [block.start for block in blocks if block.start not in starts],
    }


def source_view(collection: OpenCollection, source: Source | None, statement: str = "") -> BlocksPayload:
    """Draw a source's document, to read, with the source marked, or its sentence that supports a statement."""
    found = collection.find(source.document_id) if source else None
    if source is None or found is None:
        return {"empty": strings.NO_SOURCE}
    document, start, end = found.content, source.start, source.end
    if document.text[start:end] != source.text:
        return {"empty": strings.SOURCE_CHANGED}
    if statement:
        start, end = _sentence(found.segmentation.scored, document.text, start, end, statement)
    return {
        "collection": collection.token,
        "doc": document.id,
        "length": len(document.text),
        "starts": sorted({0, start, end} - {len(document.text)}),
        "highlight": start,
        "summary": strings.SOURCE_CAPTION.format(document=source.document, number=source.number),
    }


def page_view(collection: OpenCollection, source: Source | None) -> PagePayload:
    """Draw the page of a PDF that a source begins on; nothing if its file is not kept. Raises DocumentError and
    LimitError."""
    found = collection.find(source.document_id) if source else None
    path = collection.library.file_of(found.record) if found else None
    if source is None or path is None:
        return {}
    page = source.page or 1  # one page alone has no number
    with collection.limiter.job(collection.owner), path.open("rb") as file:
        image = base64.b64encode(picture(source.document, file, page)).decode("ascii")
    caption = strings.PAGE_CAPTION.format(document=source.document, page=page)
    return {"image": f"data:image/png;base64,{image}", "caption": caption}


def _sentence(scored: Scored, text: str, start: int, end: int, statement: str) -> tuple[int, int]:
    """Return the span of the sentence in ``text[start:end]`` that shares most words with a statement; the whole span if
    none shares any."""
    wanted = set(re.findall(r"\w+", statement.casefold()))
    cuts = [start, *(c for c in scored.chars.tolist() if start < c < end), end]
    spans = list(zip(cuts, cuts[1:], strict=False))
    shared = [len(wanted & set(re.findall(r"\w+", text[a:b].casefold()))) for a, b in spans]
    return spans[shared.index(max(shared))] if max(shared) else (start, end)


def _cost(collection: OpenCollection, n_tokens: int) -> str:
    """Say how much of each tier the KV of `n_tokens` tokens takes."""
    engine = collection.library.engine
    nbytes = n_tokens * engine.model.kv_nbytes_per_token
    parts = []
    for tier in engine.kv.tiers:
        if tier.budget_nbytes is None:
            parts.append(f"{tier.name}: {strings.NO_LIMIT}")
            continue
        share = nbytes / tier.budget_nbytes if tier.budget_nbytes else float("inf")
        at_most = "" if isinstance(tier, MemoryTier) else strings.AT_MOST  # other tiers may store 8 bits
        parts.append(f"{tier.name}: {at_most}{share:.1%}" if share < 1 else f"{tier.name}: {strings.TOO_LARGE}")
    return f"KV {format_bytes(nbytes)} ({', '.join(parts)})"


def format_bytes(nbytes: float) -> str:
    """Format a number of bytes with a decimal unit."""
    for unit in ("B", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} GB"


def _block_lists(collection: OpenCollection, document: CollectionDocument, blocks: tuple[Block, ...]) -> BlocksPayload:
    sizes = [block.n_tokens for block in blocks]
    return {
        "collection": collection.token,
        "doc": document.content.id,
        "length": len(document.content.text),
        "starts": [block.start for block in blocks],
        "tokens": sizes,
        "scores": [round(block.score, 3) for block in blocks],
        "summary": strings.BLOCK_SUMMARY.format(
            n=len(blocks), smallest=min(sizes), largest=max(sizes), median=median(sizes)
        ),
    }


def _profile(scored: Scored, length: int) -> list[int]:
    """Return the highest score, in hundredths, in each of up to `PROFILE_BINS` equal parts of the text."""
    n_bins = min(PROFILE_BINS, length)
    best = np.zeros(n_bins)
    np.maximum.at(best, scored.chars * n_bins // length, scored.scores)
    return [round(100 * float(score)) for score in best]


def _added(segmentation: Segmentation) -> list[int]:
    """Return where the user added a boundary that is still there; adding and removing cancel each other."""
    balance: dict[int, int] = {}
    for edit in segmentation.edits:
        balance[edit.char] = balance.get(edit.char, 0) + (1 if edit.kind == "added" else -1)
    return [char for char, n in balance.items() if n > 0]


def read_pieces(collection: OpenCollection, document_id: str, first: int, n: int) -> TextPage:
    """Return pieces ``first`` to ``first + n`` of a document.

    Raises
    ------
    SegmentationError
        If the document is gone.
    ValueError
        If the range is not valid.
    """
    if not (0 <= first and 0 < n <= MAX_PIECES):
        raise ValueError(f"pieces {first} to {first + n} were requested; at most {MAX_PIECES} at once")
    document = collection.find(document_id)
    if document is None:
        raise SegmentationError(strings.REMOVED)
    text, candidates = document.content.text, document.segmentation.scored.chars
    offsets = [0, *candidates.tolist(), len(text)][first : first + n + 1]
    return {
        "offsets": offsets[:-1],
        "pieces": [text[a:b] for a, b in zip(offsets, offsets[1:], strict=False)],
        "last": offsets[-1] == len(text),
    }


def toggle(collection: OpenCollection, document_id: str, char: int, add: bool) -> None:
    """Add a boundary at `char`, or remove the one that is there.

    Raises
    ------
    SegmentationError
        If a block would be too small or too large, or there is no boundary at `char`.
    """
    _edit(
        collection,
        document_id,
        lambda before, granularity: before.with_boundary(char) if add else before.without_boundary(char, granularity),
    )


def move(collection: OpenCollection, document_id: str, char: int, by: int) -> None:
    """Move the boundary at `char` to the next candidate (`by` 1) or the previous one (`by` -1) that the sizes allow.

    Raises
    ------
    SegmentationError
        If there is none before the neighbouring boundary.
    """
    _edit(collection, document_id, lambda before, granularity: _moved(before, char, by, granularity))


def move_to(collection: OpenCollection, document_id: str, char: int, to: int) -> None:
    """Move the boundary at `char` to `to`, between the previous and the next boundary.

    Raises
    ------
    SegmentationError
        If `to` is not between them, or a block would be too small or too large.
    """

    def moved(before: Segmentation, granularity: float) -> Segmentation:
        first, last = _neighbours(before, char, granularity)
        if not first < to < last:
            raise SegmentationError("Move a boundary only between the previous and the next one.")
        return _replaced(before, char, to, granularity)

    _edit(collection, document_id, moved)


def _edit(collection: OpenCollection, document_id: str, change: Callable[[Segmentation, float], Segmentation]) -> None:
    def edits(document: CollectionDocument) -> list[Edit]:
        before = document.segmentation
        return list(change(before, document.saved.granularity).edits[len(before.edits) :])

    collection.edit(document_id, edits)


def _moved(before: Segmentation, char: int, by: int, granularity: float) -> Segmentation:
    stop = _neighbours(before, char, granularity)[by > 0]
    candidates = [c for c in before.scored.chars.tolist() if min(char, stop) < c < max(char, stop)]
    for to in candidates if by > 0 else reversed(candidates):
        try:
            return _replaced(before, char, to, granularity)
        except SegmentationError:
            continue
    raise SegmentationError("The block sizes leave no room to move this boundary that way.")


def _replaced(before: Segmentation, char: int, to: int, granularity: float) -> Segmentation:
    after = before.with_boundary(to)
    return after.without_boundary(char, granularity) if char in after.boundaries(granularity)[0] else after


def _neighbours(segmentation: Segmentation, char: int, granularity: float) -> tuple[int, int]:
    """Return the boundaries before and after the one at `char`."""
    starts = [0, *segmentation.boundaries(granularity)[0].tolist(), len(segmentation.document.text)]
    if char not in starts[1:-1]:
        raise SegmentationError(f"No block starts at character {char} any more.")
    i = starts.index(char)
    return starts[i - 1], starts[i + 1]
