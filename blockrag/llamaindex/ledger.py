"""Records which node of which collection uses which block KV, so that KV is deleted with its last node."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from blockrag.errors import IndexStoreError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS uses (
    collection TEXT NOT NULL, node TEXT NOT NULL, document TEXT, kv_key TEXT NOT NULL, PRIMARY KEY (collection, node));
CREATE INDEX IF NOT EXISTS uses_of_document ON uses (collection, document);
CREATE INDEX IF NOT EXISTS uses_of_key ON uses (kv_key);
"""

Use = tuple[str, str | None, str]
"""Node id, id of its source document, key of its KV."""


class Ledger:
    """One SQLite file, which several processes may share. Safe to use from several threads.

    Parameters
    ----------
    path : Path, optional
        Created if it does not exist; without it the ledger is in memory.

    Raises
    ------
    IndexStoreError
        If the file is not a ledger.
    """

    def __init__(self, path: Path | None = None):
        self._lock = threading.RLock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._sql = sqlite3.connect(path or ":memory:", check_same_thread=False, timeout=60)
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise IndexStoreError(
                f"{path} is not a readable ledger of nodes: {error}. Remove it; the KV in its folder then stays until "
                "it is evicted."
            ) from error

    def enter(self, collection: str, uses: Sequence[Use]) -> list[str]:
        """Record what nodes use, replacing earlier records of them; returns the keys that nothing uses any more."""
        with self._transaction():
            before = self._keys(collection, "node", [node for node, _, _ in uses])
            self._sql.executemany(
                "INSERT OR REPLACE INTO uses VALUES (?, ?, ?, ?)", [(collection, *use) for use in uses]
            )
            return self._unused(before)

    def remove_nodes(self, collection: str, nodes: Sequence[str]) -> list[str]:
        """Delete nodes; returns the keys that nothing uses any more."""
        return self._remove(collection, "node", nodes)

    def remove_document(self, collection: str, document: str) -> list[str]:
        """Delete the nodes of a document; returns the keys that nothing uses any more."""
        return self._remove(collection, "document", [document])

    def remove_all(self, collection: str) -> list[str]:
        """Delete a collection; returns the keys that nothing uses any more."""
        return self._remove(collection, "collection", [collection])

    def _remove(self, collection: str, column: str, values: Sequence[str]) -> list[str]:
        with self._transaction():
            keys = self._keys(collection, column, values)
            delete = f"DELETE FROM uses WHERE collection = ? AND {column} = ?"
            self._sql.executemany(delete, [(collection, value) for value in values])
            return self._unused(keys)

    def _keys(self, collection: str, column: str, values: Sequence[str]) -> list[str]:
        select = f"SELECT kv_key FROM uses WHERE collection = ? AND {column} = ?"
        return [key for value in values for (key,) in self._sql.execute(select, (collection, value))]

    def _unused(self, keys: Sequence[str]) -> list[str]:
        used = "SELECT 1 FROM uses WHERE kv_key = ?"
        return [key for key in dict.fromkeys(keys) if not self._sql.execute(used, (key,)).fetchone()]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            yield
