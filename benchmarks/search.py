"""How often the right block is found: ``python -m benchmarks.search --data FOLDER --json FILE``.

FOLDER holds ``qa/NAME.jsonl.zst`` (one question a line, with its documents, of which some are gold) and ``chunking/``
(Markdown files, and ``questions_df.csv`` with the spans that answer each question). The documents of all questions of a
set are one collection; each document of ``qa/`` is a block, and the files of ``chunking/`` are divided into blocks. A
question is answered by any block that is gold or touches a span. `hit_k` is the share of questions with such a block
among the first k, `mrr` the mean of one over the rank of the first such block, of 50.
"""

import argparse
import csv
import io
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import zstandard

from benchmarks.common import commit, print_table
from blockrag.documents import Document
from blockrag.index import By, FileIndex, Hit, IndexedBlock
from blockrag.models import DEFAULT_EMBEDDER, choose_model
from blockrag.models.load import load_tokenizer
from blockrag.retrieve.embedder import Embedder, load_embedder
from blockrag.retrieve.reranker import Reranker
from blockrag.segment import DEFAULT_GRANULARITY, HFTokenCounter, Segmentation, SizeBounds, make_segmenter

QA = {"Natural Questions": "nq_open_20doc", "HotpotQA": "hotpotqa_distractor", "COVID-QA": "covidqa"}
CHUNKING = "chunking"
DEPTH, CUTS, RERANKED = 50, (1, 4, 8), 24


@dataclass(frozen=True)
class Question:
    """A question, and whether a block that is found answers it."""

    text: str
    is_answered_by: Callable[[Hit], bool]


@dataclass(frozen=True)
class Subject:
    """A set: documents with the ends of their blocks, and questions."""

    name: str
    documents: list[tuple[Document, list[int]]]
    questions: list[Question]


def read_qa(folder: Path, name: str, split: str, n: int) -> Subject:
    """`n` questions of one split, and the documents of all of them."""
    with open(folder / "qa" / f"{QA[name]}.jsonl.zst", "rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf8", newline="\n")
        rows = [row for row in map(json.loads, lines) if row["split"] == split]
    rows = random.Random(0).sample(rows, min(n, len(rows)))

    def text_of(document: dict[str, Any]) -> str:
        return f"{document['title']}\n{document['text']}"

    texts = list(dict.fromkeys(text_of(document) for row in rows for document in row["documents"]))
    documents = [(Document(str(i), "text/plain", text), [len(text)]) for i, text in enumerate(texts)]
    questions = []
    for row in rows:
        gold = {text_of(document) for document in row["documents"] if document["is_gold"]}
        questions.append(Question(row["question"], partial(_is_one_of, gold)))
    return Subject(name, documents, questions)


def _is_one_of(texts: set[str], hit: Hit) -> bool:
    return hit.text in texts


