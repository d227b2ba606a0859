"""Operations on collections: on their rows, and on the block KV and files that belong to the rows."""

import hashlib
import logging
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from blockrag.documents import Document
from blockrag.engine import Engine
from blockrag.pipeline import Pipeline, segment
from blockrag.progress import OnProgress
from blockrag.segment import DEFAULT_GRANULARITY, DEFAULT_SEGMENTER, Block, Segmentation, SizeBounds
from storage.collections import CollectionRecord
from storage.documents import DEFAULT_QUOTA, DocumentRecord, Quota, UploadRecord
from storage.errors import NotFoundError, StorageError
from storage.index import RowIndex
from storage.segmentations import NewSegmentation, SegmentationRecord
from storage.store import Store

_LOG = logging.getLogger(__name__)

MAX_OPEN, MAX_OPEN_NBYTES = 64, 1 << 30
"""Collections, and bytes of their vectors, that stay in memory: those used last, and the last one whatever its size."""


class Library:
    """The collections of a database with their block KV. Safe to use from several threads.

    Parameters
    ----------
    store : Store
    engine : Engine
    folder : Path
        Of uploaded files; nothing outside it is written.
    quota : Quota
        Of one collection.

    Attributes
    ----------
    made_by : str
        Names the models of `engine`: blocks that other models made are not seen.
    """

    def __init__(self, store: Store, engine: Engine, folder: Path, quota: Quota = DEFAULT_QUOTA):
        self.store = store
        self.engine = engine
        self.quota = quota
        ids = f"{engine.identity.digest}:{engine.embedder.weights_id}"
        self.made_by = hashlib.sha256(ids.encode()).hexdigest()
        self._open: OrderedDict[int, RowIndex] = OrderedDict()
        self._lock = threading.Lock()
        self.received = folder / "uploads"
        self.received.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_former_indexes(folder / "indexes")

    def index_of(self, collection_id: int) -> RowIndex:
        """A collection's index. The first search fills it."""
        with self._lock:
            index = self._open.pop(collection_id, None)
            if index is None:
                index = RowIndex(self.store, collection_id, self.made_by, self.engine.embedder.dimension)
            self._open[collection_id] = index
            while len(self._open) > 1 and (len(self._open) > MAX_OPEN or self._open_nbytes() > MAX_OPEN_NBYTES):
                self._open.popitem(last=False)
        return index

    def _open_nbytes(self) -> int:
        return sum(index.nbytes for index in self._open.values())

    def pipeline(self, collection: CollectionRecord) -> Pipeline:
        """Pipeline that answers from a collection."""
        return Pipeline(self.engine, self.index_of(collection.id))

    def receive(
        self,
        collection_id: int,
        path: Path,
        name: str,
        encoding: str | None = None,
        source: str | None = None,
        ocr: bool = False,
    ) -> int:
        """Copy a file into the folder of uploads, where it survives a restart; see `Documents.receive`. Returns the
        upload's id.

        Raises
        ------
        StorageError
            If the disk or the database does not take it; nothing of it stays.
        """
        file = secrets.token_hex(16)
        kept = self.received / file
        try:
            shutil.copyfile(path, kept)
            nbytes, waiting = kept.stat().st_size, self.store.documents
            return waiting.receive(collection_id, name, file, nbytes, encoding, self.quota, source, ocr)
        except BaseException as error:
            _discard(kept)
            if isinstance(error, OSError):
                raise StorageError(f"the server could not keep the file ({error.strerror})") from error
            raise

    def upload_path(self, upload: UploadRecord) -> Path:
        """Path of an upload's file."""
        return self.received / Path(upload.file).name

    def file_of(self, record: DocumentRecord) -> Path | None:
        """Path of the file that a document was read from, if that is kept."""
        return self.received / Path(record.file).name if record.file else None

    def keep_file(self, document_id: int, upload: UploadRecord) -> bool:
        """Keep an upload's file with its document, and forget the upload; return False, and do nothing, if the kept
        files would take more than the quota."""
        kept = sum(path.stat().st_size for path in self.received.iterdir())  # this one among them
        if kept > self.quota.file_bytes_in_all:
            return False
        self.store.documents.keep_file(document_id, upload.id)
        return True

    def discard_file(self, file: str | None) -> None:
        """Remove a kept file that no document names any more."""
        if file:
            _discard(self.received / Path(file).name)

    def dismiss(self, upload: UploadRecord) -> None:
        """Remove an upload and its file."""
        self.store.documents.dismiss(upload.id)
        _discard(self.upload_path(upload))

    def segment(
        self,
        document: Document,
        segmenter: str = DEFAULT_SEGMENTER,
        bounds: SizeBounds | None = None,
        granularity: float = DEFAULT_GRANULARITY,
        on_progress: OnProgress | None = None,
    ) -> tuple[Segmentation, NewSegmentation]:
        """Run a segmenter over a document; saves nothing."""
        made = segment(self.engine, document, segmenter, bounds, on_progress)
        return made, NewSegmentation(segmenter, made.scored, made.bounds, granularity)

    def restore(self, document: Document, document_id: int, saved: SegmentationRecord) -> Segmentation:
        """A document's segmentation as it was saved."""
        scored = self.store.segmentations.scored(document_id)
        return Segmentation.restore(document, scored, self.engine.token_counter, saved.bounds, saved.edits)

    def index(
        self,
        collection: CollectionRecord,
        document_id: int,
        document: Document,
        blocks: Iterable[Block],
        on_progress: OnProgress | None = None,
    ) -> None:
        """Index these blocks of a document. Only those that are new are embedded and encoded. If `on_progress` raises,
        the index stays as it was, and KV that is made by then is used next time.

        Raises
        ------
        NotFoundError
            If the document is removed meanwhile; nothing of it stays.
        ConflictError
            If it gets another text meanwhile.
        """
        index = self.index_of(collection.id)
        begin = partial(self.store.blocks.begin_encoding, document_id)
        prepared = Pipeline(self.engine, index).prepare(document, list(blocks), on_progress, begin)
        try:
            orphans = index.put_blocks(document_id, document, prepared.blocks, prepared.vectors)
        except NotFoundError:
            self._delete_kv({block.kv_key for block in prepared.blocks} - self.store.blocks.keys())
            raise
        self._delete_kv(orphans)

    def tiers_of(self, kv_key: str) -> tuple[str, ...]:
        """Names of this machine's tiers that hold a block's KV, fastest first."""
        return tuple(tier.name for tier in self.engine.kv.local_tiers_with(kv_key))

    def delete_document(self, collection: CollectionRecord, record: DocumentRecord) -> None:
        """Remove a document: rows, vectors, KV, kept file. Raises UnknownDocumentError."""
        self._delete_kv(self.index_of(collection.id).delete(record.document_id))
        self.discard_file(record.file)

    def delete_collection(self, collection: CollectionRecord) -> None:
        """Remove a collection: rows, vectors, KV, files."""
        uploads = self.store.documents.uploads(collection.id)
        files = self.store.documents.files(collection.id)
        orphans = self.store.collections.delete(collection.id)
        with self._lock:
            self._open.pop(collection.id, None)
        for upload in uploads:
            _discard(self.upload_path(upload))
        for file in files.values():
            self.discard_file(file)
        self._delete_kv(orphans)

    def _delete_kv(self, kv_keys: Iterable[str]) -> None:
        for key in kv_keys:
            self.engine.kv.delete(key)

    def close(self) -> None:
        """Close the database."""
        self.store.close()


def _discard(path: Path) -> None:
    """Remove a file that no row names any more. What a failing disk keeps, the doctor removes at the next start."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _LOG.error("an uploaded file could not be removed (%s); the next start tries again", error.strerror)


def _remove_former_indexes(folder: Path) -> None:
    """Earlier versions kept a search index of each collection beside the database, made from it."""
    if not folder.is_dir():
        return
    former = [path.parent for path in folder.glob("*/index.sqlite")]
    for path in former:
        shutil.rmtree(path)
    _LOG.info("removed %d search indexes that earlier versions kept beside the database", len(former))
    if not any(folder.iterdir()):
        folder.rmdir()
