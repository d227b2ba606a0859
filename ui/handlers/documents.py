"""Step 1: files in, documents out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from blockrag.documents import PAGE_BREAK, load
from blockrag.errors import BlockRAGError, DocumentError
from ui import strings
from ui.workspace import Entry, Workspace

Row = list[str]


def load_files(workspace: Workspace, paths: Sequence[Path]) -> Iterator[list[Row]]:
    """Load uploaded files one by one, yielding the table after each; the uploads are deleted."""
    failed: list[Row] = []
    for path in paths:
        try:
            workspace.add(load(path))
        except DocumentError as error:
            failed.append([error.name, "", "", "", error.reason])
        except BlockRAGError as error:
            failed.append([path.name, "", "", "", str(error)])
        finally:
            path.unlink(missing_ok=True)
        yield rows(workspace) + failed


def load_sample(workspace: Workspace, path: Path) -> list[Row]:
    """Load a file that is not an upload, and stays."""
    workspace.add(load(path))
    return rows(workspace)


def rows(workspace: Workspace) -> list[Row]:
    """The table of documents."""
    return [_row(entry) for entry in workspace.entries.values()]


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """Name and id of every document, for a menu."""
    return [(entry.document.name, id) for id, entry in workspace.entries.items()]


def _row(entry: Entry) -> Row:
    document = entry.document
    n_pages = document.text.count(PAGE_BREAK) + 1
    kind = document.media_type.rsplit("/", 1)[-1].rsplit(".", 1)[-1].removeprefix("x-")
    return [document.name, kind, f"{len(document.text):,}", str(n_pages) if n_pages > 1 else "", strings.READY]