def read_chunking(folder: Path, corpora: Sequence[str], n: int) -> Subject:
    """`n` questions about these files, which the library's own segmenter divides into blocks."""
    counter = HFTokenCounter(load_tokenizer(choose_model("cpu").name))
    scorer = make_segmenter("neural", counter=counter)
    documents = []
    for name in corpora:
        text = (folder / CHUNKING / f"{name}.md").read_text(encoding="utf-8")
        document = Document(name, "text/markdown", text)
        segmentation = Segmentation.create(document, scorer, counter, SizeBounds())
        documents.append((document, [block.end for block in segmentation.blocks(DEFAULT_GRANULARITY)]))
    with open(folder / CHUNKING / "questions_df.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["corpus_id"] in corpora]
    rows = random.Random(0).sample(rows, min(n, len(rows)))
    questions = []
    for row in rows:
        spans = [(span["start_index"], span["end_index"]) for span in json.loads(row["references"])]
        questions.append(Question(row["question"], partial(_touches, row["corpus_id"], spans)))
    return Subject(CHUNKING, documents, questions)


def _touches(name: str, spans: list[tuple[int, int]], hit: Hit) -> bool:
    block = hit.block
    return hit.name == name and any(block.start < end and start < block.end for start, end in spans)


def measure(subject: Subject, embedder: Embedder, reranker: Reranker | None) -> Iterator[dict[str, Any]]:
    """One row for each way to find."""
    with tempfile.TemporaryDirectory() as folder:
        index = FileIndex(Path(folder), {"embedder": embedder.weights_id}, embedder.dimension)
        for document, ends in subject.documents:
            _add(index, document, ends, embedder)
        vectors = [embedder.embed_query(question.text) for question in subject.questions]
        for by in get_args(By):
            rankings, started = [], time.perf_counter()
            for question, vector in zip(subject.questions, vectors, strict=True):
                rankings.append(index.search(vector, DEPTH, words=question.text, by=by))
            search_ms = 1000 * (time.perf_counter() - started) / len(rankings)
            yield _row(subject, index, by, rankings, search_ms)
            if reranker is not None:
                started = time.perf_counter()
                ordered = [_reranked(reranker, *pair) for pair in zip(subject.questions, rankings, strict=True)]
                search_ms += 1000 * (time.perf_counter() - started) / len(rankings)
                yield _row(subject, index, f"{by}, reranked", ordered, search_ms)
        index.close()


def _add(index: FileIndex, document: Document, ends: Sequence[int], embedder: Embedder) -> None:
    starts = [0, *ends[:-1]]
    blocks = [
        IndexedBlock(start, end, 1, 1.0, f"{document.id}-{start}") for start, end in zip(starts, ends, strict=True)
    ]
    index.add(document, blocks, embedder.embed([document.text[block.start : block.end] for block in blocks]))


def _reranked(reranker: Reranker, question: Question, hits: list[Hit]) -> list[Hit]:
    return [hits[i] for i in reranker.order(question.text, [hit.text for hit in hits[:RERANKED]])]


def _row(subject: Subject, index: FileIndex, by: str, rankings: list[list[Hit]], search_ms: float) -> dict[str, Any]:
    ranks = [
        next((rank for rank, hit in enumerate(hits, start=1) if question.is_answered_by(hit)), 0)
        for question, hits in zip(subject.questions, rankings, strict=True)
    ]
    return {
        "set": subject.name,
        "questions": len(ranks),
        "blocks": len(index),
        "by": by,
        **{f"hit_{k}": float(np.mean([0 < rank <= k for rank in ranks])) for k in CUTS},
        "mrr": float(np.mean([1 / rank if rank else 0 for rank in ranks])),
        "search_ms": search_ms,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every set, print the table, and as the last line JSON."""
    parser = argparse.ArgumentParser(description="Measure how often the right block is found.")
    parser.add_argument("--data", type=Path, required=True, help="folder with qa/ and chunking/")
    parser.add_argument("--sets", nargs="+", default=[*QA, CHUNKING], choices=[*QA, CHUNKING], metavar="SET")
    parser.add_argument("--split", default="test", help="split of the questions in qa/ (default: %(default)s)")
    parser.add_argument("--questions", type=int, default=100, help="most questions of a set (default: %(default)s)")
    files = "files of chunking/ (default: %(default)s)"
    parser.add_argument("--corpora", nargs="+", default=["state_of_the_union", "wikitexts", "chatlogs"], help=files)
    parser.add_argument("--embedder", default=DEFAULT_EMBEDDER, help="sentence encoder (default: %(default)s)")
    parser.add_argument("--reranker", help="cross-encoder, measured too if given")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    args = parser.parse_args(argv)
    embedder = load_embedder(args.embedder, "cpu")
    reranker = Reranker(args.reranker, "cpu") if args.reranker else None
    rows: list[dict[str, Any]] = []
    for name in args.sets:
        if name == CHUNKING:
            subject = read_chunking(args.data, args.corpora, args.questions)
        else:
            subject = read_qa(args.data, name, args.split, args.questions)
        rows += measure(subject, embedder, reranker)
    machine = f"{platform.machine()} CPU, {len(os.sched_getaffinity(0))} cores; Python {platform.python_version()}"
    about = {"machine": machine, "embedder": args.embedder, "reranker": args.reranker, "split": args.split}
    line = json.dumps({**about, "commit": commit(), "rows": rows})
    print(f"{args.embedder} on {machine}\n")
    print_table(rows)
    if args.json:
        args.json.write_text(line + "\n")
    print(line, flush=True)


if __name__ == "__main__":
    main()
