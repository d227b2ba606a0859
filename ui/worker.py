"""Reads uploads and indexes documents in threads of the program. No gradio.

Pending work is in the database (`storage.jobs`), so pages may come and go and a restart resumes it. This module holds
the running work and its progress.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from blockrag.documents import Document, load
from blockrag.documents import Limits as ReadingLimits
from blockrag.documents.media import PDF
from blockrag.errors import BlockRAGError, DocumentError, Stopped
from blockrag.progress import OnProgress, Progress
from storage.collections import CollectionRecord
from storage.documents import UploadRecord
from storage.jobs import IndexRequest, Jobs
from storage.library import Library
from storage.store import Store
from ui import strings
from ui.collection_document import CollectionDocument
from ui.limits import RateLimiter

_LOG = logging.getLogger(__name__)

THREADS = 2
"""Collections worked on at once: a large file does not keep another visitor's small one waiting."""

YIELD_S = 1.0
"""Longest pause before a step while questions are answered, so that work does not make answers slow."""

RETRY_S = 5.0
"""Pause after the database failed."""

IDLE_S = 60.0
"""Longest wait without a look at the database."""


@dataclass
class Running:
    """A file that is being read (`upload_id`) or a document that is being indexed (`document_id`, its row)."""

    collection_id: int
    name: str
    upload_id: int | None = None
    document_id: int | None = None
    step: Progress | None = None
    is_stopped: bool = False
    _stage: str = field(default="", repr=False)
    _began_s: float = field(default=0.0, repr=False)
    _first: int = field(default=0, repr=False)

    def advance(self, step: Progress) -> None:
        """Take a step."""
        if step.stage != self._stage:
            self._stage, self._began_s, self._first = step.stage, time.monotonic(), step.done
        self.step = step

    @property
    def left_s(self) -> float | None:
        """Estimate of the seconds that the stage will still take; None before its second step."""
        done = self.step.done - self._first if self.step else 0
        if self.step is None or done <= 0:
            return None
        return (time.monotonic() - self._began_s) / done * (self.step.total - self.step.done)


class Workplace(Protocol):
    """What work needs of an open collection; see `ui.open_collection.OpenCollection`."""

    @property
    def record(self) -> CollectionRecord: ...
    @property
    def library(self) -> Library: ...
    @property
    def limiter(self) -> RateLimiter: ...
    @property
    def store(self) -> Store: ...
    @property
    def settings(self) -> dict: ...
    def find(self, document_id: str | None) -> CollectionDocument | None: ...
    def add(self, document: Document, upload_id: int | None, on_progress: OnProgress | None) -> None: ...
    def index(self, document: CollectionDocument, on_progress: OnProgress | None) -> None: ...


