"""Show, clear, fill and move a collection's KV; measure this machine."""

from tests.ui.serving import index_all, visitor
from ui.handlers import benchmarks, index, kv_cache


def test_the_cache_is_shown_cleared_filled_and_moved(collection):
    index_all(collection)
    monitor = kv_cache.TierMonitor(collection.library.engine)
    view = kv_cache.view(collection, monitor)
    memory, disk = view["tiers"]
    assert memory["mine"] == disk["mine"] == view["n_mine"] > 3 and memory["used"] <= memory["budget"]
    assert list(view["nbytes"]) == ["memory", "disk"]
    assert kv_cache.clear(collection, "memory") == view["n_mine"] and kv_cache.clear(collection, "nothing") == 0
    assert [tier["mine"] for tier in kv_cache.view(collection, monitor)["tiers"]] == [0, view["n_mine"]]
    assert kv_cache.move_to_memory(collection) == view["n_mine"] and kv_cache.move_to_memory(collection) == 0
    assert kv_cache.clear(collection, "memory") and kv_cache.clear(collection, "disk")
    assert "KV not cached (built on first use)" in index.overview(collection)["rows"][0]["text"]
    assert len(list(kv_cache.warm(collection))) >= view["n_mine"]
    assert [tier["mine"] for tier in kv_cache.view(collection, monitor)["tiers"]] == [view["n_mine"]] * 2


def test_clearing_leaves_other_collections_kv(service, collection, tmp_path):
    index_all(collection)
    other = visitor(service)
    n = len(collection.library.engine.kv.tiers[0].keys())
    assert kv_cache.clear(other, "memory") == 0 and len(collection.library.engine.kv.tiers[0].keys()) == n > 0


def test_this_machine_is_measured(collection):
    *_, last = benchmarks.measure(collection.library.engine)
    (table,) = last["tables"]
    assert [row[0] for row in table["rows"]] == ["256", "512", "1,024", "2,048"] and not last["busy"]
    assert len(collection.library.engine.kv.tiers[0].keys()) == 0, "the measured blocks are deleted"
    assert len(benchmarks.tables()) >= 2 and all(table["rows"] for table in benchmarks.tables())
