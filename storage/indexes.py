"""The search index of each collection, opened when it is wanted and brought in step with the database."""

import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blockrag.engine import Engine
from blockrag.errors import IndexStoreError
from blockrag.pipeline import Pipeline
from storage.collections import CollectionRecord
from storage.store import Store

_LOG = logging.getLogger(__name__)

MAX_OPEN = 64
"""Indexes that stay open however long they are not used."""

IDLE_S = 1800
"""Longer than any question or indexing step holds an index."""


@dataclass
class _Open:
    """A collection's index in use, and the collection's clock when it was last in step."""

    rag: Pipeline
    clock: int
    used_s: float = 0.0


class Indexes:
    """Of a database's collections. Safe to use from several threads.

    Parameters
    ----------
    store : Store
    engine : Engine
    folder : Path
        Of the indexes, one folder each.
    """

    def __init__(self, store: Store, engine: Engine, folder: Path):
        self._store, self._engine, self.folder = store, engine, folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        ids = f"{engine.identity.digest}:{engine.embedder.weights_id}"
        self.made_by = hashlib.sha256(ids.encode()).hexdigest()
        self._open: dict[int, _Open] = {}
        self._locks: dict[int, threading.RLock] = {}
        self._lock = threading.Lock()

    @contextmanager
    def locked(self, collection_id: int) -> Iterator[None]:
        """Changes of a collection that touch the database and the index take turns."""
        with self._lock:
            lock = self._locks.setdefault(collection_id, threading.RLock())
        with lock:
            yield

    def of(self, collection: CollectionRecord) -> Pipeline:
        """The collection's index, in step with the database."""
        with self.locked(collection.id):
            opened = self._open.get(collection.id)
            if opened is None:
                opened = self._open[collection.id] = _Open(self._new(collection), -1)
            opened.used_s = time.monotonic()
            if opened.clock != collection.clock:
                self.bring_in_step(collection.id, opened.rag)
                opened.clock = collection.clock
        self._close_idle()
        return opened.rag

    def _close_idle(self) -> None:
        """Indexes take memory and files: of many, those that were not used for long are closed."""
        before = time.monotonic() - IDLE_S
        with self._lock:
            idle = [id for id, opened in self._open.items() if opened.used_s < before]
            for id in idle if len(self._open) > MAX_OPEN else ():
                self._open.pop(id).rag.index.close()

    def _new(self, collection: CollectionRecord) -> Pipeline:
        folder = self.path(collection)
        try:
            return Pipeline(self._engine, folder)
        except IndexStoreError as error:  # of other models, or damaged; everything in it can be made again
            _LOG.warning("the index of collection %s is made anew: %s", collection.id, error)
            shutil.rmtree(folder)
            return Pipeline(self._engine, folder)

    def path(self, collection: CollectionRecord) -> Path:
        """Folder of a collection's index."""
        return self.folder / collection.token

    def bring_in_step(self, collection_id: int, rag: Pipeline) -> int:
        """Make a collection's index hold exactly the database's blocks; returns how many documents differed."""
        rag.index.refresh()
        wanted = self._store.blocks.ids(collection_id, self.made_by)
        documents = {record.sha256: record.id for record in self._store.documents.of(collection_id)}
        held, n_changed = rag.index.ids(), 0
        for sha256 in held:
            if documents.get(sha256) not in wanted:
                rag.index.delete(sha256)
                n_changed += 1
        for sha256, document_id in documents.items():
            if document_id in wanted and held.get(sha256) != wanted[document_id]:
                self._enter(rag, document_id)
                n_changed += 1
        return n_changed

    def _enter(self, rag: Pipeline, document_id: int) -> None:
        records, vectors = self._store.blocks.vectors(document_id, self.made_by)
        document = self._store.documents.read(document_id)
        rag.index.delete(document.sha256)
        blocks, keys, ids = [r.block for r in records], [r.kv_key for r in records], [r.id for r in records]
        rag.index.add(document, blocks, vectors, keys, ids)

    def delete(self, collection: CollectionRecord) -> None:
        """Close a collection's index and remove its files."""
        with self.locked(collection.id):
            opened = self._open.pop(collection.id, None)
            if opened is not None:
                opened.rag.index.close()
            shutil.rmtree(self.path(collection), ignore_errors=True)
        with self._lock:
            self._locks.pop(collection.id, None)

    def close(self) -> None:
        """Close all."""
        with self._lock:
            for opened in self._open.values():
                opened.rag.index.close()
            self._open.clear()
