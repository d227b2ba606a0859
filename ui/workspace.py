"""What a visitor has: collections, and the one that is open. Knows no page and no gradio.

Who someone is comes from a login, or from a secret that their browser keeps, or, on a machine of one's own, does not
matter. Every handler asks for the open collection anew, so that a visitor reaches only what is theirs.
"""

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Literal

from blockrag.documents import Document
from blockrag.engine import Progress
from blockrag.errors import BlockRAGError, SegmentationError
from blockrag.pipeline import Pipeline
from blockrag.segment import DEFAULT_SEGMENTER, Edit, Segmentation, SizeBounds
from blockrag.segment.base import finished
from storage.collections import CollectionRecord
from storage.errors import ConflictError, LimitError, NotFoundError
from storage.library import Library
from ui.ending import Ending
from ui.entry import Entry, Ready
from ui.limits import Limits, Meter
from ui.preferences import DEFAULTS, Started

_LOG = logging.getLogger(__name__)

IDLE_S = 4 * 3600
SWEEP_S = 600
LOCAL = "local"
"""Owner of everything where all who reach the page share it."""

FIRST_COLLECTION = "My documents"

Access = Literal["shared", "private", "login"]
"""Everyone who reaches the page shares all collections; or each browser has its own; or each user."""


class GoneError(BlockRAGError):
    """There is no such collection, or it has expired."""


@dataclass
class Live:
    """What the process holds of an open collection beside the database: requests to stop."""

    stop_indexing: bool = False
    stop_loading: bool = False