class Worker:
    """Does the work of all collections, one job of a collection at a time, collections in turn. Thread-safe.

    Parameters
    ----------
    jobs : Jobs
    open_collection : callable
        Opens a collection by its token; returns None if it is gone.
    """

    def __init__(self, jobs: Jobs, open_collection: Callable[[str], Workplace | None]):
        self._jobs, self._open = jobs, open_collection
        self._changed = threading.Condition()
        self._running: dict[int, Running] = {}
        self._served: dict[str, int] = {}
        self._busy: set[str] = set()
        self._due_s = 0.0
        self.notices: dict[int, list[str]] = {}
        self.versions: dict[int, int] = {}

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set and `wake` is called."""
        while not stop.is_set():
            with self._changed:
                self._due_s = time.monotonic() + IDLE_S
            try:
                if self.work():
                    continue
            except BlockRAGError as error:
                _LOG.warning("the work waits: %s", type(error).__name__)
                self._wake_in(RETRY_S)
            with self._changed:
                while not stop.is_set() and (wait_s := self._due_s - time.monotonic()) > 0:
                    self._changed.wait(wait_s)

    def wake(self) -> None:
        """Look for work now."""
        self._wake_in(0.0)

    def work(self) -> bool:
        """Do the next job of the collection that has waited longest; return whether there was one."""
        token = self._take()
        if token is None:
            return False
        try:
            collection = self._open(token)
            return collection is None or self.read_next(collection) or self.index_next(collection)
        finally:
            with self._changed:
                self._busy.discard(token)

    def read_next(self, collection: Workplace) -> bool:
        """Read the first waiting file of a collection; return whether there was one."""
        uploads = collection.store.documents.uploads(collection.record.id)
        upload = next((upload for upload in uploads if upload.state == "waiting"), None)
        if upload is None or self._jobs.is_paused(collection.record.id):
            return False
        self._do(collection, Running(collection.record.id, upload.name, upload_id=upload.id), upload)
        return True

    def index_next(self, collection: Workplace) -> bool:
        """Index the document of a collection that has been due longest; return whether there was one."""
        request = self._jobs.next_request(collection.record.id)
        if request is None or self._jobs.is_paused(collection.record.id):
            return False
        documents = collection.store.documents.of(collection.record.id)
        name = next((record.name for record in documents if record.id == request.document_id), "")
        self._do(collection, Running(collection.record.id, name, document_id=request.document_id), request)
        return True

    def running(self, collection_id: int) -> Running | None:
        """What is being done for a collection."""
        return self._running.get(collection_id)

    def request(self, collection_id: int, document_id: int, delay_s: float = 0.0) -> None:
        """Ask for a document, given by its row, to be indexed after `delay_s`."""
        self._jobs.request(document_id, delay_s)
        self.changed(collection_id)
        self._wake_in(delay_s)

    def stop(self, collection_id: int) -> None:
        """Hold the work of a collection at its next step. What is done stays."""
        self._jobs.pause(collection_id)
        self.cancel(collection_id)

    def resume(self, collection_id: int) -> None:
        """Let the work of a collection go on."""
        self._jobs.pause(collection_id, False)
        self.notices.pop(collection_id, None)
        self.changed(collection_id)
        self.wake()

    def cancel(self, collection_id: int, upload_id: int | None = None, document_id: int | None = None) -> None:
        """End the job at work on a collection, if it is of this file or document (or of any, if neither is given)."""
        running = self._running.get(collection_id)
        wanted = (upload_id, document_id)
        if running and wanted in ((None, None), (running.upload_id, running.document_id)):
            running.is_stopped = True
        self.changed(collection_id)

    def changed(self, collection_id: int) -> None:
        """Count a change of what pages show of a collection."""
        with self._changed:
            self.versions[collection_id] = self.versions.get(collection_id, 0) + 1

    def _take(self) -> str | None:
        with self._changed:
            waiting = [token for token in self._jobs.collections() if token not in self._busy]
            token = min(waiting, key=lambda token: self._served.get(token, 0), default=None)
            if token is not None:
                self._busy.add(token)
                self._served[token] = max(self._served.values(), default=0) + 1
        return token

    def _wake_in(self, delay_s: float) -> None:
        with self._changed:
            self._due_s = min(self._due_s, time.monotonic() + delay_s)
            self._changed.notify_all()

    def _do(self, collection: Workplace, running: Running, job: UploadRecord | IndexRequest) -> None:
        """Do one job. A job that is stopped waits; one that fails says why."""
        id = collection.record.id
        self._running[id] = running
        self.changed(id)

        def report(step: Progress) -> None:
            running.advance(step)
            self.changed(id)
            _give_way(collection)
            if running.is_stopped:
                raise Stopped("this work was stopped")

        try:
            if isinstance(job, UploadRecord):
                self._read(collection, job, report)
            else:
                self._index(collection, job, report)
        except Stopped:
            pass
        except BlockRAGError as error:
            self._fail(collection, job, error.reason if isinstance(error, DocumentError) else str(error))
        except Exception as error:  # a fault of ours: the file says so, and the others go on
            _LOG.exception("a job failed: %s", type(error).__name__)
            self._fail(collection, job, strings.INTERNAL_ERROR)
        finally:
            del self._running[id]
            self.changed(id)

    def _read(self, collection: Workplace, upload: UploadRecord, report: Callable[[Progress], None]) -> None:
        path, limits = collection.library.upload_path(upload), collection.limiter.limits
        reading = ReadingLimits(max_bytes=limits.file_bytes)
        document = load(path, name=upload.name, limits=reading, encoding=upload.encoding, ocr=upload.ocr)
        if upload.source is not None:
            document = replace(document, source=upload.source)
        report(Progress("segment", 0, len(document.text)))
        known = collection.find(document.id)
        if known and known.record.sha256 == document.sha256:
            self.notices.setdefault(collection.record.id, []).append(strings.SAME_FILE.format(name=upload.name))
        else:
            collection.add(document, None if document.media_type == PDF else upload.id, report)
        self._settle(collection, upload, document)
        if collection.settings["auto_index"] and (added := collection.find(document.id)) and not added.is_indexed:
            self.request(collection.record.id, added.record.id)

    @staticmethod
    def _settle(collection: Workplace, upload: UploadRecord, document: Document) -> None:
        """Keep the file of a PDF with its document, for pictures of its pages; remove any other file."""
        library, added = collection.library, collection.find(document.id)
        if added and document.media_type == PDF:
            former = added.record.file
            if library.keep_file(added.record.id, upload):
                return library.discard_file(former)
        library.dismiss(upload)

    def _index(self, collection: Workplace, request: IndexRequest, report: Callable[[Progress], None]) -> None:
        records = collection.store.documents.of(collection.record.id)
        record = next((record for record in records if record.id == request.document_id), None)
        if record and (document := collection.find(record.document_id)):
            collection.index(document, report)
        self._jobs.done(request)

    def _fail(self, collection: Workplace, job: UploadRecord | IndexRequest, reason: str) -> None:
        if isinstance(job, UploadRecord):
            collection.store.documents.fail(job.id, reason)
            collection.library.upload_path(job).unlink(missing_ok=True)
        else:
            self._jobs.fail(job, reason)


def _give_way(collection: Workplace) -> None:
    """Wait while questions are answered, but not for long: a step of reading would make them slow."""
    queue, until = collection.library.engine.queue, time.monotonic() + YIELD_S
    while queue.n_admitted and time.monotonic() < until:
        time.sleep(0.02)
