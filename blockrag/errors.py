"""Every error that BlockRAG raises on purpose. Each message says what was given, what was expected and what to do."""


class BlockRAGError(Exception):
    """Base of all errors below; catching it catches nothing that is not ours."""


class Stopped(BlockRAGError):
    """Work was stopped before its end. Raise it from ``on_progress`` to stop."""


class DocumentError(BlockRAGError):
    """A file could not become a document.

    Parameters
    ----------
    name : str
        The file's own name, as the user knows it.
    reason : str
        What is wrong with it and, where there is one, the way out.
    """

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class SegmentationError(BlockRAGError):
    """A segmenter, a size bound or an edit of boundaries cannot be honoured."""


class WeightsError(BlockRAGError):
    """Weights are unreachable, incomplete, of the wrong checksum, or there is no room to keep them."""


class UnsupportedModelError(BlockRAGError):
    """The model's family, layers, positions or chat template are not such as block attention needs."""


class KVMismatchError(BlockRAGError):
    """A block KV was made by another model, adapter, dtype or format than the one that asks (rule 6)."""


class KVCorruptError(BlockRAGError):
    """A stored block KV is not what was written: truncated, altered, or of an unknown version."""


class KVTierError(BlockRAGError):
    """A place where block KV is kept fails: full, read-only, gone, or not to be reached."""


class IndexStoreError(BlockRAGError):
    """An index directory is missing, empty, damaged, or made by another model."""


class UnknownDocumentError(IndexStoreError):
    """The index holds no document of this id."""

    def __init__(self, document_id: str):
        super().__init__(f"there is no document {document_id!r} in the index; `documents()` lists those that there are")


class PromptTooLongError(BlockRAGError):
    """The question alone does not fit the model's context."""


class BusyError(BlockRAGError):
    """Too many questions wait already, or this one has waited too long."""


class DeviceMemoryError(BlockRAGError):
    """The device's memory does not suffice, even with every block KV evicted that no answer in flight needs."""


class ContentError(BlockRAGError):
    """A message holds what a language model of text cannot read, such as an image."""
