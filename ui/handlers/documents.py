"""Documents: files in, documents out, one by one; what waits can be gone on with."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from blockrag.documents import load
from blockrag.documents.limits import Limits as ReadingLimits
from blockrag.errors import BlockRAGError, DocumentError, Stopped
from blockrag.progress import OnProgress
from storage.documents import UploadRecord
from ui import strings
from ui.collection_document import Entry
from ui.open_collection import OpenCollection
from ui.streaming import stream_progress


def receive(workspace: OpenCollection, paths: Sequence[Path]) -> None:
    """Take uploaded files in, so that none of them is lost, whatever happens next.

    Raises
    ------
    LimitError
        If they are too many.
    """
    workspace.meter.upload(workspace.owner, len(paths))
    for path in paths:
        workspace.library.receive(workspace.record.id, path, path.name)


def read_waiting(workspace: OpenCollection) -> Iterator[dict[str, Any]]:
    """Read the files that wait, one by one, yielding the view before each and at the end."""
    workspace.live.stop_loading = False
    with workspace.meter.job(workspace.owner):
        for upload in _waiting(workspace):
            if workspace.live.stop_loading:
                break
            yield view(workspace, reading=upload.id)
            yield from _read(workspace, upload)
    yield view(workspace)


def load_files(workspace: OpenCollection, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """`receive`, then `read_waiting`."""
    receive(workspace, paths)
    yield from read_waiting(workspace)


def stop(workspace: OpenCollection) -> dict[str, Any]:
    """Read no further file; one that is being segmented waits again."""
    workspace.live.stop_loading = True
    return view(workspace)


def load_sample(workspace: OpenCollection, path: Path, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Load a file that is not an upload; the file stays."""
    workspace.add(load(path), on_progress=on_progress)
    return view(workspace)


def remove(workspace: OpenCollection, document_id: str) -> dict[str, Any]:
    """Remove a document, or a file that is none."""
    if document_id.startswith("upload-"):
        for upload in workspace.store.documents.uploads(workspace.record.id):
            if f"upload-{upload.id}" == document_id:
                workspace.library.dismiss(upload)
    else:
        workspace.remove(document_id)
    return view(workspace)


def view(workspace: OpenCollection, reading: int | None = None, percent: int | None = None) -> dict[str, Any]:
    """The table of documents, and of files that are none, or not yet; of the one that is being read, how much of it is
    segmented."""
    uploads = workspace.store.documents.uploads(workspace.record.id)
    told = strings.LOADING if percent is None else strings.SEGMENTING.format(percent=percent)
    states = {upload.id: told if upload.id == reading else strings.WAITING for upload in uploads}
    rows = [*map(_document, workspace.entries.values()), *(_upload(upload, states[upload.id]) for upload in uploads)]
    n_waiting = sum(upload.state == "waiting" for upload in uploads)
    return {
        "rows": rows,
        "waiting": 0 if reading else n_waiting,
        "progress": strings.LEFT_TO_READ.format(n=n_waiting) if reading else "",
        "empty": strings.NO_DOCUMENTS,
    }


def choices(workspace: OpenCollection) -> list[tuple[str, str]]:
    """Name and id of every document, for a menu."""
    return [(record.name, record.sha256) for record in workspace.store.documents.of(workspace.record.id)]


def _waiting(workspace: OpenCollection) -> list[UploadRecord]:
    return [u for u in workspace.store.documents.uploads(workspace.record.id) if u.state == "waiting"]


def _read(workspace: OpenCollection, upload: UploadRecord) -> Iterator[dict[str, Any]]:
    """Make a document of a file, yielding the view at each per cent; a file that is stopped at waits again."""
    path, limits = workspace.library.upload_path(upload), workspace.meter.limits
    try:
        document = load(path, name=upload.name, limits=ReadingLimits(max_bytes=limits.file_bytes))
        told = 0
        with closing(stream_progress(partial(workspace.add, document, upload.id))) as steps:
            for step in steps:
                if workspace.live.stop_loading:
                    return
                if (percent := round(100 * step.done / step.total)) > told:
                    told = percent
                    yield view(workspace, upload.id, percent)
    except Stopped:
        return
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


def _upload(upload: UploadRecord, state: str) -> dict[str, Any]:
    if upload.state == "failed":
        return _row(upload.name, upload.reason, failed=True) | {"id": f"upload-{upload.id}"}
    return _row(upload.name, state) | {"busy": True}


def _row(name: str, state: str, *, failed: bool = False) -> dict[str, Any]:
    return {"id": "", "name": name, "kind": "", "size": "", "state": state, "failed": failed, "busy": False}