class Workspace:
    """One collection, for one handler's while."""

    def __init__(self, service: "Workspaces", record: CollectionRecord, live: Live):
        self._service = service
        self.library = service.library
        self.store = service.library.store
        self.record = record
        self.live = live

    @property
    def id(self) -> str:
        """The collection's token."""
        return self.record.token

    @property
    def owner(self) -> str:
        """Whose it is."""
        return self.record.owner

    @property
    def meter(self) -> Meter:
        """What counts visitors' demands."""
        return self._service.meter

    @property
    def rag(self) -> Pipeline:
        """Its index, in step with the database."""
        return self.library.rag(self.fresh())

    def fresh(self) -> CollectionRecord:
        """The collection as it is now."""
        return self.store.collections.get(self.owner, self.id)

    @property
    def entries(self) -> Mapping[str, Entry]:
        """All documents, by sha256, in the order they came."""
        indexed = self.store.blocks.starts(self.record.id, self.library.made_by)
        cuts = self.store.segmentations.cuts(self.record.id)
        return {
            record.sha256: Entry(self, record, cuts[record.id], indexed.get(record.id))
            for record in self.store.documents.of(self.record.id)
            if record.id in cuts
        }

    def entry(self, document_id: str | None) -> Entry | None:
        """One document, or None where it is gone."""
        try:
            record = self.store.documents.get(self.record.id, document_id or "")
            cut = self.store.segmentations.cut(record.id)
        except NotFoundError:
            return None
        blocks = self.store.blocks.of(record.id)
        mine = tuple(block.block.start for block in blocks if block.made_by == self.library.made_by)
        return Entry(self, record, cut, mine or None)

    def restored(self, entry: Entry) -> Segmentation:
        """The entry's segmentation, kept ready for the next time."""
        return self._service.ready.get(entry)

    def add(self, document: Document, upload_id: int | None = None) -> None:
        """`adding`, without a word."""
        finished(self.adding(document, upload_id))

    def adding(self, document: Document, upload_id: int | None = None) -> Generator[Progress, None, None]:
        """Take a document in and segment it, telling how far that is; the same text twice is one document. Closing the
        generator takes nothing in.

        Raises
        ------
        LimitError
            If the collection, or all together, would hold too much.
        StoppedError
        """
        self._service.check_room(len(document.text))
        settings = self.settings
        bounds = SizeBounds(int(settings["min_tokens"]), int(settings["max_tokens"]))
        granularity = float(settings["granularity"])
        steps = self.library.segmenting(document, settings["segmenter"], bounds, granularity)
        made, cut = yield from self._service.ending.until(steps)
        is_new = self.entry(document.sha256) is None
        document_id = self.store.documents.add(self.record.id, document, cut, self.library.quota, upload_id)
        if is_new:
            self._service.ready.put(document_id, made)
            self._make_ready(document.sha256)

    def _make_ready(self, document_id: str) -> None:
        """Build the tree of boundaries now, which takes seconds in a very long document: the page shows it at once."""
        if entry := self.entry(document_id):
            self.restored(entry).boundaries(entry.granularity)

    @property
    def settings(self) -> dict:
        """The owner's settings; what they did not set is as the application has it."""
        return self._service.settings_of(self.owner)

    def edit(self, document_id: str, make: Callable[[Entry], list[Edit]]) -> None:
        """Keep the edits that `make` finds possible with the document as it is cut. Edits that come together take
        turns, each checked against what the one before left."""
        for _ in range(100):
            entry = self.entry(document_id)
            if entry is None:
                raise SegmentationError("this document was removed meanwhile")
            edits = make(entry)
            try:
                self.store.segmentations.edit(entry.record.id, edits, entry.version)
                return
            except ConflictError:
                continue
        raise ConflictError("this document is being edited by too many at once; try again")

    def undo(self, document_id: str) -> None:
        """Take the last edit back, if there is one."""
        if entry := self.entry(document_id):
            self.store.segmentations.undo(entry.record.id)

    def redo(self, document_id: str) -> None:
        """Make the edit again that was taken back last, if there is one."""
        if entry := self.entry(document_id):
            self.store.segmentations.redo(entry.record.id)

    def set_granularity(self, document_id: str, granularity: float) -> None:
        """Cut a document finer or coarser."""
        if not 0 <= granularity <= 1:
            raise SegmentationError(f"Granularity {granularity} is not in [0, 1]; 0 is coarsest, 1 finest.")
        if entry := self.entry(document_id):
            self.store.segmentations.set_granularity(entry.record.id, float(granularity))

    def segment(self, document_id: str, segmenter: str, bounds: SizeBounds) -> None:
        """`segmenting`, without a word."""
        finished(self.segmenting(document_id, segmenter, bounds))

    def segmenting(self, document_id: str, segmenter: str, bounds: SizeBounds) -> Generator[Progress, None, None]:
        """Score a document's boundaries again, by another segmenter or for other sizes, telling how far that is; edits
        are kept. Closing the generator leaves all as it was.

        Raises
        ------
        SegmentationError
            If the edits cannot be kept within these sizes.
        StoppedError
        """
        entry = self.entry(document_id)
        if entry is None:
            return
        steps = self.library.segmenting(entry.document, segmenter, bounds, entry.granularity)
        made, cut = yield from self._service.ending.until(steps)
        Segmentation(made.document, made.scored, made.sizes, made.bounds, entry.cut.edits)
        self.store.segmentations.put(entry.record.id, cut)
        self._make_ready(document_id)

    def cut_otherwise(self, entry: Entry, segmenter: str) -> Generator[Progress, None, Segmentation]:
        """The same document by another segmenter, to look at: nothing is kept. Raises StoppedError."""
        made, _ = yield from self._service.ending.until(
            self.library.segmenting(entry.document, segmenter, entry.cut.bounds)
        )
        return made

    def remove(self, document_id: str) -> None:
        """Forget a document, its blocks and their KV."""
        if entry := self.entry(document_id):
            self.library.delete_document(self.fresh(), entry.record)

    def index(self, entry: Entry) -> Generator[Progress, None, None]:
        """Index a document's present cut; closing the iterator leaves the index as it was. A document that is removed
        meanwhile ends it."""
        blocks = entry.segmentation.blocks(entry.granularity)
        try:
            steps = self.library.index(self.fresh(), entry.record.id, entry.document, blocks)
            yield from self._service.ending.until(steps)
        except NotFoundError:
            return


