"""Bring an index in step with a folder: add new files, replace changed ones, delete documents of removed ones."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from blockrag import arguments
from blockrag.documents import Document, Limits, load_many
from blockrag.documents.folder import files_of
from blockrag.errors import DocumentError

if TYPE_CHECKING:
    from blockrag.index import DocumentRecord
    from blockrag.pipeline import Pipeline

Kind = Literal["added", "replaced", "unchanged", "deleted", "failed", "skipped"]


@dataclass(frozen=True)
class SyncStep:
    """The outcome for one file.

    Attributes
    ----------
    kind : str
        ``failed`` files cannot be read, and what the index holds of them stays; ``skipped`` ones have a suffix that is
        not read.
    source : str
        The file's absolute path.
    record : DocumentRecord or None
        What the index holds of it now, or held before it was deleted.
    notes : tuple of str
        The document's notes; of a failed file, the reason.
    """

    kind: Kind
    source: str
    record: "DocumentRecord | None" = None
    notes: tuple[str, ...] = ()


def sync(
    pipeline: "Pipeline",
    folder: str | os.PathLike[str],
    add: "Callable[[Document], DocumentRecord]",
    limits: Limits | None = None,
    encoding: str | None = None,
    ocr: bool = False,
) -> Iterator[SyncStep]:
    """Go through a folder, file by file; the index is in step with it when the iterator ends.

    Parameters
    ----------
    pipeline : Pipeline
        Over the index.
    folder : path
        All files below it; see `files_of`. Documents of other folders are left alone.
    add : callable
        Indexes a document.
    limits, encoding, ocr
        See `load_many`.

    Raises
    ------
    DocumentError
        If `folder` is no folder: a folder that is not there, as on a drive that is not mounted, deletes nothing.
    """
    root = Path(os.path.abspath(arguments.path_of("folder", folder, "the path of a folder")))
    if not root.is_dir():
        raise DocumentError(str(folder), "this is not a folder")
    held = {record.source: record for record in pipeline.index.documents()}
    read, others = files_of(root)
    for path, document in zip(read, load_many(read, limits or Limits(), encoding, ocr), strict=True):
        yield step(str(path), document, held, add)
    present = {str(path) for path in (*read, *others)}
    for source, record in held.items():
        if (
            source.startswith(str(root).rstrip(os.sep) + os.sep)
            and source not in present
            and not os.path.exists(source)
        ):
            pipeline.delete(record.id)
            yield SyncStep("deleted", source, record)
    yield from (SyncStep("skipped", str(path)) for path in others)


def step(
    source: str,
    document: Document | DocumentError,
    held: "Mapping[str, DocumentRecord]",
    add: "Callable[[Document], DocumentRecord]",
) -> SyncStep:
    """Add a document that was read from `source`, unless its text and metadata are as those that the index `held`."""
    if isinstance(document, DocumentError):
        return SyncStep("failed", source, held.get(source), (document.reason,))
    before = held.get(document.source)
    if before is not None and before.sha256 == document.sha256:
        if not document.metadata or document.metadata == before.metadata:
            return SyncStep("unchanged", document.source, before, document.notes)
    record = add(document)
    return SyncStep("added" if before is None else "replaced", document.source, record, record.notes)
