"""Collections: which there are, a new one, another name, away with one, out of a file and into one."""

import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from storage.archive import export, import_
from ui.collection_service import CollectionService
from ui.open_collection import OpenCollection

FETCH_S = 600
"""How long an exported file can be fetched."""


def choices(workspace: OpenCollection) -> list[tuple[str, str]]:
    """Name and token of the owner's collections, for a menu."""
    return [(record.name, record.token) for record in workspace.store.collections.of(workspace.owner)]


def create(workspaces: CollectionService, workspace: OpenCollection, name: str) -> str:
    """A new collection of the same owner; returns its token. Raises ConflictError, LimitError."""
    return workspaces.create(workspace.owner, name).token


def rename(workspace: OpenCollection, name: str) -> None:
    """Give the collection another name. Raises ConflictError."""
    workspace.store.collections.rename(workspace.record.id, name)


def delete(workspaces: CollectionService, workspace: OpenCollection, typed: str) -> bool:
    """Delete the collection where its name was typed; returns whether it is gone."""
    if typed.strip() != workspace.record.name:
        return False
    workspaces.close(workspace.record)
    return True


def to_file(workspace: OpenCollection) -> Path:
    """Write the collection to a file in a folder of its own, which goes after `FETCH_S`; returns its path."""
    root = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()) / f"blockrag-exports-{os.getpid()}"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in root.iterdir():
        if time.time() - old.stat().st_mtime > FETCH_S:
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=root))
    label = re.sub(r"[^\w-]+", "-", workspace.record.name, flags=re.ASCII).strip("-")[:40] or "collection"
    path = folder / f"{label}.zip"
    export(workspace.library, workspace.record, path)
    return path


def from_file(workspaces: CollectionService, workspace: OpenCollection, path: Path) -> str:
    """A new collection from a file that Gradio received; returns its token.

    Raises
    ------
    ArchiveError, ConflictError, LimitError
    """
    workspace.meter.upload(workspace.owner, 1)
    names = {record.name for record in workspace.store.collections.of(workspace.owner)}
    record = import_(workspaces.library, workspace.owner, path, most=workspaces.limits.n_collections, taken=names)
    return record.token


def view(workspace: OpenCollection) -> dict[str, Any]:
    """What the collection holds, in a sentence."""
    n_documents, n_chars = workspace.store.documents.totals(workspace.record.id)
    quota = workspace.library.quota
    return {
        "summary": f"{n_documents} of at most {quota.n_documents:,} documents, "
        f"{n_chars:,} of at most {quota.n_chars:,} characters"
    }