class Workspaces:
    """All visitors' collections. Safe to use from several threads.

    Parameters
    ----------
    library : Library
    access : "shared", "private" or "login"
    segmenter : str
        Of documents just loaded, where the visitor has set no other.
    limits : Limits
    expire : bool
        Remove collections that nobody has used for `IDLE_S`.
    clock : callable
        Seconds since 1970, for tests; the store's should be the same.
    started : Started
        Names of the models in use, to be shown.
    """

    def __init__(
        self,
        library: Library,
        access: Access = "shared",
        segmenter: str = DEFAULT_SEGMENTER,
        limits: Limits = Limits(),  # noqa: B008  (frozen)
        *,
        expire: bool = False,
        clock: Callable[[], float] = time.time,
        started: Started = Started(),  # noqa: B008  (frozen)
    ):
        self.library = library
        self.engine = library.engine
        self.access, self.segmenter, self.expires, self.started = access, segmenter, expire, started
        self.meter = Meter(limits)
        self.ready = Ready(library)
        self.ending = Ending()
        self._clock = clock
        self._live: dict[str, Live] = {}
        self._lock = threading.Lock()
        library.quota = limits.quota

    @property
    def limits(self) -> Limits:
        """What visitors may ask for."""
        return self.meter.limits

    def owner(self, secret: str, user: str | None) -> str:
        """Who a visitor is to the database; the secret itself is not kept."""
        if self.access == "login":
            if not user:
                raise GoneError("log in first")
            return f"user:{user}"
        if self.access == "shared":
            return LOCAL
        if len(secret) < 32:
            raise GoneError("there is no such visitor")
        return "visitor:" + hashlib.sha256(secret.encode()).hexdigest()

    def enter(self, visit: dict | None, user: str | None = None) -> dict[str, str]:
        """A visitor comes, perhaps again: their secret, and a collection that is open."""
        known = visit if isinstance(visit, dict) else {}
        secret = str(known.get("secret", ""))
        if len(secret) < 32:
            secret = secrets.token_urlsafe(32)
        owner = self.owner(secret, user)
        try:
            token = self.store_of(owner, str(known.get("collection", ""))).token
        except NotFoundError:
            mine = self.library.store.collections.of(owner)
            token = mine[0].token if mine else self.create(owner, FIRST_COLLECTION).token
        return {"secret": secret, "collection": token}

    def store_of(self, owner: str, token: str) -> CollectionRecord:
        """A collection of this owner's. Raises NotFoundError."""
        return self.library.store.collections.get(owner, token)

    def create(self, owner: str, name: str) -> CollectionRecord:
        """A new collection.

        Raises
        ------
        ConflictError, LimitError
        """
        if self.library.store.collections.count() >= self.limits.n_collections_in_all:
            raise LimitError("there are too many collections of all visitors together; come back later")
        return self.library.store.collections.create(owner, name, self.limits.n_collections)

    def get(self, visit: dict | None, user: str | None = None) -> Workspace:
        """The collection that a visitor has open.

        Raises
        ------
        GoneError
            If there is none, or it is another's.
        """
        if not isinstance(visit, dict):
            raise GoneError("there is no such visit")
        owner = self.owner(str(visit.get("secret", "")), user)
        return self.open(owner, str(visit.get("collection", "")))

    def open(self, owner: str | None, token: str) -> Workspace:
        """A collection by its token, which nobody can guess. Raises GoneError."""
        try:
            record = self.library.store.collections.get(owner, token)
        except NotFoundError as error:
            raise GoneError(str(error)) from error
        with self._lock:
            return Workspace(self, record, self._live.setdefault(token, Live()))

    def check_room(self, n_chars: int) -> None:
        """Raises LimitError where all visitors' documents together would be too much."""
        _, total = self.library.store.documents.totals()
        if total + n_chars > self.limits.total_chars:
            raise LimitError("the documents of all visitors together fill the place; come back later")

    def settings_of(self, owner: str) -> dict:
        """An owner's settings over the defaults."""
        return {**DEFAULTS, "segmenter": self.segmenter, **self.library.store.settings.of(owner)}

    def close(self, record: CollectionRecord) -> None:
        """Remove a collection with all that is in it."""
        self.library.delete_collection(record)
        with self._lock:
            self._live.pop(record.token, None)

    def expire(self) -> None:
        """Remove the collections that have been idle for long."""
        for record in self.library.store.collections.idle_since(self._clock() - IDLE_S):
            _LOG.info("collection %s expired", record.id)
            self.close(record)

    def stop_all(self) -> None:
        """Have every indexing, loading and scoring stop at its next step, and wait for that."""
        with self._lock:
            for live in self._live.values():
                live.stop_indexing = live.stop_loading = True
        self.ending.want()

    def keep_expiring(self, stop: threading.Event) -> None:
        """Expire again and again, for a thread of its own."""
        while not stop.wait(SWEEP_S):
            try:
                self.expire()
            except BlockRAGError as error:  # the next sweep tries again
                _LOG.warning("collections could not be expired: %s", error)
