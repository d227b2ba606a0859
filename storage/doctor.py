"""Find what contradicts the database, and repair it. Run it while nothing else writes: at the start, or by hand.

    python -m storage doctor --data-dir FOLDER [--mend]

The database is right; block KV and uploaded files must follow it.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import text

from blockrag.documents import Document
from blockrag.errors import BlockRAGError, SegmentationError
from blockrag.kv.disk import DiskTier
from storage.collections import IMPORTING
from storage.documents import DocumentRecord
from storage.errors import DamagedError, NotFoundError
from storage.library import Library

_LOG = logging.getLogger(__name__)

LOST = "the file was lost; load it again"


@dataclass(frozen=True)
class Trouble:
    """Something wrong: where, what, and how to repair it, if that is possible."""

    where: str
    what: str
    mend: Callable[[], object] | None = field(default=None, compare=False, repr=False)


def examine(library: Library) -> Iterator[Trouble]:
    """Find every trouble. A check that fails is one itself, and the others follow.

    Raises
    ------
    DamagedError
        If the database's file is damaged: what it says cannot be judged.
    """
    _check_integrity(library)
    yield from _guarded("database", _references(library))
    yield from _guarded("collections", _collections(library))
    yield from _guarded("uploads", _uploads(library))
    yield from _guarded("KV", _kv(library))


def _guarded(where: str, check: Iterator[Trouble]) -> Iterator[Trouble]:
    try:
        yield from check
    except DamagedError:
        raise
    except Exception as error:  # told, and the next check follows
        yield Trouble(where, f"it could not be checked ({type(error).__name__}: {error})")


def _collections(library: Library) -> Iterator[Trouble]:
    for collection in library.store.collections.all():
        where = f"collection {collection.id}"
        if collection.owner == IMPORTING:
            yield Trouble(where, "its import did not finish", partial(library.delete_collection, collection))
        else:
            yield from _guarded(where, _documents(library, collection.id))


def _documents(library: Library, collection_id: int) -> Iterator[Trouble]:
    for record in library.store.documents.of(collection_id):
        yield from _guarded(f"document {record.id}", _document(library, record))


def mend(library: Library) -> tuple[list[Trouble], list[Trouble]]:
    """Repair what can be repaired. Returns what was found, and what is left."""
    found = []
    for trouble in examine(library):  # an early repair may prevent later troubles
        found.append(trouble)
        if trouble.mend is not None:
            try:
                trouble.mend()
            except (BlockRAGError, OSError) as error:
                _LOG.error("%s could not be repaired: %s", trouble.where, error)
    return found, list(examine(library)) if found else []


def _check_integrity(library: Library) -> None:
    database = library.store.database
    if database.dialect == "sqlite":
        with database.read() as session:
            told = session.scalars(text("PRAGMA integrity_check")).all()
        if told != ["ok"]:
            raise DamagedError(database.url.database, str(told[0]))


def _references(library: Library) -> Iterator[Trouble]:
    if library.store.database.dialect != "sqlite":
        return
    with library.store.database.read() as session:
        for row in session.execute(text("PRAGMA foreign_key_check")).all():
            yield Trouble("database", f"row {row[1]} of {row[0]} points to nothing in {row[2]}")


def _document(library: Library, record: DocumentRecord) -> Iterator[Trouble]:
    where, store = f"document {record.id}", library.store
    document = store.documents.read(record.id)
    if hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest() != record.sha256:
        yield Trouble(where, "its text is not the one that was loaded; delete it and load it again")
        return
    try:
        library.restore(document, record.id, store.segmentations.get(record.id))
    except (NotFoundError, SegmentationError) as error:
        yield Trouble(
            where, f"its segmentation cannot be restored ({error})", partial(_segment, library, record, document)
        )
    blocks = store.blocks.of(record.id)
    if blocks:
        edges = [0, *(block.end for block in blocks)]
        if [block.start for block in blocks] != edges[:-1] or edges[-1] != record.n_chars:
            yield Trouble(where, "its indexed blocks do not tile it", partial(store.blocks.remove, record.id))


def _segment(library: Library, record: DocumentRecord, document: Document) -> None:
    _, segmentation = library.segment(document)
    library.store.segmentations.drop_edits(record.id)
    library.store.segmentations.put(record.id, segmentation)


def _uploads(library: Library) -> Iterator[Trouble]:
    uploads = library.store.documents.uploads()
    for upload in uploads:
        if upload.state == "waiting" and not library.upload_path(upload).is_file():
            yield Trouble(
                f"upload {upload.id}",
                "its file is gone",
                partial(library.store.documents.fail, upload.id, LOST),
            )
    files = library.store.documents.files()
    for id, file in files.items():
        if not (library.received / file).is_file():
            forget = partial(library.store.documents.forget_file, id)
            yield Trouble(f"document {id}", "the file that it was read from is gone", forget)
    known = {upload.file for upload in uploads} | {*files.values()}
    for path in sorted(library.received.iterdir()):
        if path.name not in known:
            yield Trouble("uploads", f"{path.name} belongs to no upload", partial(path.unlink, missing_ok=True))


def _kv(library: Library) -> Iterator[Trouble]:
    known = library.store.blocks.keys()
    for tier in library.engine.kv.tiers:
        if isinstance(tier, DiskTier):
            for key in tier.keys():
                if key not in known:
                    yield Trouble(tier.name, f"KV {key[:16]} belongs to no block", partial(tier.delete, key))
