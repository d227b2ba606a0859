"""Errors of the storage. Each message says what was given, what was expected and what to do."""

from pathlib import Path

from blockrag.errors import BlockRAGError


class StorageError(BlockRAGError):
    """The database cannot be reached, read or written, or has another version than this program."""


class DamagedError(StorageError):
    """A database file is damaged."""

    def __init__(self, path: object, problem: str):
        name = Path(str(path)).name  # visitors read it, so no folder
        super().__init__(
            f"the database {name} is damaged ({problem}). Stop what uses it, then put a backup in its place (python -m "
            "storage restore FILE), or save what can be read (python -m storage salvage)"
        )


class NotFoundError(StorageError):
    """There is no such thing, or it belongs to another owner; the message does not say which."""


class ConflictError(StorageError):
    """A request contradicts stored data: a name that is taken, an edit of an older version."""


class LimitError(StorageError):
    """A request exceeds what one visitor, or all together, may have."""


class ArchiveError(StorageError):
    """A file to import is damaged, too large, or no exported collection."""
