"""Step 3: index every document that is not indexed as it is cut now, told block by block."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from blockrag.engine import Progress
from blockrag.errors import BlockRAGError
from ui import strings
from ui.workspace import Entry, Workspace


def overview(workspace: Workspace) -> dict[str, Any]:
    """Every document and whether its present cut is indexed."""
    return {"rows": [_rest(entry) for entry in workspace.entries.values()], "empty": strings.NOTHING_TO_INDEX}


def start(workspace: Workspace) -> dict[str, Any]:
    """The same, while the model is still busy with something else."""
    workspace.stopped = False
    rows = [_rest(entry) for entry in workspace.entries.values()]
    return {
        "rows": [row if row["state"] == "done" else row | {"text": strings.QUEUED} for row in rows],
        "empty": strings.NOTHING_TO_INDEX,
    }


def stop(workspace: Workspace) -> dict[str, Any]:
    """Have the indexing stop at its next step."""
    workspace.stopped = True
    return overview(workspace)


def index_all(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """Index what is not indexed, yielding the view after each step; the last one is what stands when all is over."""
    failed: dict[str, str] = {}
    for document_id, entry in list(workspace.entries.items()):
        if entry.is_indexed or workspace.stopped:
            continue
        try:
            with closing(workspace.index(entry)) as steps:
                for step in steps:
                    if workspace.stopped:
                        break
                    yield _with(workspace, document_id, _running(entry, step), failed)
        except BlockRAGError as error:
            failed[document_id] = str(error)
    yield _with(workspace, "", {}, failed)


def _with(workspace: Workspace, running_id: str, running: dict[str, Any], failed: dict[str, str]) -> dict[str, Any]:
    rows = []
    for document_id, entry in workspace.entries.items():
        row = running if document_id == running_id else _rest(entry)
        if document_id in failed:
            row = row | {"state": "failed", "text": failed[document_id]}
        rows.append(row)
    return {"rows": rows, "empty": strings.NOTHING_TO_INDEX}


def _rest(entry: Entry) -> dict[str, Any]:
    n_blocks = len(entry.starts)
    if entry.is_indexed:
        text, done = f"{n_blocks} blocks indexed", n_blocks
    elif entry.indexed is None:
        text, done = f"{n_blocks} blocks, not indexed", 0
    else:
        text, done = f"{n_blocks} blocks, cut anew since it was indexed", 0
    state = "done" if entry.is_indexed else "waiting"
    return {"name": entry.document.name, "text": text, "done": done, "total": n_blocks, "state": state}


def _running(entry: Entry, step: Progress) -> dict[str, Any]:
    if step.stage == "embed":
        text, done = f"embedding {step.done} of {step.total} blocks", 0
    else:
        reused = f", {step.reused} were cached" if step.reused else ""
        text, done = f"encoded {step.done} of {step.total} blocks{reused}", step.done
    return {"name": entry.document.name, "text": text, "done": done, "total": step.total, "state": "running"}
