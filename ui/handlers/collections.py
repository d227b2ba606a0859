"""List, delete, export and import collections."""

import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from storage.archive import export, import_
from ui.collection_service import CollectionService
from ui.open_collection import OpenCollection

DOWNLOAD_S = 600
"""How long an exported file can be downloaded."""


def choices(collection: OpenCollection) -> list[tuple[str, str]]:
    """Return name and token of the owner's collections, for a menu."""
    records = collection.store.collections.of(collection.owner)
    return [
        (record.name, record.token) for record in (*records, *([] if collection.record.id else [collection.record]))
    ]


def delete(service: CollectionService, collection: OpenCollection, typed: str) -> bool:
    """Delete the collection if its name was typed; return whether it was deleted."""
    if typed.strip() != collection.record.name:
        return False
    service.delete(collection.record)
    return True


def to_file(collection: OpenCollection) -> Path:
    """Write the collection to a file that is deleted after `DOWNLOAD_S`, and return its path."""
    root = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()) / f"blockrag-exports-{os.getpid()}"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in root.iterdir():
        if time.time() - old.stat().st_mtime > DOWNLOAD_S:
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=root))
    label = re.sub(r"[^\w-]+", "-", collection.record.name, flags=re.ASCII).strip("-")[:40] or "collection"
    path = folder / f"{label}.zip"
    export(collection.library, collection.record, path)
    return path


def from_file(service: CollectionService, collection: OpenCollection, path: Path, address: str = "") -> str:
    """Import a collection from an uploaded file, charged to an `address`, and return its token.

    Raises
    ------
    ArchiveError, ConflictError, LimitError
    """
    collection.limiter.upload(collection.owner, 1)
    service.make_room(address)
    names = {record.name for record in collection.store.collections.of(collection.owner)}
    most = service.limits.n_collections
    with collection.limiter.job(collection.owner), collection.shutdown.guarding(None) as report:
        record = import_(service.library, collection.owner, path, most=most, taken=names, on_progress=report)
    return record.token
