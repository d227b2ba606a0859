"""The benchmarks run on a tiny model, report every column, and compare the same prompts."""

import importlib
import json
import shutil
import time
from pathlib import Path

import pytest
import torch

from benchmarks import common, machine, plot, race, shapes
from benchmarks.machine import Machine
from blockrag.documents import media, readers
from blockrag.segment import find_candidates
from blockrag.segment.layout import read_layout
from tests.tiny import WordEmbedder, tiny_model

pytestmark = pytest.mark.slow

MACHINE = Machine("a CPU", 2, torch.__version__, 20.0, None, 1.0, 0.3)
COLUMNS = {
    "ttft": {"context", "full_ms", "block_ms", "assemble_ms", "query_ms", "floor_ms", "ratio", "times_floor"},
    "encode": {"context", "blocks", "encode_ms", "full_ms", "ratio", "share_of_matmul"},
    "queue": {"context", "mode", "at_once", "questions_per_s", "tokens_per_s", "first_token_ms"},
    "decode": {"context", "token_ms", "plain_token_ms", "floor_ms", "share_of_bandwidth"},
    "tiers": {"tier", "context", "load_ms", "ttft_ms", "read_ms", "encode_ms", "full_ms", "again", "share_of_link"},
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    subject = shapes.Subject("tiny", tiny_model(), random_weights=True)
    monkeypatch.setattr(common, "open_subject", lambda name, device: subject)
    monkeypatch.setattr(common, "measure_machine", lambda device, dtype: MACHINE)
    return subject


@pytest.mark.parametrize("name", COLUMNS)
def test_the_last_line_and_the_file_are_the_result(name, tmp_path, capsys):
    path = tmp_path / f"{name}-tiny.json"
    arguments = ["--device", "cpu", "--lengths", "512", "100", "--repeats", "3", "--json", str(path)]
    importlib.import_module(f"benchmarks.{name}").main(arguments)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == json.loads(path.read_text())
    assert result["model"] == "tiny" and result["random_weights"] and result["device"] == "cpu"
    assert result["dtype"] == "float32" and len(result["commit"].removesuffix("-dirty")) >= 7
    assert result["machine"]["copy_gb_per_s"] == 20.0
    assert all(COLUMNS[name] <= set(row) for row in result["rows"])
    assert {100, 512} <= {row["context"] for row in result["rows"]} or name in ("decode", "tiers", "queue")
    assert plot.draw(path).stat().st_size > 5000


def test_retrieval_prints_a_row_for_each_size_and_its_json(monkeypatch, tmp_path, capsys):
    retrieval, path = importlib.import_module("benchmarks.retrieval"), tmp_path / "retrieval-tiny.json"
    monkeypatch.setattr(retrieval, "load_embedder", lambda *args: WordEmbedder())
    retrieval.main(["--lengths", "5000", "20000", "--blocks", "300", "--repeats", "3", "--json", str(path)])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == json.loads(path.read_text())
    assert [(row["chars"], row["blocks"]) for row in result["rows"]] == [(5000, 5), (20000, 20), (300_000, 300)]
    assert all(row["retrieval_ms"] >= row["embed_ms"] + row["read_ms"] for row in result["rows"])
    assert plot.draw(path).stat().st_size > 5000


def test_every_result_that_is_kept_has_its_picture(tmp_path):
    kept = sorted((Path(plot.__file__).parent / "results").glob("*.json"))
    drawn_by = {path: path.stem.split("-")[0] for path in kept}
    assert set(drawn_by.values()) == {*plot.DRAWINGS, "race", "sizing"} - {"queue"}, "sizing is a table"
    assert all(path.with_suffix(".png").exists() for path, kind in drawn_by.items() if kind in plot.DRAWINGS)
    races = [path for path, kind in drawn_by.items() if kind == "race"]
    drawn = {path.read_text() for path in (Path(plot.__file__).parent.parent / "docs").glob("race*.svg")}
    assert drawn == {race.draw(json.loads(path.read_text())) for path in races}
    compare = shutil.copy(next(path for path in kept if path.stem == "compare-cpu"), tmp_path)
    assert plot.draw(Path(compare)).stat().st_size > 5000


def test_the_first_tokens_of_both_modes_come_from_the_same_prompt(monkeypatch, tiny):
    ttft, seen = importlib.import_module("benchmarks.ttft"), []
    original = ttft.first_token

    def first_token(runner, parts, prompt):
        n_parts = sum(part.n_tokens for part in parts)
        seen.append((n_parts, n_parts + len(prompt), tuple(prompt[-5:])))
        return original(runner, parts, prompt)

    monkeypatch.setattr(ttft, "first_token", first_token)
    (row,) = ttft.measure(tiny, MACHINE, [600], repeats=2)
    assert {n_parts for n_parts, _, _ in seen} == {0, 600}
    assert len({(total, end) for _, total, end in seen}) == 1
    assert row["context"] == 600


def test_the_floor_counts_what_the_memory_must_move(tiny):
    network = tiny.model.network
    everything = sum(p.numel() for p in network.parameters())
    assert tiny.weights_nbytes == 4 * (everything - network.get_input_embeddings().weight.numel())


def test_the_machine_is_measured(tmp_path):
    found = machine.measure_machine(torch.device("cpu"), torch.float32, tmp_path)
    assert found.copy_gb_per_s > 0.1 and found.matmul_tflop_per_s > 1e-3 and found.pinned_gb_per_s is None
    assert found.disk_gb_per_s > 0 and not list(tmp_path.iterdir())


def test_shapes_are_those_of_the_published_models():
    for name, n_layers, n_parameters in (("llama-3.1-8b", 32, 8.03e9), ("qwen3-4b", 36, 4.02e9)):
        settings = dict(shapes.SHAPES[name])
        with torch.device("meta"):
            config = shapes.AutoConfig.for_model(settings.pop("model_type"), **settings)
            network = shapes.AutoModelForCausalLM.from_config(config)
        assert config.num_hidden_layers == n_layers
        assert sum(p.numel() for p in network.parameters()) == pytest.approx(n_parameters, rel=0.01)


def test_loading_prints_a_row_for_each_type_and_size(tmp_path):
    path = tmp_path / "loading.json"
    loading = importlib.import_module("benchmarks.loading")
    loading.main(["--types", ".csv", ".eml", "--sizes", "3000", "--repeats", "1", "--json", str(path)])
    rows = json.loads(path.read_text())["rows"]
    assert [row["type"] for row in rows] == [".csv", ".eml"] and all(row["load_s"] > 0 < row["peak_mb"] for row in rows)


def test_the_time_of_loading_grows_no_faster_than_the_file():
    """Of every type: time for each character of a file ten times as long, at most three times as much."""
    limits = importlib.import_module("benchmarks.loading").LIMITS
    for suffix, make in importlib.import_module("benchmarks.loading_files").MAKERS.items():
        costs = []
        for n in (10_000, 100_000):
            data = make(n)
            kind = media.media_type(f"f{suffix}", data)
            runs = []
            for _ in range(3):
                started = time.process_time()
                text = readers.load(kind)(f"f{suffix}", data, limits).text
                read_layout(text, kind).allows(find_candidates(text))
                runs.append(time.process_time() - started)
            costs.append(min(runs) / len(text))
        assert costs[1] < 3 * costs[0], f"{suffix}: {costs}"
