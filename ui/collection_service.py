"""What all visitors have: whose collections are, and how much of what there may be. Knows no page and no gradio.

Who someone is comes from a login, or from a secret that their browser keeps, or, on a machine of one's own, does not
matter. Every handler asks for the open collection anew, so that a visitor reaches only what is theirs.
"""

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Literal

from blockrag.errors import BlockRAGError
from blockrag.segment import DEFAULT_SEGMENTER
from storage.collections import CollectionRecord
from storage.errors import LimitError, NotFoundError
from storage.library import Library
from ui.collection_document import SegmentationCache
from ui.limits import Limits, RateLimiter
from ui.open_collection import GoneError, JobFlags, OpenCollection
from ui.preferences import DEFAULTS, Started
from ui.shutdown import Shutdown

_LOG = logging.getLogger(__name__)

IDLE_S = 4 * 3600
SWEEP_S = 600
LOCAL = "local"
"""Owner of everything where all who reach the page share it."""

FIRST_COLLECTION = "My documents"

Access = Literal["shared", "private", "login"]
"""Everyone who reaches the page shares all collections; or each browser has its own; or each user."""


class CollectionService:
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
        self.meter = RateLimiter(limits)
        self.ready = SegmentationCache(library)
        self.ending = Shutdown()
        self._clock = clock
        self._live: dict[str, JobFlags] = {}
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

    def get(self, visit: dict | None, user: str | None = None) -> OpenCollection:
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

    def open(self, owner: str | None, token: str) -> OpenCollection:
        """A collection by its token, which nobody can guess. Raises GoneError."""
        try:
            record = self.library.store.collections.get(owner, token)
        except NotFoundError as error:
            raise GoneError(str(error)) from error
        with self._lock:
            return OpenCollection(self, record, self._live.setdefault(token, JobFlags()))

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
