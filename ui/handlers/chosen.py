"""Rename, cut again, remove the documents that are chosen, and say which they are."""

from collections.abc import Collection

from blockrag.progress import OnProgress
from blockrag.segment import SizeBounds
from storage.documents import DocumentRecord
from ui import strings
from ui.open_collection import OpenCollection
from ui.preferences import PreferenceError


def rename(collection: OpenCollection, document_id: str, name: str) -> None:
    """Give a document another name. Raises PreferenceError and NotFoundError."""
    if not (name := " ".join(name.split())):
        raise PreferenceError(strings.RENAME_EMPTY)
    record = collection.store.documents.get(collection.record.id, document_id)
    collection.store.documents.rename(record.id, name)
    collection.worker.changed(collection.record.id)


def recut(collection: OpenCollection, document_ids: Collection[str], on_progress: OnProgress | None = None) -> None:
    """Cut documents into blocks by the owner's settings for new ones. Raises SegmentationError and Stopped."""
    settings = collection.settings
    bounds = SizeBounds(int(settings["min_tokens"]), int(settings["max_tokens"]))
    for document_id in document_ids:
        collection.set_granularity(document_id, float(settings["granularity"]))
        collection.segment(document_id, settings["segmenter"], bounds, on_progress)


def remove_all(collection: OpenCollection, document_ids: Collection[str]) -> None:
    """Remove documents; those that are gone are ignored."""
    for document_id in document_ids:
        if collection.find(document_id):
            collection.remove(document_id)


def chosen_of(collection: OpenCollection, document_ids: Collection[str]) -> list[DocumentRecord]:
    """Return those of the chosen documents that are there."""
    return [r for r in collection.store.documents.of(collection.record.id) if r.document_id in document_ids]


def scope(collection: OpenCollection, document_ids: Collection[str]) -> str:
    """Say, in Markdown, which documents are asked; empty if all are."""
    if not document_ids:
        return ""
    records = collection.store.documents.of(collection.record.id)
    chosen = [record for record in records if record.document_id in document_ids]
    if not chosen:
        return strings.CHOSEN_GONE
    if len(chosen) == 1:
        return strings.CHOSEN_ONE.format(name=strings.escaped(chosen[0].name))
    return strings.CHOSEN_N.format(n=len(chosen), total=len(records))
