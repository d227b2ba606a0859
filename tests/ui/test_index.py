"""Index documents and show progress."""

import pytest

from tests.ui.serving import only_document
from ui.handlers import index


def test_a_document_removed_while_it_is_indexed_stays_removed(collection):
    document_id, _ = only_document(collection)
    running = index.index_all(collection)
    next(running)
    collection.remove(document_id)
    assert list(running)[-1]["rows"] == [] and len(collection.pipeline.index) == 0


def test_indexing_reports_every_block_once(collection, monkeypatch):
    monkeypatch.setattr(index, "REDRAW_S", 0)
    document_id, document = only_document(collection)
    assert index.overview(collection)["rows"][0]["state"] == "waiting"
    views = list(index.index_all(collection))
    done = [view["rows"][0]["done"] for view in views]
    assert done == sorted(done) and done[-1] == len(document.starts) and len(set(done)) == len(document.starts) + 1
    assert views[-1]["rows"][0]["state"] == "done" and "KV: " in views[-1]["rows"][0]["text"]
    assert set(views[-1]["rows"][0]["cells"]) == {"memory"}
    assert list(index.index_all(collection)) == [index.overview(collection)], "nothing is left to do"
    collection.set_granularity(document_id, 1.0)
    assert "changed since" in index.overview(collection)["rows"][0]["text"]


@pytest.mark.parametrize("stop", ["button", "closed page", "before it began"])
def test_stopped_indexing_leaves_the_index_as_it_was(collection, stop):
    running = index.index_all(collection)
    assert "waiting" in index.start(collection)["rows"][0]["text"]
    if stop == "before it began":
        index.stop(collection)
    views = [next(running)]
    if stop == "button":
        index.stop(collection)
    if stop == "closed page":
        running.close()
    *_, last = [*views, *running]
    assert stop == "closed page" or last == index.overview(collection), (
        "nothing is said after the stop but how it stands"
    )
    assert len(collection.pipeline.index) == 0 and index.overview(collection)["rows"][0]["state"] == "waiting"
    index.start(collection)
    assert [*index.index_all(collection)][-1]["rows"][0]["state"] == "done"
