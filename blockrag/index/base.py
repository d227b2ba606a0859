"""The seam of indexes: documents with their blocks and vectors in a database, and FAISS over the vectors in memory."""

import json
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from blockrag.documents import Document
from blockrag.errors import ArgumentError
from blockrag.retrieve.fuse import fuse
from blockrag.retrieve.vectors import VectorIndex

By = Literal["hybrid", "dense", "lexical"]
"""How blocks are found: by vectors and words together, by vectors, by words."""

CANDIDATES = 50
"""Blocks that each of both searches gives, at least, before their ranks are fused."""


class BlockRef(NamedTuple):
    """Names a block: its document's id, and the offset of its first character."""

    document_id: str
    start: int


@dataclass(frozen=True)
class IndexedBlock:
    """A block as an index keeps it.

    Attributes
    ----------
    start, end : int
        Span in the document's text, in characters.
    n_tokens : int
        Tokens that it takes in a prompt (`Prompt.block_ids`), sinks not counted.
    score : float
        Score of the boundary that it begins at.
    kv_key : str
        Key of its KV. Blocks with one key share KV and vector.
    page : int or None
        Page of its first character, where the document has pages.
    is_estimate : bool
        Whether an earlier version counted `n_tokens`, without the end that a block has in a prompt.
    """

    start: int
    end: int
    n_tokens: int
    score: float
    kv_key: str
    page: int | None = None
    is_estimate: bool = False


@dataclass(frozen=True)
class DocumentRecord:
    """A document in an index. `id` belongs to its source, `sha256` to its text; `encoding` and `notes` are what its
    reader said of the file; documents of earlier indexes have neither, nor a number of pages."""

    id: str
    source: str
    name: str
    sha256: str
    n_blocks: int
    n_tokens: int
    encoding: str = ""
    n_pages: int | None = None
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Hit:
    """A block that was found, with what the model is given for it (`Document.block_text`), its document, and its cosine
    similarity to the question."""

    document_id: str
    source: str
    name: str
    block: IndexedBlock
    text: str
    similarity: float = 0.0


@dataclass(frozen=True)
class Change:
    """What a write did: the index's version after it, KV keys that nothing uses any more, and vectors that are gone (by
    id) or new (by KV key and id). Without a version, the next search looks for what changed."""

    version: int | None
    orphans: list[str]
    gone: list[int] = field(default_factory=list)
    added: dict[str, int] = field(default_factory=dict)


