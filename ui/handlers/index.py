"""Show which documents are indexed, how far indexing is, and which tier holds each block's KV; start and stop it."""

from blockrag.progress import Progress
from ui import strings
from ui.collection_document import CollectionDocument
from ui.components.payloads import IndexRow, ProgressPayload
from ui.open_collection import OpenCollection

MAX_CELLS = 400
"""Blocks that are drawn one by one."""


def overview(collection: OpenCollection) -> ProgressPayload:
    """Show every document and whether its current blocks are indexed."""
    rows = [_row(collection, document) for document in collection.documents.values()]
    return {"rows": rows, "empty": strings.NOTHING_TO_INDEX}


def start(collection: OpenCollection) -> ProgressPayload:
    """Have every document indexed that is not, and resume what was stopped."""
    for document in collection.documents.values():
        if not document.is_indexed:
            collection.worker.request(collection.record.id, document.record.id)
    collection.worker.resume(collection.record.id)
    return overview(collection)


def stop(collection: OpenCollection) -> ProgressPayload:
    """Stop the work on this collection at its next step."""
    collection.worker.stop(collection.record.id)
    return overview(collection)


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
    running = collection.worker.running(collection.record.id)
    if running and running.document_id == document.record.id and running.step and not running.is_stopped:
        return _running_row(document, running.step, running.left_s)
    request = collection.store.jobs.requests(collection.record.id).get(document.record.id)
    if request and request.reason:
        row["state"], row["text"] = "failed", request.reason
    elif request and not document.is_indexed and not collection.store.jobs.is_paused(collection.record.id):
        row["text"] = strings.QUEUED
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
