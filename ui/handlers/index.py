"""Index: every document that is not indexed as it is cut now, told as it goes on; and where its KV is."""

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

from blockrag.errors import BlockRAGError
from blockrag.progress import Progress
from ui import strings
from ui.collection_document import Entry
from ui.open_collection import OpenCollection
from ui.streaming import stream_progress

MAX_CELLS = 400
"""Blocks that are drawn one by one, by the tier of their KV."""

REDRAW_S = 0.2
"""Between two views of a stage: a page that is drawn anew for every block of a quick model hears no click."""


def overview(workspace: OpenCollection) -> dict[str, Any]:
    """Every document and whether its present cut is indexed."""
    rows = [_rest(workspace, entry) for entry in workspace.entries.values()]
    return {"rows": rows, "empty": strings.NOTHING_TO_INDEX}


def start(workspace: OpenCollection) -> dict[str, Any]:
    """The same, while the model is still busy with something else."""
    workspace.live.stop_indexing = False
    rows = [_rest(workspace, entry) for entry in workspace.entries.values()]
    return {
        "rows": [row if row["state"] == "done" else row | {"text": strings.QUEUED} for row in rows],
        "empty": strings.NOTHING_TO_INDEX,
    }


def stop(workspace: OpenCollection) -> dict[str, Any]:
    """Have the indexing stop at its next step."""
    workspace.live.stop_indexing = True
    return overview(workspace)


def index_all(workspace: OpenCollection) -> Iterator[dict[str, Any]]:
    """Index what is not indexed, yielding the view as it goes on; the last one is what stands when all is over."""
    failed: dict[str, str] = {}
    with workspace.meter.job(workspace.owner):
        for document_id, entry in workspace.entries.items():
            if entry.is_indexed or workspace.live.stop_indexing:
                continue
            rest = overview(workspace)["rows"]
            pace = Pace()
            try:
                with closing(stream_progress(partial(workspace.index, entry))) as steps:
                    for step in steps:
                        if workspace.live.stop_indexing:
                            break
                        if pace.is_due(step):
                            yield _with(rest, document_id, _running(entry, step, pace.left(step)), failed)
            except BlockRAGError as error:
                failed[document_id] = str(error)
        yield _with(overview(workspace)["rows"], "", {}, failed)


class Pace:
    """When the view is due, and how long a stage will still take, from how long it took so far."""

    def __init__(self) -> None:
        self._stage, self._began, self._first = "", 0.0, 0
        self._told = 0.0

    def is_due(self, step: Progress) -> bool:
        """Whether to tell of this step: the first and the last of a stage, and others now and then."""
        now = time.monotonic()
        if step.stage == self._stage and step.done < step.total and now - self._told < REDRAW_S:
            return False
        self._told = now
        return True

    def left(self, step: Progress) -> float | None:
        """Seconds; None before anything can be said."""
        now = time.monotonic()
        if step.stage != self._stage:
            self._stage, self._began, self._first = step.stage, now, step.done
        done = step.done - self._first
        return (now - self._began) / done * (step.total - step.done) if done > 0 else None


def _with(
    rows: list[dict[str, Any]], running_id: str, running: dict[str, Any], failed: dict[str, str]
) -> dict[str, Any]:
    shown = []
    for row in rows:
        if row["id"] == running_id:
            row = running
        if row["id"] in failed:
            row = row | {"state": "failed", "text": failed[row["id"]]}
        shown.append(row)
    return {"rows": shown, "empty": strings.NOTHING_TO_INDEX}


def _rest(workspace: OpenCollection, entry: Entry) -> dict[str, Any]:
    n_blocks = len(entry.starts)
    row = {"id": entry.record.sha256, "name": entry.record.name, "total": n_blocks}
    if entry.is_indexed:
        cells = _cells(workspace, entry)
        where = ", ".join(f"{cells.count(tier)} in {tier}" for tier in dict.fromkeys(cells) if tier)
        missing = cells.count("")
        told = f"KV of {where}" if where else ""
        told += f"{', ' if told else ''}{missing} {strings.KV_NOWHERE}" if missing else ""
        text = f"{n_blocks} blocks indexed · {told}"
        return row | {"text": text, "done": n_blocks, "state": "done", "cells": cells[:MAX_CELLS]}
    fresh = entry.indexed is None
    text = f"{n_blocks} blocks, {strings.NOT_INDEXED if fresh else strings.CUT_ANEW}"
    return row | {"text": text, "done": 0, "state": "waiting", "cells": []}


def _cells(workspace: OpenCollection, entry: Entry) -> list[str]:
    """The fastest tier that has each block's KV now, or an empty string."""
    records = workspace.store.blocks.of(entry.record.id)
    return [next(iter(workspace.library.tiers_of(record.kv_key)), "") for record in records]


def _running(entry: Entry, step: Progress, left: float | None) -> dict[str, Any]:
    wait = "" if left is None else f", about {left:.0f} s left" if left >= 1 else ", nearly done"
    if step.stage == "embed":
        reused = f", {step.reused} as before" if step.reused else ""
        text, done = f"embedding {step.done} of {step.total} blocks{reused}{wait}", 0
    else:
        reused = f", {step.reused} were cached" if step.reused else ""
        text, done = f"encoded {step.done} of {step.total} blocks{reused}{wait}", step.done
    row = {"id": entry.record.sha256, "name": entry.record.name, "cells": []}
    return row | {"text": text, "done": done, "total": step.total, "state": "running"}