class Index(ABC):
    """Documents of one collection. Safe to use from several threads, and several processes may use one collection.

    The database is the only truth. FAISS holds its vectors in memory: it is filled when the index is opened, follows
    each write, and takes in what other processes wrote before each search.

    A subclass calls `_refresh` at the end of its constructor.

    Parameters
    ----------
    dimension : int
        Length of a vector.
    """

    def __init__(self, dimension: int):
        self._dimension = dimension
        self._faiss, self._version = VectorIndex(dimension), -1
        self._lock = threading.RLock()

    def add(self, document: Document, blocks: Sequence[IndexedBlock], vectors: np.ndarray) -> list[str]:
        """Add a document with its blocks, in place of what the index holds from the same source.

        Parameters
        ----------
        document : Document
        blocks : sequence of IndexedBlock
            In order; they tile the text.
        vectors : np.ndarray
            Unit vectors of the blocks, float32, shape ``(len(blocks), dimension)``.

        Returns
        -------
        list of str
            KV keys of replaced blocks that nothing uses any more.

        Raises
        ------
        ValueError
            If the blocks do not tile the text, or are not as many as the vectors.
        """
        check_tiling(len(document.text), blocks, vectors)
        return self._follow(self._write(document, blocks, vectors), blocks, vectors)

    def delete(self, document_id: str) -> list[str]:
        """Remove a document; returns the KV keys that nothing uses any more.

        Raises
        ------
        UnknownDocumentError
            If there is no such document.
        """
        return self._follow(self._remove(document_id))

    def search(
        self,
        vector: np.ndarray,
        k: int,
        *,
        words: str = "",
        by: By = "dense",
        documents: Collection[str] | None = None,
    ) -> list[Hit]:
        """The `k` best texts for a question, best first. Of blocks with one KV key, which are equal texts, the one that
        was indexed first stands for all.

        Parameters
        ----------
        vector : np.ndarray
            The question's unit vector, ``(dimension,)``.
        k : int
        words : str
            The question's text, for searches by words.
        by : "hybrid", "dense" or "lexical"
            Hybrid fuses the ranks of both searches; see `fuse`.
        documents : collection of str, optional
            Ids of the documents to search in.
        """
        with self._lock:
            self._refresh()
            k = min(k, len(self._faiss))
            depth = max(k, CANDIDATES) if by == "hybrid" else k
            among = None if documents is None else self._vectors_in(documents) & self._faiss.ids
            nearest = {} if by == "lexical" else dict(self._faiss.search(vector, depth, among))
            matching = [] if by == "dense" else self._matching(words, depth, among)
            matching = [id for id in matching if id in self._faiss.ids]
        best = fuse([*nearest], matching)[:k]
        hits = self._hits(best, documents)
        others = {hits[id].block.kv_key: id for id in best if id in hits and id not in nearest}
        nearest |= {others[key]: float(found @ vector) for key, found in self.known_vectors(others).items()}
        return [replace(hits[id], similarity=nearest[id]) for id in best if id in hits and id in nearest]

    def find(self, block: BlockRef, vector: np.ndarray) -> Hit | None:
        """One block, with its similarity to a unit vector; None where it is gone."""
        found = self._block_at(block)
        return replace(found[0], similarity=float(found[1] @ vector)) if found else None

    def matching(self, names: Collection[str], metadata: Mapping[str, Any]) -> list[str]:
        """Ids of documents with one of these names, sources or ids (all, if there are none) and these metadata; a list
        or tuple is a choice of values.

        Raises
        ------
        ArgumentError
            If no document has one of the names.
        """
        known = self.documents()
        if unknown := set(names) - {name for record in known for name in (record.name, record.source, record.id)}:
            raise ArgumentError(f"no document is called {', '.join(map(repr, sorted(unknown)))}; see `documents()`")
        return [
            record.id
            for record in known
            if (not names or {record.name, record.source, record.id} & set(names))
            and all(_has(record.metadata.get(key), value) for key, value in metadata.items())
        ]

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors that are in memory."""
        return len(self._faiss) * self._dimension * 4

    @property
    def n_vectors(self) -> int:
        """Vectors to search among: one for each distinct text."""
        with self._lock:
            self._refresh()
            return len(self._faiss)

    @abstractmethod
    def around(self, block: BlockRef, n: int) -> list[BlockRef]:
        """Up to `n` blocks on each side of a block, and itself, in the document's order; empty where it is gone."""

    @abstractmethod
    def known_vectors(self, kv_keys: Iterable[str]) -> dict[str, np.ndarray]:
        """Vectors, float32 ``(dimension,)``, of those of these keys that have one: they need not be computed again."""

    @abstractmethod
    def documents(self) -> list[DocumentRecord]:
        """All documents, in the order they were added."""

    @abstractmethod
    def read(self, document_id: str) -> Document:
        """A document with its whole text. Raises UnknownDocumentError."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of blocks."""

    @abstractmethod
    def close(self) -> None:
        """Release what the index holds; it cannot be used afterwards."""

    # What a member of the seam writes beside these: each is one transaction.

    @abstractmethod
    def _write(self, document: Document, blocks: Sequence[IndexedBlock], vectors: np.ndarray) -> Change: ...

    @abstractmethod
    def _remove(self, document_id: str) -> Change: ...

    @abstractmethod
    def _current_version(self) -> int:
        """Grows with every write of any process."""

    @abstractmethod
    def _vector_ids(self) -> tuple[int, set[int]]:
        """The version, and the ids of all vectors that a block uses at that version. Ids only grow."""

    @abstractmethod
    def _load_vectors(self, first_id: int) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        """Ids from `first_id` on and vectors ``(n, dimension)``, a few thousand at a time."""

    @abstractmethod
    def _vectors_in(self, documents: Collection[str]) -> set[int]:
        """Ids of the vectors that blocks of these documents use."""

    @abstractmethod
    def _matching(self, question: str, k: int, among: Collection[int] | None) -> list[int]:
        """Ids of the `k` vectors whose texts match the question's words best, best first; only of those `among`, if
        that is given."""

    @abstractmethod
    def _hits(self, vector_ids: Sequence[int], documents: Collection[str] | None = None) -> dict[int, Hit]:
        """The first block of each vector, in these documents or in any, without similarity. Reads no more text than the
        blocks'."""

    @abstractmethod
    def _block_at(self, block: BlockRef) -> tuple[Hit, np.ndarray] | None:
        """One block and its vector."""

    def _follow(
        self, change: Change, blocks: Sequence[IndexedBlock] = (), vectors: np.ndarray | None = None
    ) -> list[str]:
        """Have FAISS follow a write of ours; where another process wrote before it, the next search takes both in."""
        with self._lock:
            if change.version == self._version + 1:
                self._faiss.delete(change.gone)
                rows = {block.kv_key: row for row, block in enumerate(blocks)}
                if change.added and vectors is not None:
                    self._faiss.add(list(change.added.values()), vectors[[rows[key] for key in change.added]])
                self._version = change.version
        return change.orphans

    def _refresh(self) -> None:
        """Have FAISS hold exactly the database's vectors."""
        with self._lock:
            if self._current_version() == self._version:
                return
            version, ids = self._vector_ids()
            self._faiss.delete(self._faiss.ids - ids)
            new = ids - self._faiss.ids
            for some, vectors in self._load_vectors(min(new)) if new else ():
                wanted = [id in new for id in some]
                self._faiss.add([id for id in some if id in new], vectors if all(wanted) else vectors[wanted])
            self._version = version


