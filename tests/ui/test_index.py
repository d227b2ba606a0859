"""Index documents, show progress, stop and resume; what is indexed automatically."""

import pytest

from blockrag.segment import SizeBounds
from tests.ui.serving import SECRET, index_all, only_document, visitor
from ui.collection_service import CollectionService
from ui.handlers import index, settings
from ui.worker import Running, Worker


@pytest.fixture
def steps(monkeypatch):
    """Calls `steps.then` after every step of the program's work."""

    class Steps:
        then = staticmethod(lambda: None)

    def advance(self, step):
        done(self, step)
        Steps.then()

    done = Running.advance
    monkeypatch.setattr(Running, "advance", advance)
    return Steps


def test_a_document_removed_while_it_is_indexed_stays_removed(collection, steps):
    document_id, _ = only_document(collection)
    steps.then = lambda: collection.remove(document_id) if collection.documents else None
    assert index_all(collection)["rows"] == [] and len(collection.pipeline.index) == 0


def test_indexing_reports_every_block_once(collection, steps):
    document_id, document = only_document(collection)
    assert index.overview(collection)["rows"][0]["state"] == "waiting"
    rows = []
    steps.then = lambda: rows.append(index.overview(collection)["rows"][0])
    last = index_all(collection)["rows"][0]
    done = [row["done"] for row in [*rows, last]]
    assert done == sorted(done) and done[-1] == len(document.starts) and len(set(done)) == len(document.starts) + 1
    assert rows[-2]["state"] == "running" and "encoding" in rows[-2]["text"]
    assert last["state"] == "done" and "KV: " in last["text"] and set(last["cells"]) == {"memory"}
    assert not collection.worker.work(), "nothing is left to do"
    collection.set_granularity(document_id, 1.0)
    assert (
        "changed since" in index.overview(collection)["rows"][0]["text"]
        or "waiting" in (index.overview(collection)["rows"][0]["text"])
    )


def test_stopped_indexing_leaves_the_index_as_it_was_and_resumes(service, collection, steps):
    index.start(collection)
    assert "waiting" in index.overview(collection)["rows"][0]["text"]
    index.stop(collection)
    assert not collection.worker.index_next(collection), "stopped before it began"
    steps.then = lambda: index.stop(collection)
    index.start(collection)
    assert collection.worker.index_next(collection)
    steps.then = lambda: None
    assert len(collection.pipeline.index) == 0 and index.overview(collection)["rows"][0]["state"] == "waiting"
    again = visitor(CollectionService(service.library, "private"), SECRET["secret"])
    assert not again.worker.work(), "a stop outlasts a restart"
    assert index_all(again)["rows"][0]["state"] == "done"


def test_a_killed_program_goes_on_where_it_was(service, collection, steps):
    def kill():
        raise KeyboardInterrupt

    index.start(collection)
    steps.then = kill
    with pytest.raises(KeyboardInterrupt):
        collection.worker.work()
    steps.then = lambda: None
    again = CollectionService(service.library, "private")
    assert again.worker.work()
    assert index.overview(visitor(again, SECRET["secret"]))["rows"][0]["state"] == "done"


def test_edits_are_indexed_soon_and_indexed_means_as_it_is_cut_now(service, collection, clock):
    document_id, _ = only_document(collection)
    index_all(collection)
    collection.segment(document_id, "fixed", SizeBounds(16, 40))
    assert not collection.find(document_id).is_indexed and not service.worker.work(), "more edits may follow"
    clock.now += 5
    assert service.worker.work() and collection.find(document_id).is_indexed
    settings.save(collection, {"auto_index": False})
    collection.segment(document_id, "structural", SizeBounds(16, 128))
    clock.now += 5
    assert not service.worker.work() and not collection.find(document_id).is_indexed


def test_an_edit_ends_the_indexing_of_the_blocks_as_they_were(service, collection, clock, steps):
    document_id, _ = only_document(collection)
    index.start(collection)

    def edit():
        steps.then = lambda: None
        collection.set_granularity(document_id, 1.0)

    steps.then = edit
    assert service.worker.work() and len(collection.pipeline.index) == 0
    clock.now += 5
    assert service.worker.work() and collection.find(document_id).is_indexed


def test_a_failure_is_told_and_tried_again_on_request(service, collection, monkeypatch, caplog):
    def fail(self, document, report):
        raise ZeroDivisionError

    monkeypatch.setattr(type(collection), "index", fail)
    row = index_all(collection)["rows"][0]
    assert row["state"] == "failed" and "internal error" in row["text"] and "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    assert index_all(collection)["rows"][0]["state"] == "done"


def test_what_an_earlier_program_indexed_is_compared_once(collection, monkeypatch):
    document_id, document = only_document(collection)
    index_all(collection)
    store = collection.store.segmentations
    for cut, expected in ((None, True), ("", False)):
        if not expected:
            collection.segment(document_id, "fixed", SizeBounds(16, 40))
        store.note_indexed(document.record.id, cut)
        assert collection.find(document_id).is_indexed == expected
    assert store.get(document.record.id).indexed_cut == ""


def test_collections_take_turns(service, tmp_path):
    collections = [visitor(service) for _ in range(2)]
    for collection in collections:
        for n in range(2):
            path = tmp_path / f"{n}.txt"
            path.write_text("A text. " * 30)
            collection.library.receive(collection.record.id, path, path.name)
    served = []
    worker = Worker(service.library.store.jobs, lambda token: served.append(token) or service._find(token))
    for _ in range(4):
        worker.work()
    assert served == [collections[0].token, collections[1].token] * 2


def test_work_waits_while_a_question_is_answered(service, collection, steps, monkeypatch):
    monkeypatch.setattr("ui.worker.YIELD_S", 0.05)
    slept = []
    monkeypatch.setattr("ui.worker.time.sleep", lambda seconds: slept.append(seconds))
    index_all(collection)
    assert not slept
    collection.segment(only_document(collection)[0], "fixed", SizeBounds(16, 40))
    with service.engine.queue.ticket() as ticket:
        assert ticket.wait(1)
        assert index_all(collection)["rows"][0]["state"] == "done" and slept
