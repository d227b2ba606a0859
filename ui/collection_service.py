"""Who owns which collection, and what all visitors share. No gradio.

A visitor is known by a login, or by a secret that their browser keeps; on a machine of one's own everyone is the same
visitor. Every handler opens its collection anew, so visitors reach only what is theirs.
"""

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain, count
from typing import Any, Literal

from blockrag.engine import Engine
from blockrag.errors import BlockRAGError
from blockrag.segment import DEFAULT_SEGMENTER
from storage.collections import CollectionRecord
from storage.errors import ConflictError, LimitError, NotFoundError
from storage.library import Library
from storage.settings import APPLICATION
from ui import strings
from ui.collection_document import SegmentationCache
from ui.jobs import Shutdown
from ui.limits import Limits, RateLimiter
from ui.models import ModelNames, ModelSwitch
from ui.open_collection import GoneError, OpenCollection
from ui.preferences import PreferenceError
from ui.questions import Questions
from ui.worker import Worker

_LOG = logging.getLogger(__name__)

IDLE_S = 4 * 3600
EXPIRY_CHECK_S = 600
EMPTY_IDLE_S = 600
"""After this, a visitor's empty collection may give way to another."""
EVICTED_AT_ONCE = 50
LOCAL = "local"
"""Owner of everything in shared mode."""
VISITOR = "visitor:"
"""Begins the names of owners whom a cookie tells, or a collection's token alone."""

FIRST_COLLECTION = "My documents"
MIN_SECRET_CHARS = 32

Access = Literal["shared", "private", "login"]
"""Everyone shares all collections; or each browser has its own; or each user."""


def no_other_model(name: str) -> Engine:
    """Refuse another model, where none can be loaded."""
    raise PreferenceError(strings.MODELS_ELSEWHERE)


