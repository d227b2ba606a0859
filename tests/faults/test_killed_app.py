"""The application's storage under SIGKILL: what was acknowledged is there, and the doctor finds nothing that stays.

A process loads, cuts, indexes and answers in a loop, and tells what has been acknowledged. It is killed at a random
moment and started again over the same folder: twice in the suite, 100 times by

    BLOCKRAG_FAULTS=full python -m pytest tests/faults/test_killed_app.py
"""

import os
import random
from pathlib import Path

import pytest

from storage.database import sqlite_url
from storage.doctor import mend
from storage.library import Library
from storage.store import Store
from tests.processes import told_until_killed
from tests.tiny import tiny_engine
from ui.collection_service import CollectionService
from ui.handlers import ask, blocks, documents, index

KILLS = 100 if os.environ.get("BLOCKRAG_FAULTS") == "full" else 2


def work(tell, folder: Path, turn: int) -> None:
    library = Library(Store.open(sqlite_url(folder / "x.sqlite")), tiny_engine(folder / "kv"), folder)
    service = CollectionService(library, "shared")
    collection = service.get(service.enter({}))
    tell("ready")
    for n in range(10_000):
        path = folder / f"{turn}-{n}.md"
        parts = (f"# Part {i}\n\nTurn {turn} number {n} part {i} says something.\n\n" for i in range(12))
        path.write_text("".join(parts))
        name = path.name
        documents.receive(collection, [path])
        tell(("received", name))
        while collection.worker.read_next(collection):
            pass
        (document_id,) = [id for id, document in collection.documents.items() if document.record.name == name]
        tell(("loaded", name))
        collection.set_granularity(document_id, 1.0)
        starts = blocks.view(collection, document_id)["starts"]
        blocks.toggle(collection, document_id, starts[len(starts) // 2], add=False)
        tell(("edited", name))
        index.start(collection)
        while collection.worker.index_next(collection):
            pass
        tell(("indexed", name))
        state = ask.begin(collection, f"What does part {n} say?", ("block",))
        *_, state = ask.answer(collection, state, 2, 2)
        tell(("answered", name, state.error or "well"))
        if n % 3 == 2:
            collection.remove(document_id)
            tell(("removed", name))


@pytest.mark.timeout(120 + 60 * KILLS)
def test_nothing_acknowledged_is_lost(tmp_path):
    rng, acknowledged = random.Random(7), {}
    n_answers = 0
    for turn in range(KILLS):
        for word, name, *rest in told_until_killed(rng.uniform(0.05, 2.5), work, tmp_path, turn):
            assert rest in ([], ["well"]), rest
            n_answers += word == "answered"
            if word != "answered":
                acknowledged[name] = word
        library = Library(Store.open(sqlite_url(tmp_path / "x.sqlite")), tiny_engine(tmp_path / "kv"), tmp_path)
        _, left = mend(library)
        assert left == []
        service = CollectionService(library, "shared")
        check(service.get(service.enter({})), acknowledged, n_answers)
        library.close()
    assert acknowledged


def check(collection, acknowledged, n_answers):
    known = {document.record.name: document for document in collection.documents.values()}
    waiting = {upload.name for upload in collection.store.documents.uploads(collection.record.id)}
    for name, word in acknowledged.items():
        if word == "removed":
            assert name not in known
            continue
        assert name in known or (word == "received" and name in waiting) or is_third(name), (name, word)
        if name in known and word in ("edited", "indexed"):
            assert len(known[name].segmentation.edits) == 1, (name, word)
        if name in known and word == "indexed":
            assert known[name].is_indexed, name
    index = collection.pipeline.index
    assert len(index) == sum(len(document.indexed_starts or ()) for document in known.values())
    assert collection.store.conversations.saved(collection.record.id)[0] >= n_answers


def is_third(name: str) -> bool:
    """Of these, the removal may have been under way, and done, without having been acknowledged."""
    return int(name.removesuffix(".md").split("-")[1]) % 3 == 2
