"""A visitor's settings, the tiers' budgets, the models in use."""

import threading

import pytest

from blockrag.engine import Engine
from blockrag.errors import SegmentationError, WeightsError
from blockrag.kv.memory import MemoryTier
from blockrag.kv.tiered import TieredKV
from blockrag.models.load import adapted
from blockrag.segment import DEFAULT_SEGMENTER, SizeBounds
from storage.library import Library
from tests.tiny import WordEmbedder, make_adapter, tiny_engine, tiny_model, tiny_tokenizer
from tests.ui.serving import TEXT, answered, index_all, load_files, visitor
from ui.collection_service import CollectionService
from ui.handlers import settings
from ui.models import ModelNames
from ui.preferences import PreferenceError


def test_settings_are_checked_saved_and_used(service, collection, tmp_path):
    kept = settings.save(
        collection, {"segmenter": "fixed", "min_tokens": 16, "max_tokens": 64, "granularity": 1, "k": 3}
    )
    assert kept["k"] == 3 and kept["granularity"] == 1.0 and visitor(service).settings["segmenter"] == DEFAULT_SEGMENTER
    (tmp_path / "more.md").write_text(TEXT * 2)
    load_files(collection, [tmp_path / "more.md"])
    document = list(collection.documents.values())[1]
    assert (document.saved.segmenter, document.saved.bounds, document.saved.granularity) == (
        "fixed",
        SizeBounds(16, 64),
        1.0,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"k": 99},
        {"k": "8"},
        {"k": True},
        {"granularity": float("nan")},
        {"granularity": None},
        {"mode": "both"},
        {"segmenter": "../x"},
        {"min_tokens": 400, "max_tokens": 500},
        {"owner": "local"},
    ],
)
def test_settings_out_of_bounds_are_refused(collection, wrong):
    with pytest.raises((PreferenceError, SegmentationError)):
        settings.save(collection, wrong)
    assert collection.settings["k"] == 8


def test_budgets_can_be_set_only_in_shared_mode(service, collection):
    with pytest.raises(PreferenceError, match="shares the tiers"):
        settings.set_budgets(service, {"memory": 1.0})
    index_all(collection)
    mine = CollectionService(service.library, "shared")
    for wrong in ({"memory": -1}, {"memory": "x"}, {"nothing": 1}, {"memory": float("nan")}):
        with pytest.raises(PreferenceError):
            settings.set_budgets(mine, wrong)
    others = CollectionService(service.library, "shared", is_personal=False)
    for call in (lambda: settings.set_budgets(others, {}), lambda: settings.set_budgets(mine, {}, "192.0.2.1")):
        with pytest.raises(PreferenceError, match="shares the tiers"):
            call()
    settings.set_budgets(mine, {"memory": 0, "disk": 1.5})
    memory, disk = mine.engine.kv.tiers
    assert memory.nbytes == 0 == len(memory.keys()) and disk.budget_nbytes == int(1.5 * 2**30)
    disk.set_budget(5)
    settings.restore_budgets(mine)
    assert settings.budgets(service) == {"memory": 0, "disk": 1.5}


def test_models_are_shown_by_name_without_a_path(service, tmp_path):
    described = settings.models_view(service)
    assert "llama, 2 layers, float32 on cpu" in described["model"] and described["adapter"].startswith("none: ")
    network = tiny_model().network
    model = adapted(network, tiny_tokenizer(), "tiny", make_adapter())
    engine = Engine(model, WordEmbedder(), TieredKV([MemoryTier(1 << 20)]))
    library = Library(service.library.store, engine, tmp_path / "adapted")
    (tmp_path / "mine").mkdir()
    for given, name in ((str(tmp_path / "mine"), "mine"), ("auto", "the adapter shipped"), ("qa-lora", "qa-lora")):
        names = ModelNames("org/model", given, str(tmp_path))
        described = settings.models_view(CollectionService(library, "shared", model_names=names))
        assert described["model"].startswith("org/model: llama") and described["embedder"].endswith("64 dimensions")
        assert described["adapter"].startswith(f"{name}") and "2 sinks before each block" in described["adapter"]
        assert str(tmp_path.parent) not in "".join(described.values())


def test_another_model_answers_without_a_restart_and_documents_are_indexed_again(service, collection, clock, tmp_path):
    index_all(collection)
    gate, seen = threading.Event(), []

    def load(name):
        gate.wait(20)
        if name == "broken":
            raise WeightsError("there is no such model")
        return tiny_engine(tmp_path / "kv", seed=7)

    shared = CollectionService(service.library, "shared", load_model=load, clock=clock)
    shared.on_model.append(seen.append)
    mine = shared.open(None, collection.token)
    before = answered(mine, modes=("block",))
    settings.use_model(shared, " other ")
    assert "other" in shared.model.text
    with pytest.raises(PreferenceError, match="Another model is being loaded"):
        settings.use_model(shared, "third")
    gate.set()
    shared.model.wait()
    assert shared.model.text == "" and seen == [shared.engine] and "**other**" in settings.model_line(shared)
    assert service.library.store.settings.of("")["model"] == "other"
    now = shared.open(None, collection.token)
    assert not next(iter(now.documents.values())).is_indexed
    assert shared.worker.work() and next(iter(now.documents.values())).is_indexed
    assert answered(now, modes=("block",)).texts != before.texts
    settings.use_model(shared, "broken")
    shared.model.wait()
    assert "broken could not be loaded, the model in use stays: there is no such model" in shared.model.text
    assert shared.model_names.model == "other"
    for wrong in ("", " "):
        with pytest.raises(PreferenceError, match="Name a model"):
            settings.use_model(shared, wrong)
    others = CollectionService(service.library, "shared", is_personal=False)
    with pytest.raises(PreferenceError, match="when the application is started"):
        settings.use_model(service, "other")
    for call in (lambda: settings.use_model(shared, "other", "192.0.2.1"), lambda: settings.use_model(others, "other")):
        with pytest.raises(PreferenceError, match="when the application is started"):
            call()