def metadata_json(document: Document) -> str:
    """A document's metadata as JSON. Raises ArgumentError for what JSON cannot hold."""
    try:
        return json.dumps(dict(document.metadata), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"metadata of {document.name!r} holds more than text, numbers and lists: {error}") from None


def check_tiling(n_chars: int, blocks: Sequence[IndexedBlock], vectors: np.ndarray) -> None:
    """Raise ValueError unless the blocks tile a text of `n_chars` characters (rule 1) and each has a vector."""
    if len(blocks) != len(vectors):
        raise ValueError(f"{len(blocks)} blocks came with {len(vectors)} vectors; give one vector for each block")
    edges = [0, *(block.end for block in blocks)]
    if [block.start for block in blocks] != edges[:-1] or edges[-1] != n_chars:
        raise ValueError(f"the blocks do not tile the document's {n_chars} characters")


def _has(found: Any, wanted: Any) -> bool:
    return found in wanted if isinstance(wanted, list | tuple | set) else found == wanted


def labels(documents: Sequence[tuple[str, str]]) -> list[str]:
    """What to call documents, given as (name, source): by name, with as many folders of the source as tell equal names
    apart."""
    paths = {document: _path(*document) for document in documents}
    depths = dict.fromkeys(paths, 1)
    while True:
        shown = {document: "/".join(path[-depths[document] :]) for document, path in paths.items()}
        counts = Counter(shown.values())
        clashing = [d for d, label in shown.items() if counts[label] > 1 and depths[d] < len(paths[d])]
        if not clashing:
            return [shown[document] for document in documents]
        for document in clashing:
            depths[document] += 1


def _path(name: str, source: str) -> list[str]:
    folders = source.replace("\\", "/").split("/")
    return [*(folders[:-1] if folders[-1] == name else folders), name]