class CollectionService:
    """All visitors' collections. Thread-safe.

    Parameters
    ----------
    library : Library
    access : "shared", "private" or "login"
    segmenter : str
        For new documents of visitors who chose none.
    limits : Limits
    expire : bool
        Delete collections that nobody has used for `IDLE_S`.
    clock : callable
        Seconds since 1970; the store must use the same.
    model_names : ModelNames
    load_model : callable, optional
        Returns the engine of another answering model, given by name.
    is_personal : bool
        Whether collections are shared and only this machine is served: the page may then change what is everyone's.

    Attributes
    ----------
    model : ModelSwitch
    on_model : list of callables
        Called with the engine after the model was changed.
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
        model_names: ModelNames = ModelNames(),  # noqa: B008  (frozen)
        load_model: Callable[[str], Engine] = no_other_model,
        is_personal: bool = True,
    ):
        self.library, self.access, self.segmenter = library, access, segmenter
        self.expires, self.model_names = expire, model_names
        self.is_personal = is_personal and access == "shared"
        self.limiter = RateLimiter(limits)
        self._segmentations, self._shutdown = SegmentationCache(library), Shutdown()
        self._clock = clock
        self.questions = Questions()
        self.worker = Worker(library.store.jobs, self._find)
        self.model = ModelSwitch(load_model, self.use_model)
        self.on_model: list[Callable[[Engine], object]] = []
        library.quota = limits.quota

    @property
    def engine(self) -> Engine:
        """The models and the KV cache."""
        return self.library.engine

    @property
    def limits(self) -> Limits:
        """What each visitor may use."""
        return self.limiter.limits

    def may_manage(self, address: str) -> bool:
        """Whether a visitor at this address ("" on this machine) may change what is everyone's, and read folders."""
        return self.is_personal and not address

    def owner(self, secret: str, user: str | None) -> str:
        """Return the visitor's name in the database; the secret itself is not stored. Raises GoneError."""
        if self.access == "login":
            if not user:
                raise GoneError("log in first")
            return f"user:{user}"
        if self.access == "shared":
            return LOCAL
        if len(secret) < MIN_SECRET_CHARS:
            raise GoneError("there is no such visitor")
        return VISITOR + hashlib.sha256(secret.encode()).hexdigest()

    def enter(self, visitor: Any, user: str | None = None) -> dict[str, str]:
        """Return the secret and the collection to open of a visitor who is new or returns: its token, or "" if there is
        none yet."""
        known = visitor if isinstance(visitor, dict) else {}
        secret = str(known.get("secret", ""))
        if len(secret) < MIN_SECRET_CHARS:
            secret = secrets.token_urlsafe(32)
        owner, collections = self.owner(secret, user), self.library.store.collections
        try:
            token = collections.get(owner, str(known.get("collection", ""))).token
        except NotFoundError:
            token = next((mine.token for mine in collections.of(owner)), "")
        return {"secret": secret, "collection": token}

    def _first(self, owner: str) -> CollectionRecord:
        """Return the owner's collection `FIRST_COLLECTION`, or one without a row."""
        collections = self.library.store.collections
        for mine in collections.of(owner):
            if mine.name == FIRST_COLLECTION:
                return collections.get(owner, mine.token)
        now = self._clock()
        return CollectionRecord(0, "", owner, FIRST_COLLECTION, now, now, 0)

    def _create_first(self, owner: str, address: str) -> CollectionRecord:
        try:
            return self.create(owner, FIRST_COLLECTION, address)
        except ConflictError:  # another tab of the same browser created it a moment ago
            return self._first(owner)

    def create(self, owner: str, name: str, address: str = "") -> CollectionRecord:
        """Create a collection, charged to an `address` (see `RateLimiter.collection`). If there is no room, empty ones
        of visitors who have left give way.

        Raises
        ------
        ConflictError, LimitError
        """
        self.make_room(address)
        return self.library.store.collections.create(owner, name, self.limits.n_collections)

    def make_room(self, address: str) -> None:
        """Count a new collection of an address, and see that there is room for it. Raises LimitError."""
        self.limiter.collection(address)
        collections = self.library.store.collections
        if collections.count() >= self.limits.n_collections_in_all:
            for record in collections.idle_empty(self._clock() - EMPTY_IDLE_S, VISITOR, EVICTED_AT_ONCE):
                self._expire(record)
        if collections.count() >= self.limits.n_collections_in_all:
            raise LimitError("the server has too many collections; try again later")

    def adopt(self, secret: str, owner: str) -> None:
        """Give `owner` the collections and settings of the visitor with this secret. Raises GoneError."""
        if self.access != "private":
            return
        store, former = self.library.store, self.owner(secret, None)
        for record in store.collections.of(former) if former != owner else ():
            taken = {mine.name for mine in store.collections.of(owner)}
            names = chain([record.name], (f"{record.name[:190]} ({n})" for n in count(2)))
            name = next(name for name in names if name not in taken)
            store.collections.give(record.id, owner, name, self.limits.n_collections_in_all)
        store.settings.put(owner, {**store.settings.of(former), **store.settings.of(owner)})

    def get(self, visitor: Any, user: str | None = None) -> OpenCollection:
        """Open the collection that the visitor's browser names. Raises GoneError if it is gone or another's."""
        if not isinstance(visitor, dict):
            raise GoneError("there is no such visitor")
        owner = self.owner(str(visitor.get("secret", "")), user)
        return self.open(owner, str(visitor.get("collection", "")))

    def open(self, owner: str | None, token: str, address: str = "") -> OpenCollection:
        """Open a collection by its unguessable token; with None, whoever owns it. An owner's empty token is that of
        `FIRST_COLLECTION`, which gets its row with the first document, charged to an `address`. Raises GoneError."""
        try:
            collections = self.library.store.collections
            record = self._first(owner) if owner is not None and not token else collections.get(owner, token)
        except NotFoundError as error:
            raise GoneError(str(error)) from error
        create = partial(self._create_first, record.owner, address)
        return OpenCollection(
            record, self.library, self.limiter, self._shutdown, self._segmentations, self.worker, self.segmenter,
            create, "" if self.access == "login" else address,
        )  # fmt: skip

    def use_model(self, engine: Engine, name: str) -> None:
        """Answer with another model from now on, also after a restart. Answers in progress end with the one before.
        Documents are indexed again, since block KV belongs to a model."""
        former, store = self.library, self.library.store
        self.library = Library(store, engine, former.received.parent, former.quota)
        self._segmentations = SegmentationCache(self.library)
        self.model_names = replace(self.model_names, model=name, reason="")
        store.settings.put(APPLICATION, {"model": name})
        for changed in self.on_model:
            changed(engine)
        for record in store.collections.all():
            self.worker.cancel(record.id)
            collection = self.open(record.owner, record.token)
            if collection.settings["auto_index"]:
                for document in collection.documents.values():
                    if document.indexed_starts is None:
                        self.worker.request(record.id, document.record.id)

    def _find(self, token: str) -> OpenCollection | None:
        try:
            return self.open(None, token)
        except GoneError:
            return None

    def delete(self, record: CollectionRecord) -> None:
        """Delete a collection and everything in it; ends the work on it."""
        self.worker.cancel(record.id)
        self.library.delete_collection(record)

    def delete_expired(self) -> None:
        """Delete the collections that nobody has used for `IDLE_S`."""
        for record in self.library.store.collections.idle_since(self._clock() - IDLE_S):
            _LOG.info("collection %s expired", record.id)
            self._expire(record)

    def _expire(self, record: CollectionRecord) -> None:
        """Delete a collection, and the settings of a visitor who has no other."""
        self.delete(record)
        if record.owner.startswith(VISITOR) and not self.library.store.collections.of(record.owner):
            self.library.store.settings.delete(record.owner)

    def run_expiry(self, stop: threading.Event) -> None:
        """Call `delete_expired` every `EXPIRY_CHECK_S`, in a thread of its own, until `stop` is set."""
        while not stop.wait(EXPIRY_CHECK_S):
            try:
                self.delete_expired()
            except BlockRAGError as error:  # the next check tries again
                _LOG.warning("expired collections were not deleted: %s", type(error).__name__)

    def stop_jobs(self) -> None:
        """Stop all answers, indexing, loading and segmenting at the next step, and wait for it."""
        self.questions.close()
        self._shutdown.begin()
