"""All errors that BlockRAG raises on purpose. Messages say what was given, what was expected and what to do."""


class BlockRAGError(Exception):
    """Base of all errors that BlockRAG raises on purpose."""


class ArgumentError(BlockRAGError, ValueError):
    """An argument has a value that is not allowed."""


class Stopped(BlockRAGError):
    """Work was stopped before its end. Raise it from ``on_progress`` to stop."""


class DocumentError(BlockRAGError):
    """A file could not become a document.

    Parameters
    ----------
    name : str
        The file's own name, as the user knows it.
    reason : str
        What is wrong with it, and what to do if anything can be done.
    """

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class SegmentationError(BlockRAGError):
    """A segmenter, size bounds or an edit of boundaries cannot be applied."""


class WeightsError(BlockRAGError):
    """Weights are unreachable, incomplete, of the wrong checksum, or the disk has no room for them."""


class UnsupportedModelError(BlockRAGError):
    """Block attention does not support the model's family, layers, positions or chat template."""


class KVMismatchError(BlockRAGError):
    """A block KV was made by another model, adapter, dtype or format (rule 6)."""


class KVCorruptError(BlockRAGError):
    """A stored block KV is not what was written: truncated, altered, or of an unknown version."""


class KVTierError(BlockRAGError):
    """A KV tier fails: full, read-only, gone, or unreachable."""


class IndexStoreError(BlockRAGError):
    """An index directory is missing, empty, damaged, or made by another model."""


class UnknownDocumentError(IndexStoreError):
    """The index holds no document of this id."""

    def __init__(self, document_id: str):
        super().__init__(f"there is no document {document_id!r} in the index; `documents()` lists the indexed ones")


class PromptTooLongError(BlockRAGError):
    """The question alone does not fit the model's context."""


class BusyError(BlockRAGError):
    """Too many questions are waiting, or this one has waited too long."""


class DeviceMemoryError(BlockRAGError):
    """The device's memory is too small, even after evicting every block KV that no answer in flight needs."""


class ServerError(BlockRAGError):
    """A vLLM server cannot be reached, refuses a request, or runs without our connector."""


class ContentError(BlockRAGError):
    """A message holds content that a text model cannot read, such as an image."""
