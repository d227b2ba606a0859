"""``auto``: which model a machine gets, that it is said, and that an index keeps its own."""

import logging
import re

import pytest
import torch

import blockrag.models.choose as choose
from blockrag import BlockRAG
from blockrag.cli import main, options
from blockrag.documents import Document
from blockrag.engine import NO_ADAPTER_NOTE, Engine
from blockrag.models import AUTO, DEFAULT_MODEL, choose_model, local_path
from blockrag.models.answer_model import AnswerModel
from blockrag.models.choose import choose_for_store, note_model
from blockrag.models.store import home
from blockrag.pipeline import Pipeline
from tests.tiny import WordEmbedder, tiny_engine, tiny_model, tiny_tokenizer

GB = 10**9


@pytest.fixture
def machine(monkeypatch):
    """Sets what the machine has."""
    choose_model.cache_clear()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def have(memory: int | None = 0, gpu: int | None = None, bfloat16: bool = True, adapters: bool = True) -> None:
        choose_model.cache_clear()
        monkeypatch.setattr(choose, "has_adapter", lambda name: adapters)
        monkeypatch.setattr(choose, "free_memory", lambda: memory)
        monkeypatch.setattr("torch.cuda.is_available", lambda: gpu is not None)
        monkeypatch.setattr("torch.cuda.device_count", lambda: int(gpu is not None))
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (gpu, 80 * GB))
        monkeypatch.setattr("blockrag.models.load.cpu_multiplies_bfloat16", lambda: bfloat16)

    yield have
    choose_model.cache_clear()


@pytest.mark.parametrize(
    "has, name, reason",
    [
        ({"gpu": 79 * GB}, "qwen2.5-coder-1.5b", r"79\.0 GB of the GPU's memory are free; it takes about 7\.6"),
        ({"gpu": 5 * GB}, "qwen2.5-coder-0.5b", r"5\.0 GB of the GPU's"),
        ({"gpu": 1 * GB}, "smollm2", r"1\.0 GB of the GPU's memory are free; qwen2.5-coder-0.5b takes about 3\.7"),
        ({"memory": 16 * GB}, "qwen2.5-coder-0.5b", r"16\.0 GB of memory are free; it takes about 3\.7"),
        ({"memory": 5 * GB, "bfloat16": False}, "smollm2", r"qwen2.5-coder-0.5b takes about 5\.8"),
        ({"memory": 2 * GB}, "smollm2", r"2\.0 GB of memory"),
        ({"memory": None}, "qwen2.5-coder-0.5b", "does not say"),
        ({"gpu": 79 * GB, "adapters": False}, "smollm2", "no adapter ships yet for qwen2.5-coder-1.5b and qwen"),
        ({"memory": 16 * GB, "adapters": False}, "smollm2", "no adapter ships yet for qwen2.5-coder-0.5b, and without"),
    ],
)
def test_the_machine_decides(machine, has, name, reason):
    machine(**has)
    choice = choose_model()
    assert choice.name == name and re.search(reason, choice.reason)
    assert choose_model() is choice, "one process, one answer"


def test_adapters_are_known_by_the_hash_of_their_base():
    assert choose.has_adapter("smollm2")


def test_a_device_that_is_named_counts(machine):
    machine(memory=16 * GB, gpu=79 * GB)
    assert choose_model("cpu").name == "qwen2.5-coder-0.5b" and choose_model("cuda:0").name == "qwen2.5-coder-1.5b"


def test_memory_is_read_from_the_system(tmp_path):
    assert choose.free_memory() > 100_000_000
    for file, text in (
        ("memory.max", "5000\n"),
        ("memory.current", "3000\n"),
        ("memory.stat", "anon 1\ninactive_file 500\n"),
    ):
        (tmp_path / file).write_text(text)
    assert choose._container_limit(tmp_path) == 2500
    (tmp_path / "memory.max").write_text("max\n")
    assert choose._container_limit(tmp_path) is None is choose._container_limit(tmp_path / "absent")


def test_auto_names_the_chosen_models_folder(machine, monkeypatch, tmp_path):
    machine(memory=2 * GB)
    monkeypatch.setenv("BLOCKRAG_HOME", str(tmp_path))
    monkeypatch.setattr("blockrag.models.store._is_here", lambda name, digest: True)
    assert DEFAULT_MODEL == AUTO and local_path(AUTO) == home() / "models" / "smollm2"


