"""The page with a remote store (``--kv-remote``) that is missing, slow, or fails midway."""

import threading
import time

import pytest

from blockrag.errors import KVTierError
from blockrag.kv.remote import RemoteTier
from storage.doctor import mend
from tests.tiny import tiny_engine
from tests.ui.serving import TEXT, answered, index_all, load_files, make_service
from ui.handlers import blocks, documents, index, kv_cache, settings
from ui.page import build


class Network:
    """Wraps a tier's store: counts requests, and makes them fail or wait."""

    def __init__(self, store):
        self._store, self.is_down, self.delay_s, self.n_requests = store, False, 0.0, 0

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self.n_requests += 1
            time.sleep(self.delay_s)
            if self.is_down:
                raise ConnectionError("no route to the store")
            return getattr(self._store, name)(*args, **kwargs)

        return call


@pytest.fixture
def service(tmp_path):
    engine = tiny_engine(tmp_path / "kv")
    engine.kv.tiers.append(RemoteTier(f"file://{tmp_path}/team", engine.identity.digest))
    service = make_service(engine, tmp_path / "data", "shared")
    yield service
    service.library.close()


@pytest.fixture
def network(service, monkeypatch):
    monkeypatch.setattr("blockrag.kv.remote.RETRY_S", 0.0)  # every request meets the failure
    remote = service.engine.kv.tiers[-1]
    remote._store = Network(remote._store)
    return remote._store


@pytest.fixture
def collection(service, tmp_path):
    collection = service.get(service.enter({}))
    (tmp_path / "rivers.md").write_text(TEXT)
    load_files(collection, [tmp_path / "rivers.md"])
    return collection


def indexed(collection) -> dict:
    (row,) = index_all(collection)["rows"]
    return row


def answer(collection):
    return answered(collection, modes=("block",))


def clear_local_tiers(service):
    for tier in service.engine.kv.local_tiers:
        for key in tier.keys():
            tier.delete(key)


def test_every_tab_works_without_the_store(service, network, collection):
    network.is_down = True
    assert indexed(collection)["state"] == "done"
    assert index.overview(collection)["rows"][0]["state"] == "done"
    state = answer(collection)
    assert not state.error and state.answers["block"].report.kv_misses == 0
    clear_local_tiers(service)
    state = answer(collection)
    report = state.answers["block"].report
    assert not state.error and report.kv_misses == 4 and any("no route" in note for note in report.notes)
    assert "remote: no limit" in blocks.view(collection, next(iter(collection.documents)))["cost"]
    monitor = kv_cache.TierMonitor(service.engine)
    assert [tier["name"] for tier in kv_cache.view(collection, monitor)["tiers"]] == ["memory", "disk", "remote"]
    assert kv_cache.clear(collection, "memory") > 0 and kv_cache.move_to_memory(collection) > 0
    list(kv_cache.warm(collection))
    with pytest.raises(KVTierError, match="no route"):  # shown on the page
        kv_cache.clear(collection, "remote")
    assert build(service, monitor) is not None
    collection.remove(next(iter(collection.documents)))
    assert documents.view(collection)["rows"] == [] and service.engine.kv.tiers[0].keys() == []


def test_a_slow_store_costs_time_alone(service, network, collection):
    network.delay_s = 0.02
    assert indexed(collection)["state"] == "done"
    first = answer(collection).answers["block"]
    clear_local_tiers(service)
    second = answer(collection).answers["block"]
    assert second.text == first.text and second.report.kv_hits == {"remote": 4} and not second.report.notes


def test_an_answer_survives_a_store_that_fails_midway(service, network, collection):
    assert indexed(collection)["state"] == "done"
    first = answer(collection).answers["block"]
    clear_local_tiers(service)
    fetched, remote, one_by_one = [], service.engine.kv.tiers[-1], threading.Lock()
    get = remote.get

    def die(key):
        with one_by_one:
            network.is_down = len(fetched) >= 2
            fetched.append(key)
            return get(key)

    remote.get = die
    second = answer(collection).answers["block"]
    assert second.text == first.text and second.report.kv_hits == {"remote": 2} and second.report.kv_misses == 2


def test_indexing_survives_a_store_that_fails_midway(service, network, collection):
    warm_blocks = service.engine.warm_blocks

    def fail_midway(blocks, on_progress):
        def report(step):
            network.is_down = step.done > 0
            on_progress(step)

        warm_blocks(blocks, report)

    service.engine.warm_blocks = fail_midway
    assert indexed(collection)["state"] == "done" and network.is_down
    assert collection.pipeline.index and not answer(collection).error


def test_drawing_sends_no_request_to_the_store(service, network, collection):
    indexed(collection)
    network.n_requests, network.delay_s = 0, 5.0
    monitor = kv_cache.TierMonitor(service.engine)
    monitor.sample()
    *_, remote = kv_cache.view(collection, monitor)["tiers"]
    assert remote["used"] is remote["budget"] is remote["blocks"] is remote["mine"] is None
    index.overview(collection)
    blocks.view(collection, next(iter(collection.documents)))
    settings.budgets(service)
    build(service, monitor)
    assert mend(service.library) == ([], [])
    assert network.n_requests == 0


def test_budgets_are_saved_if_one_tier_has_none(service, network, collection):
    budgets = settings.budgets(service)
    assert set(budgets) == {"memory", "disk"}
    settings.set_budgets(service, budgets | {"disk": 1.5})
    settings.restore_budgets(service)
    assert settings.budgets(service) == budgets | {"disk": 1.5}
    with pytest.raises(settings.PreferenceError, match="no tier 'remote' with a budget"):
        settings.set_budgets(service, {"remote": 1.0})


def test_the_monitor_continues_after_a_failure(service, monkeypatch):
    monkeypatch.setattr(kv_cache, "SAMPLE_S", 0.01)
    monitor, stop, samples = kv_cache.TierMonitor(service.engine), threading.Event(), []

    def sample():
        samples.append(len(samples))
        if len(samples) < 3:
            raise KVTierError("the folder is gone")
        stop.set()

    monkeypatch.setattr(monitor, "sample", sample)
    thread = threading.Thread(target=monitor.run, args=(stop,))
    thread.start()
    thread.join(20)
    assert samples == [0, 1, 2]
