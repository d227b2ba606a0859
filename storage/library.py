"""What is done to collections: database first, then the search index and the KV that follow from it.

Wherever a process is killed, the database says what is, and the index of a collection is brought in step when it is
opened next.
"""

import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from blockrag.documents import Document
from blockrag.engine import Engine
from blockrag.kv.memory import MemoryTier
from blockrag.pipeline import Pipeline, segment
from blockrag.progress import OnProgress
from blockrag.segment import DEFAULT_GRANULARITY, DEFAULT_SEGMENTER, Block, Segmentation, SizeBounds
from storage.collections import CollectionRecord
from storage.documents import DEFAULT_QUOTA, DocumentRecord, Quota, UploadRecord
from storage.errors import NotFoundError
from storage.indexes import Indexes
from storage.segmentations import NewSegmentation, SegmentationRecord
from storage.store import Store


class Library:
    """The collections of a database with their indexes and block KV. Safe to use from several threads.

    Parameters
    ----------
    store : Store
    engine : Engine
    folder : Path
        Of the indexes and of files received; nothing outside it is written.
    quota : Quota
        Of one collection.
    """

    def __init__(self, store: Store, engine: Engine, folder: Path, quota: Quota = DEFAULT_QUOTA):
        self.store = store
        self.engine = engine
        self.quota = quota
        self.indexes, self.received = Indexes(store, engine, folder / "indexes"), folder / "uploads"
        self.received.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def made_by(self) -> str:
        """What blocks depend on: see `Indexes`."""
        return self.indexes.made_by

    def rag(self, collection: CollectionRecord) -> Pipeline:
        """The collection's index, in step with the database."""
        return self.indexes.of(collection)

    def receive(self, collection_id: int, path: Path, name: str) -> int:
        """Take a copy of a file into the folder of files received, so that it survives whatever comes; returns the
        upload's id."""
        file = secrets.token_hex(16)
        kept = self.received / file
        shutil.copyfile(path, kept)
        return self.store.documents.receive(collection_id, name, file, kept.stat().st_size)

    def upload_path(self, upload: UploadRecord) -> Path:
        """Where an upload's file is."""
        return self.received / Path(upload.file).name

    def dismiss(self, upload: UploadRecord) -> None:
        """Forget an upload and its file."""
        self.store.documents.dismiss(upload.id)
        self.upload_path(upload).unlink(missing_ok=True)

    def segment(
        self,
        document: Document,
        segmenter: str = DEFAULT_SEGMENTER,
        bounds: SizeBounds | None = None,
        granularity: float = DEFAULT_GRANULARITY,
        on_progress: OnProgress | None = None,
    ) -> tuple[Segmentation, NewSegmentation]:
        """Run a segmenter over a document; keeps nothing."""
        made = segment(self.engine, document, segmenter, bounds, on_progress)
        return made, NewSegmentation(segmenter, made.scored, made.bounds, granularity)

    def restore(self, document: Document, document_id: int, cut: SegmentationRecord) -> Segmentation:
        """The segmentation that is kept."""
        scored = self.store.segmentations.scored(document_id)
        return Segmentation.restore(document, scored, self.engine.token_counter, cut.bounds, cut.edits)

    def index(
        self,
        collection: CollectionRecord,
        document_id: int,
        document: Document,
        blocks: Iterable[Block],
        on_progress: OnProgress | None = None,
    ) -> None:
        """Index these blocks of a document. Only those that are new are embedded and encoded; the others stay as they
        are. If `on_progress` raises, the index stays as it was, and KV that is made by then is used next time.

        Raises
        ------
        NotFoundError
            If the document is removed meanwhile; nothing of it stays.
        """
        wanted, rag = list(blocks), self.rag(collection)
        records, vectors = self.store.blocks.vectors(document_id, self.made_by)
        known = {record.kv_key: vector for record, vector in zip(records, vectors, strict=True)}
        texts = [document.text[block.start : block.end] for block in wanted]
        keys = {self.engine.kv_key(text) for text in texts}
        self.store.blocks.begin_encoding(document_id, keys - known.keys())
        prepared = rag.prepare(document, wanted, known, on_progress)
        with self.indexes.locked(collection.id):
            try:
                put = self.store.blocks.put(document_id, self.made_by, wanted, prepared.vectors, prepared.kv_keys)
            except NotFoundError:
                self._delete_kv(keys - self.store.blocks.keys())
                raise
            rag.index.add(document, wanted, prepared.vectors, prepared.kv_keys, put.ids)
        self._delete_kv(put.orphans)
        self.note_places(prepared.kv_keys)

    def note_places(self, kv_keys: Iterable[str]) -> None:
        """Note in which of the tiers that outlast this program these KVs are."""
        self.store.blocks.note_places({key: self.lasting_tiers_of(key) for key in dict.fromkeys(kv_keys)})

    def lasting_tiers_of(self, kv_key: str) -> tuple[str, ...]:
        """Names of this machine's tiers, memory left out, that hold a block's KV now."""
        return tuple(t.name for t in self.engine.kv.local_tiers_with(kv_key) if not isinstance(t, MemoryTier))

    def tiers_of(self, kv_key: str) -> tuple[str, ...]:
        """Names of this machine's tiers that hold a block's KV now, fastest first."""
        return tuple(tier.name for tier in self.engine.kv.local_tiers_with(kv_key))

    def delete_document(self, collection: CollectionRecord, record: DocumentRecord) -> None:
        """Remove a document: rows, vectors, KV."""
        with self.indexes.locked(collection.id):
            rag = self.rag(collection)
            orphans = self.store.documents.delete(record.id)
            rag.index.delete(record.sha256)
        self._delete_kv(orphans)

    def delete_collection(self, collection: CollectionRecord) -> None:
        """Remove a collection: rows, index, KV, files received."""
        uploads = self.store.documents.uploads(collection.id)
        with self.indexes.locked(collection.id):
            orphans = self.store.collections.delete(collection.id)
            self.indexes.delete(collection)
        for upload in uploads:
            self.upload_path(upload).unlink(missing_ok=True)
        self._delete_kv(orphans)

    def _delete_kv(self, kv_keys: Iterable[str]) -> None:
        for key in kv_keys:
            self.engine.kv.delete(key)

    def close(self) -> None:
        """Close the indexes and the database."""
        self.indexes.close()
        self.store.close()