def test_the_command_line_says_which_and_why_and_how_to_change_it(machine, capsys, tmp_path):
    machine(memory=2 * GB)
    assert options.pick_model(AUTO, None, tmp_path).name == "smollm2"
    said = capsys.readouterr()
    assert said.out == "" and "model smollm2: 2.0 GB of memory are free" in said.err and "--model NAME" in said.err
    assert options.pick_model("org/name", None).name == "org/name" and capsys.readouterr().err == ""


def test_fetching_without_a_name_fetches_the_defaults_of_this_machine(machine, monkeypatch, capsys):
    machine(memory=2 * GB)
    fetched = []
    monkeypatch.setattr("blockrag.cli.models.local_path", fetched.append)
    assert main(["models", "fetch"]) == 0
    assert fetched == ["smollm2", "minilm"] and "2.0 GB of memory are free" in capsys.readouterr().err


def test_an_index_keeps_the_model_that_made_it(machine, tmp_path):
    machine(memory=16 * GB)
    assert choose_for_store(tmp_path).name == "qwen2.5-coder-0.5b"
    note_model(tmp_path, "smollm2")
    note_model(tmp_path, "another")
    assert choose_for_store(tmp_path) == choose.Choice("smollm2", f"the index in {tmp_path} was made with it")


def test_an_index_from_before_notes_was_made_by_the_default_of_then(machine, tmp_path):
    machine(memory=16 * GB)
    Pipeline.open(tiny_engine(), tmp_path)
    assert choose_for_store(tmp_path).name == "smollm2"


def test_the_library_opens_a_directory_with_its_model(machine, tmp_path, monkeypatch):
    machine(memory=16 * GB)
    opened = []

    def from_pretrained(name, **settings):
        opened.append(name)
        return tiny_engine()

    monkeypatch.setattr(Engine, "from_pretrained", from_pretrained)
    BlockRAG.from_pretrained("smollm2", directory=tmp_path).close()
    BlockRAG.from_pretrained(directory=tmp_path).close()
    BlockRAG.from_pretrained().close()
    assert opened == ["smollm2", "smollm2", "qwen2.5-coder-0.5b"]


@pytest.fixture
def without_weights(monkeypatch):
    """`Engine.from_pretrained` on tiny models; the dtypes that it asked for."""
    asked = []

    def load(name, *, dtype, **settings):
        asked.append(dtype)
        return tiny_model(tokenizer=tiny_tokenizer())

    monkeypatch.setattr("blockrag.engine.load_answer_model", load)
    monkeypatch.setattr("blockrag.engine.adapter_folder", lambda adapter, name: None)
    monkeypatch.setattr("blockrag.engine.load_embedder", lambda *args: WordEmbedder())
    return asked


def test_block_mode_without_an_adapter_warns_once_and_in_each_report(without_weights, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        engine = Engine.from_pretrained("toy", device="cpu", dtype="bfloat16")
    [warning] = [record.getMessage() for record in caplog.records]
    assert warning.startswith("toy: block mode runs without an adapter") and "training.distill adapt" in warning
    assert engine.adapter is None and without_weights == [torch.bfloat16]
    pipeline = Pipeline.open(engine, tmp_path)
    pipeline.add(pipeline.segment(Document("towns.md", "text/markdown", "# Towns\n\nThe tower is high."), "structural"))
    notes = {mode: [*pipeline.ask("why?", mode, 1, 1)][-1].report.notes for mode in ("block", "full")}
    assert notes == {"block": (NO_ADAPTER_NOTE,), "full": ()}


def test_an_engine_with_an_adapter_names_it():
    model = tiny_model(tokenizer=tiny_tokenizer())
    adapted = AnswerModel(model.network, model.tokenizer, "w", full=model)
    kv = tiny_engine().kv
    assert Engine(adapted, WordEmbedder(), kv, "mine").adapter == "mine"
    assert (
        Engine(adapted, WordEmbedder(), kv).adapter == "unnamed" and Engine(model, WordEmbedder(), kv).adapter is None
    )


def test_in_llamaindex_auto_is_replaced_by_the_name(machine, monkeypatch):
    llamaindex = pytest.importorskip("blockrag.llamaindex", exc_type=ImportError)
    machine(memory=16 * GB)
    opened = []
    monkeypatch.setattr(Engine, "from_pretrained", lambda name, **settings: opened.append(name) or tiny_engine())
    assert llamaindex.BlockAttentionLLM.from_pretrained().model == "qwen2.5-coder-0.5b" == opened[0]
    parser = llamaindex.SemanticBlockNodeParser()
    assert parser.model == parser.to_dict()["model"] == "qwen2.5-coder-0.5b"
