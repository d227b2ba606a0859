"""Documents: files in, documents out, one by one; what waits can be gone on with."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from blockrag.documents import load
from blockrag.documents.limits import Limits as ReadingLimits
from blockrag.errors import BlockRAGError, DocumentError
from storage.documents import UploadRecord
from ui import strings
from ui.workspace import Entry, Workspace


def receive(workspace: Workspace, paths: Sequence[Path]) -> None:
    """Take uploaded files in, so that none of them is lost, whatever happens next.

    Raises
    ------
    LimitError
        If they are too many; the files are deleted.
    """
    try:
        workspace.meter.upload(workspace.owner, len(paths))
    except BlockRAGError:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    for path in paths:
        workspace.library.receive(workspace.record.id, path, path.name)


def read_waiting(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """Read the files that wait, one by one, yielding the view before each and at the end."""
    workspace.live.stop_loading = False
    with workspace.meter.job(workspace.owner):
        for upload in _waiting(workspace):
            if workspace.live.stop_loading:
                break
            yield view(workspace, reading=upload.id)
            _read(workspace, upload)
    yield view(workspace)


def load_files(workspace: Workspace, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """`receive`, then `read_waiting`."""
    receive(workspace, paths)
    yield from read_waiting(workspace)


def stop(workspace: Workspace) -> dict[str, Any]:
    """Read no further file."""
    workspace.live.stop_loading = True
    return view(workspace)


def load_sample(workspace: Workspace, path: Path) -> dict[str, Any]:
    """Load a file that is not an upload, and stays."""
    workspace.add(load(path))
    return view(workspace)


def remove(workspace: Workspace, document_id: str) -> dict[str, Any]:
    """Remove a document, or a file that is none."""
    if document_id.startswith("upload-"):
        for upload in workspace.store.documents.uploads(workspace.record.id):
            if f"upload-{upload.id}" == document_id:
                workspace.library.dismiss(upload)
    else:
        workspace.remove(document_id)
    return view(workspace)


def view(workspace: Workspace, reading: int | None = None) -> dict[str, Any]:
    """The table of documents, and of files that are none, or not yet."""
    uploads = workspace.store.documents.uploads(workspace.record.id)
    rows = [*map(_document, workspace.entries.values()), *(_upload(upload, reading) for upload in uploads)]
    n_waiting = sum(upload.state == "waiting" for upload in uploads)
    return {
        "rows": rows,
        "waiting": 0 if reading else n_waiting,
        "progress": strings.LEFT_TO_READ.format(n=n_waiting) if reading else "",
        "empty": strings.NO_DOCUMENTS,
    }


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """Name and id of every document, for a menu."""
    return [(record.name, record.sha256) for record in workspace.store.documents.of(workspace.record.id)]


def _waiting(workspace: Workspace) -> list[UploadRecord]:
    return [u for u in workspace.store.documents.uploads(workspace.record.id) if u.state == "waiting"]


def _read(workspace: Workspace, upload: UploadRecord) -> None:
    path, limits = workspace.library.upload_path(upload), workspace.meter.limits
    try:
        document = load(path, name=upload.name, limits=ReadingLimits(max_bytes=limits.file_bytes))
        workspace.add(document, upload.id)
    except DocumentError as error:
        workspace.store.documents.fail(upload.id, error.reason)
    except BlockRAGError as error:
        workspace.store.documents.fail(upload.id, str(error))
    path.unlink(missing_ok=True)


def _document(entry: Entry) -> dict[str, Any]:
    record = entry.record
    kind = record.media_type.rsplit("/", 1)[-1].rsplit(".", 1)[-1].removeprefix("x-")
    state = strings.READY if entry.indexed is None else strings.INDEXED
    size = f"{record.n_chars:,} characters"
    return _row(record.name, state) | {"id": record.sha256, "kind": kind, "size": size}


def _upload(upload: UploadRecord, reading: int | None) -> dict[str, Any]:
    if upload.state == "failed":
        return _row(upload.name, upload.reason, failed=True) | {"id": f"upload-{upload.id}"}
    state = strings.LOADING if upload.id == reading else strings.WAITING
    return _row(upload.name, state) | {"busy": True}


def _row(name: str, state: str, *, failed: bool = False) -> dict[str, Any]:
    return {"id": "", "name": name, "kind": "", "size": "", "state": state, "failed": failed, "busy": False}
