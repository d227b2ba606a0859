"""Errors of the storage, each with what was given, what was expected and what to do."""

from blockrag.errors import BlockRAGError


class StorageError(BlockRAGError):
    """The database cannot be reached, read or written, or is of another version than this program."""


class NotFoundError(StorageError):
    """There is no such thing, or it is not the client_id's; which of the two is not told."""


class ConflictError(StorageError):
    """What was asked for contradicts what is there: a name that is taken, an edit of an older cut."""


class LimitError(StorageError):
    """More was asked for than one visitor, or all together, may have."""


class ArchiveError(StorageError):
    """A file to import is damaged, too large, or no collection."""
