"""What one visitor has: documents, their segmentations, an index. Knows no page and no gradio.

A workspace is found by an id that cannot be guessed, and by nothing else; every handler asks for it anew, so that a
visitor reaches only what is theirs. It lives in a folder of its own, which goes when the visitor has been away for
long.
"""

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from blockrag.documents import Document
from blockrag.engine import Engine, Progress
from blockrag.errors import BlockRAGError
from blockrag.pipeline import BlockRAG
from blockrag.segment import DEFAULT_GRANULARITY, DEFAULT_SEGMENTER, Segmentation, SizeBounds

IDLE_S = 4 * 3600
SWEEP_S = 600


class GoneError(BlockRAGError):
    """There is no such workspace, or it has expired."""


@dataclass
class Entry:
    """A document of a workspace, its present cut, and the cut that is indexed.

    `version` grows with every change of the segmentation, so that a page can tell an older view from a newer one.
    """

    segmentation: Segmentation
    segmenter: str
    version: int
    granularity: float = DEFAULT_GRANULARITY
    indexed: tuple[int, ...] | None = None

    @property
    def document(self) -> Document:
        """The document."""
        return self.segmentation.document

    @property
    def starts(self) -> tuple[int, ...]:
        """Where blocks begin now, in characters."""
        return (0, *self.segmentation.boundaries(self.granularity)[0].tolist())

    @property
    def is_indexed(self) -> bool:
        """Whether the index holds the present cut."""
        return self.indexed == self.starts


@dataclass
class Workspace:
    """One visitor's documents and index.

    `stopped` asks whoever indexes it to stop. (Gradio can cancel an event too, but what the event had yielded by then
    may still arrive after what the stop button shows.)
    """

    id: str
    rag: BlockRAG
    last_used: float
    segmenter: str = DEFAULT_SEGMENTER
    entries: dict[str, Entry] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    versions: Iterator[int] = field(default_factory=count)
    stopped: bool = False

    def add(self, document: Document) -> Entry:
        """Take a document in and segment it; the same text twice is one document."""
        segmentation = self.rag.segment(document, self.segmenter)
        with self.lock:
            entry = Entry(segmentation, self.segmenter, next(self.versions))
            return self.entries.setdefault(document.sha256, entry)

    def change(self, entry: Entry, edit: Callable[[Segmentation], Segmentation]) -> None:
        """Replace a document's segmentation by what `edit` makes of it. Edits that come together take turns."""
        with self.lock:
            entry.segmentation = edit(entry.segmentation)
            entry.version = next(self.versions)

    def segment(self, document_id: str, segmenter: str, bounds: SizeBounds) -> Entry:
        """Score a document's boundaries again, by another segmenter or for other sizes; edits are kept."""
        entry = self.entries[document_id]
        fresh = self.rag.segment(entry.document, segmenter, bounds)
        self.change(entry, lambda present: replace(fresh, edits=present.edits))
        entry.segmenter = segmenter
        return entry

    def remove(self, document_id: str) -> None:
        """Forget a document, its blocks and their KV."""
        with self.lock:
            self.entries.pop(document_id, None)
            self.rag.delete(document_id)

    def index(self, entry: Entry) -> Generator[Progress, None, None]:
        """Index a document's present cut; closing the iterator leaves the index as it was."""
        with self.lock:
            starts, steps = entry.starts, self.rag.add(entry.segmentation, entry.granularity)
        yield from steps
        with self.lock:
            entry.indexed = starts
            if entry.document.sha256 not in self.entries:  # removed meanwhile
                self.rag.delete(entry.document.sha256)


class Workspaces:
    """All visitors' workspaces, in folders under one root. Safe to use from several threads.

    Parameters
    ----------
    engine : Engine
        Shared by all.
    root : Path
        Emptied at the start: no visit outlives the process.
    segmenter : str
        Of documents just loaded.
    clock : callable
        Seconds, for tests.
    """

    def __init__(
        self,
        engine: Engine,
        root: Path,
        segmenter: str = DEFAULT_SEGMENTER,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.engine = engine
        self.segmenter = segmenter
        self._root = root
        self._clock = clock
        self._open: dict[str, Workspace] = {}
        self._lock = threading.Lock()
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)

    def create(self) -> Workspace:
        """A new, empty workspace."""
        workspace_id = secrets.token_urlsafe(24)
        rag = BlockRAG(self.engine, self._root / workspace_id)
        workspace = Workspace(workspace_id, rag, self._clock(), self.segmenter)
        with self._lock:
            self._open[workspace_id] = workspace
        return workspace

    def get(self, workspace_id: str | None) -> Workspace:
        """The workspace of this id.

        Raises
        ------
        GoneError
            If there is none.
        """
        workspace = self._open.get(workspace_id or "")
        if workspace is None:
            raise GoneError("there is no such workspace")
        workspace.last_used = self._clock()
        return workspace

    def close(self, workspace_id: str) -> None:
        """Remove a workspace with all that is in it."""
        with self._lock:
            workspace = self._open.pop(workspace_id, None)
        if workspace is not None:
            for document_id in list(workspace.entries):
                workspace.remove(document_id)
            workspace.rag.index.close()
            shutil.rmtree(workspace.rag.index.directory, ignore_errors=True)

    def expire(self) -> None:
        """Remove the workspaces that have been idle for long."""
        for workspace in list(self._open.values()):
            if self._clock() - workspace.last_used > IDLE_S:
                self.close(workspace.id)

    def keep_expiring(self) -> None:
        """Expire for ever, for a thread of its own: a visit ends after its time though no other one begins."""
        while True:
            time.sleep(SWEEP_S)
            self.expire()
