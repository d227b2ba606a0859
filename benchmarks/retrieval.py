"""Time of retrieval by the size of the document: ``python -m benchmarks.retrieval --json FILE``.

Each row is an index of its own with one document of `chars` characters, in blocks of 1,000 with random vectors; the
last has 100,000 blocks in 100 documents. A question is embedded (`embed_ms`), its vector is compared with all others
(`faiss_ms`), and the best eight blocks are read (`read_ms`); `retrieval_ms` is all three. `open_ms` opens the index,
and `add_ms` adds a document of 20 blocks to it, besides embedding and encoding.
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
MANY_DOCUMENTS = 100
QUESTION = "Where is it written how long a search may take?"


def measure(folder: Path, n_chars: int, n_documents: int, embedder: Embedder, repeats: int) -> dict[str, Any]:
    """One row: an index of `n_documents` documents of `n_chars` characters."""
    generator = np.random.default_rng(0)
    index = _open(folder, embedder)
    for number in range(n_documents):
        _add(index, number, n_chars // BLOCK_CHARS, generator)
    index.close()
    open_ms = _median_ms(lambda: _open(folder, embedder).close(), 3)
    index = _open(folder, embedder)
    more = iter(range(n_documents, n_documents + 5))
    prepared = [_document(number, 20, index, generator) for number in more]
    add_ms = [_ms(partial(index.add, *made)) for made in prepared]
    vector = embedder.embed([QUESTION])[0]
    embed_ms = _median_ms(lambda: embedder.embed([QUESTION]), repeats)
    search_ms = _median_ms(lambda: index.search(vector, K), repeats)
    ids = [id for id, _ in index._faiss.search(vector, K)]
    read_ms = _median_ms(lambda: index._hits(ids), repeats)
    index.close()
    return {
        "chars": n_chars * n_documents,
        "documents": n_documents,
        "blocks": n_chars * n_documents // BLOCK_CHARS,
        "embed_ms": embed_ms,
        "faiss_ms": search_ms - read_ms,
        "read_ms": read_ms,
        "retrieval_ms": embed_ms + search_ms,
        "open_ms": open_ms,
        "add_ms": statistics.median(add_ms),
    }


def _open(folder: Path, embedder: Embedder) -> FileIndex:
    return FileIndex(folder, {"embedder": embedder.weights_id}, embedder.dimension)


def _add(index: FileIndex, number: int, n_blocks: int, generator: np.random.Generator) -> None:
    index.add(*_document(number, n_blocks, index, generator))


def _document(
    number: int, n_blocks: int, index: FileIndex, generator: np.random.Generator
) -> tuple[Document, list[IndexedBlock], np.ndarray]:
    """A document whose blocks are all different, and their vectors."""
    text = "".join(f"Block {i} of document {number}. ".ljust(BLOCK_CHARS, "x") for i in range(n_blocks))
    blocks = [
        IndexedBlock(i * BLOCK_CHARS, (i + 1) * BLOCK_CHARS, 250, 0.5, f"{number:08}-{i:08}".ljust(64, "0"))
        for i in range(n_blocks)
    ]
    vectors = generator.standard_normal((n_blocks, index._dimension), dtype=np.float32)
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
    parser.add_argument("--blocks", type=int, default=100_000, help="blocks of the last row (default: %(default)s)")
    parser.add_argument("--embedder", default=DEFAULT_EMBEDDER, help="sentence encoder (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=50, help="runs to take the median of (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    args = parser.parse_args(argv)
    embedder = load_embedder(args.embedder, "cpu")
    sizes = [(length, 1) for length in args.lengths]
    sizes.append((args.blocks * BLOCK_CHARS // MANY_DOCUMENTS, MANY_DOCUMENTS))
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
