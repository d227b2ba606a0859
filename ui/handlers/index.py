"""Index the documents whose blocks changed, show progress, and show which tier holds each block's KV."""

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

from blockrag.errors import BlockRAGError
from blockrag.progress import Progress
from ui import strings
from ui.collection_document import CollectionDocument
from ui.components.payloads import IndexRow, ProgressPayload
from ui.jobs import stream_progress
from ui.open_collection import OpenCollection

MAX_CELLS = 400
"""Blocks that are drawn one by one."""

REDRAW_S = 0.2
"""Between two views of a stage: a page redrawn for every block of a fast model registers no click."""


def overview(collection: OpenCollection) -> ProgressPayload:
    """Draw every document and whether its blocks are indexed as they are now."""
    return _payload([_row(collection, document) for document in collection.documents.values()])


def start(collection: OpenCollection) -> ProgressPayload:
    """Draw the documents to index while the model is busy with other work."""
    collection.flags.stop_indexing = False
    rows = overview(collection)["rows"]
    for row in rows:
        if row["state"] != "done":
            row["text"] = strings.QUEUED
    return _payload(rows)


def stop(collection: OpenCollection) -> ProgressPayload:
    """Stop indexing at its next step."""
    collection.flags.stop_indexing = True
    return overview(collection)


def index_all(collection: OpenCollection) -> Iterator[ProgressPayload]:
    """Index what is not indexed, yielding the view as it proceeds; the last view is the result."""
    errors: dict[str, str] = {}
    with collection.limiter.job(collection.owner):
        for document_id, document in collection.documents.items():
            if document.is_indexed or collection.flags.stop_indexing:
                continue
            rows = _with_errors(overview(collection)["rows"], errors)
            pace = _Pace()
            try:
                with closing(stream_progress(partial(collection.index, document))) as steps:
                    for step in steps:
                        if collection.flags.stop_indexing:
                            break
                        if pace.is_due(step):
                            running = _running_row(document, step, pace.left_s(step))
                            yield _payload([running if row["id"] == document_id else row for row in rows])
            except BlockRAGError as error:
                errors[document_id] = str(error)
        yield _payload(_with_errors(overview(collection)["rows"], errors))


class _Pace:
    """Decides when to redraw, and estimates how long a stage will still take."""

    def __init__(self) -> None:
        self._stage, self._began_s, self._first = "", 0.0, 0
        self._drawn_s = 0.0

    def is_due(self, step: Progress) -> bool:
        """Return True for the first and last step of a stage, and for others every `REDRAW_S`."""
        now = time.monotonic()
        if step.stage == self._stage and step.done < step.total and now - self._drawn_s < REDRAW_S:
            return False
        self._drawn_s = now
        return True

    def left_s(self, step: Progress) -> float | None:
        """Return the estimate in seconds, or None at the first step of a stage."""
        now = time.monotonic()
        if step.stage != self._stage:
            self._stage, self._began_s, self._first = step.stage, now, step.done
        done = step.done - self._first
        return (now - self._began_s) / done * (step.total - step.done) if done > 0 else None


def _payload(rows: list[IndexRow]) -> ProgressPayload:
    return {"rows": rows, "empty": strings.NOTHING_TO_INDEX}


def _with_errors(rows: list[IndexRow], errors: dict[str, str]) -> list[IndexRow]:
    for row in rows:
        if row["id"] in errors:
            row["state"], row["text"] = "failed", errors[row["id"]]
    return rows


def _row(collection: OpenCollection, document: CollectionDocument) -> IndexRow:
    n_blocks = len(document.starts)
    row: IndexRow = {
        "id": document.record.document_id,
        "name": document.record.name,
        "text": strings.NOT_INDEXED.format(n=n_blocks),
        "done": 0,
        "total": n_blocks,
        "state": "waiting",
        "cells": [],
    }
    if document.is_indexed:
        cells = _cells(collection, document)
        row["text"] = strings.INDEXED_BLOCKS.format(n=n_blocks, kv=_kv_summary(collection, cells))
        row["done"], row["state"], row["cells"] = n_blocks, "done", cells[:MAX_CELLS]
    elif document.indexed_starts is not None:
        row["text"] = strings.INDEX_OUTDATED.format(n=n_blocks)
    return row


def _cells(collection: OpenCollection, document: CollectionDocument) -> list[str]:
    """Return the fastest tier that holds each block's KV, or an empty string."""
    records = collection.store.blocks.of(document.record.id)
    return [next(iter(collection.library.tiers_of(record.kv_key)), "") for record in records]


def _kv_summary(collection: OpenCollection, cells: list[str]) -> str:
    tiers = [strings.BLOCKS_IN_TIER.format(n=cells.count(tier), tier=tier) for tier in dict.fromkeys(cells) if tier]
    parts = [strings.KV_IN_TIERS.format(tiers=", ".join(tiers))] if tiers else []
    if n_missing := cells.count(""):
        is_local = all(tier.is_local for tier in collection.library.engine.kv.tiers)
        parts.append((strings.KV_NOT_CACHED if is_local else strings.KV_NOT_LOCAL).format(n=n_missing))
    return " · ".join(parts)


def _running_row(document: CollectionDocument, step: Progress, left_s: float | None) -> IndexRow:
    text = strings.EMBEDDING if step.stage == "embed" else strings.ENCODING
    text = text.format(done=step.done, total=step.total)
    if step.reused:
        text += strings.REUSED.format(n=step.reused)
    if left_s is not None:
        text += strings.SECONDS_LEFT.format(s=left_s) if left_s >= 1 else strings.NEARLY_DONE
    return {
        "id": document.record.document_id,
        "name": document.record.name,
        "text": text,
        "done": 0 if step.stage == "embed" else step.done,
        "total": step.total,
        "state": "running",
        "cells": [],
    }
