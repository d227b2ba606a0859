"""Step 1: files in, documents out."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from blockrag.documents import PAGE_BREAK, load
from blockrag.errors import BlockRAGError, DocumentError
from ui import strings
from ui.workspace import Entry, Workspace


def load_files(workspace: Workspace, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Load uploaded files one by one, yielding the view before each and at the end; the uploads are deleted."""
    refused: list[dict[str, Any]] = []
    for path in paths:
        yield view(workspace, [*refused, _row(path.name, strings.LOADING)])
        try:
            workspace.add(load(path))
        except DocumentError as error:
            refused.append(_row(error.name, error.reason, failed=True))
        except BlockRAGError as error:
            refused.append(_row(path.name, str(error), failed=True))
        finally:
            path.unlink(missing_ok=True)
    yield view(workspace, refused)


def load_sample(workspace: Workspace, path: Path) -> dict[str, Any]:
    """Load a file that is not an upload, and stays."""
    workspace.add(load(path))
    return view(workspace)


def view(workspace: Workspace, others: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The table of documents, and of files that are none, or not yet."""
    return {"rows": [*map(_document, workspace.entries.values()), *others], "empty": strings.NO_DOCUMENTS}


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """Name and id of every document, for a menu."""
    return [(entry.document.name, id) for id, entry in workspace.entries.items()]


def _document(entry: Entry) -> dict[str, Any]:
    document = entry.document
    n_pages = document.text.count(PAGE_BREAK) + 1
    kind = document.media_type.rsplit("/", 1)[-1].rsplit(".", 1)[-1].removeprefix("x-")
    size = f"{len(document.text):,} characters" + (f", {n_pages} pages" if n_pages > 1 else "")
    return _row(document.name, strings.READY) | {"id": document.sha256, "kind": kind, "size": size}


def _row(name: str, state: str, *, failed: bool = False) -> dict[str, Any]:
    return {"id": "", "name": name, "kind": "", "size": "", "state": state, "failed": failed}
