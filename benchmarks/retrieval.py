"""Time of retrieval by the size of the document: ``python -m benchmarks.retrieval --json FILE``.

Each row is an index of its own with one document of `chars` characters, in blocks of 1,000 with random vectors and
random words, as frequent as words are in texts (Zipf's law); the last rows have documents of 1,000 blocks each. A
question is embedded (`embed_ms`), its vector is compared with all others (`faiss_ms`), its words are looked up
(`words_ms`), and the best eight blocks are read (`read_ms`); `retrieval_ms` is all four, which is hybrid search.
`open_ms` opens the index, and `add_ms` adds a document of 20 blocks to it, besides embedding and encoding.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import commit, print_table
from blockrag.documents import Document
from blockrag.index import FileIndex, IndexedBlock
from blockrag.models import DEFAULT_EMBEDDER
from blockrag.retrieve.embedder import Embedder, load_embedder

BLOCK_CHARS = 1_000
K = 8
LENGTHS = (10_000, 100_000, 1_000_000, 10_000_000)
DOCUMENT_BLOCKS = 1_000
MANY_BLOCKS = (100_000, 1_000_000)
QUESTION = "Where is it written how long a search may take?"
COMMON = {"a": 2, "is": 4, "it": 8, "how": 70, "may": 80, "where": 90, "long": 110, "take": 150}
RANKS = {**COMMON, "written": 900, "search": 2000}
"""How frequent the question's words are: 1 is the most frequent word."""
VOCABULARY = 100_000


def measure(folder: Path, n_chars: int, n_documents: int, embedder: Embedder, repeats: int) -> dict[str, Any]:
    """One row: an index of `n_documents` documents of `n_chars` characters."""
    generator = np.random.default_rng(0)
    index, words = _open(folder, embedder), Words(generator)
    for number in range(n_documents):
        index.add(*_document(number, n_chars // BLOCK_CHARS, index, words))
    index.close()
    open_ms = _median_ms(lambda: _open(folder, embedder).close(), 3)
    index = _open(folder, embedder)
    more = iter(range(n_documents, n_documents + 5))
    prepared = [_document(number, 20, index, words) for number in more]
    add_ms = [_ms(partial(index.add, *made)) for made in prepared]
    vector = embedder.embed([QUESTION])[0]
    embed_ms = _median_ms(lambda: embedder.embed([QUESTION]), repeats)
    dense_ms = _median_ms(lambda: index.search(vector, K), repeats)
    search_ms = _median_ms(lambda: index.search(vector, K, words=QUESTION, by="hybrid"), repeats)
    ids = [id for id, _ in index._faiss.search(vector, K)]
    read_ms = _median_ms(lambda: index._hits(ids), repeats)
    index.close()
    return {
        "chars": n_chars * n_documents,
        "documents": n_documents,
        "blocks": n_chars * n_documents // BLOCK_CHARS,
        "embed_ms": embed_ms,
        "faiss_ms": dense_ms - read_ms,
        "words_ms": search_ms - dense_ms,
        "read_ms": read_ms,
        "retrieval_ms": embed_ms + search_ms,
        "open_ms": open_ms,
        "add_ms": statistics.median(add_ms),
    }


def _open(folder: Path, embedder: Embedder) -> FileIndex:
    return FileIndex(folder, {"embedder": embedder.weights_id}, embedder.dimension)


class Words:
    """Random words, as frequent as words are: the word of rank r comes with a share of 1 / r."""

    def __init__(self, generator: np.random.Generator):
        self.generator = generator
        self._words = np.array([f"w{rank}" for rank in range(1, VOCABULARY + 1)], dtype=object)
        for word, rank in RANKS.items():
            self._words[rank - 1] = word
        share = 1 / np.arange(1, VOCABULARY + 1)
        self._until = np.cumsum(share / share.sum())

    def block(self, first: str) -> str:
        """A text of `BLOCK_CHARS` characters that begins with `first`."""
        drawn = np.searchsorted(self._until, self.generator.random(BLOCK_CHARS // 4))
        return " ".join([first, *self._words[np.minimum(drawn, VOCABULARY - 1)]])[:BLOCK_CHARS].ljust(BLOCK_CHARS)


def _document(
    number: int, n_blocks: int, index: FileIndex, words: Words
) -> tuple[Document, list[IndexedBlock], np.ndarray]:
    """A document whose blocks are all different, and their vectors."""
    text = "".join(words.block(f"Block {i} of document {number}.") for i in range(n_blocks))
    blocks = [
        IndexedBlock(i * BLOCK_CHARS, (i + 1) * BLOCK_CHARS, 250, 0.5, f"{number:08}-{i:08}".ljust(64, "0"))
        for i in range(n_blocks)
    ]
    vectors = words.generator.standard_normal((n_blocks, index._dimension), dtype=np.float32)
    return Document(f"{number}.txt", "text/plain", text), blocks, vectors / np.linalg.norm(vectors, axis=1)[:, None]


def _ms(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


def _median_ms(run: Callable[[], object], repeats: int) -> float:
    return statistics.median(_ms(run) for _ in range(repeats))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every size, print the table, and as the last line JSON."""
    parser = argparse.ArgumentParser(description="Measure retrieval by the size of the document.")
    chars = "characters of the document (default: %(default)s)"
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS), help=chars)
    blocks = "blocks of the last rows, in documents of 1,000 (default: %(default)s)"
    parser.add_argument("--blocks", type=int, nargs="+", default=list(MANY_BLOCKS), help=blocks)
    parser.add_argument("--embedder", default=DEFAULT_EMBEDDER, help="sentence encoder (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=50, help="runs to take the median of (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    args = parser.parse_args(argv)
    embedder = load_embedder(args.embedder, "cpu")
    sizes = [(length, 1) for length in args.lengths]
    for n_blocks in args.blocks:
        in_each = min(DOCUMENT_BLOCKS, n_blocks)
        sizes.append((in_each * BLOCK_CHARS, n_blocks // in_each))
    rows = []
    for n_chars, n_documents in sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(Path(folder), n_chars, n_documents, embedder, args.repeats))
    machine = f"{platform.machine()} CPU, {len(os.sched_getaffinity(0))} cores; Python {platform.python_version()}"
    line = json.dumps({"machine": machine, "embedder": args.embedder, "commit": commit(), "rows": rows})
    print(f"{args.embedder} on {machine}\n")
    print_table(rows)
    if args.json:
        args.json.write_text(line + "\n")
    print(line, flush=True)


if __name__ == "__main__":
    main()
