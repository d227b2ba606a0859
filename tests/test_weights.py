"""Weights: fetching, verifying, keeping, hashing; each failure names the way out. No network but in the last test."""

import hashlib
import json
import os
import re
import shutil
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
from safetensors.torch import load_file, save_file

import blockrag.models.fetch as fetch_module
import blockrag.models.store as cache
from blockrag.cli import main
from blockrag.errors import UnsupportedModelError, WeightsError
from blockrag.models import local_path, remove, weights_sha256
from blockrag.models.catalog import CATALOG, HubFile, Wheel
from blockrag.models.fetch import sha256
from blockrag.models.int8 import Int8Linear, use_int8
from blockrag.models.load import best_dtype, load_answer_model
from blockrag.models.store import base_id
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKRAG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write_wheel(folder: Path, package: str, files: dict[str, bytes | str]) -> Path:
    """A wheel of version 1.0 with these files, which must never be run."""
    name = package.replace("-", "_")
    wheel, info = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(f"{name}/{path}", content)
        archive.writestr(f"{name}/__init__.py", "raise SystemExit('never run')")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def entry_of(wheel: Path, member: str) -> Wheel:
    package = wheel.name.split("-")[0]
    return Wheel(package.replace("_", "-"), "1.0", sha256(wheel), wheel.stat().st_size, f"{package}/{member}")


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def index_folder(tmp_path, monkeypatch):
    """A package index in a folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def index(index_folder, monkeypatch):
    """An index with one package whose weights are eight letters; and its catalog entry."""
    wheel = write_wheel(index_folder, "toy-weights", {"model/config.json": "{}", "model/model.safetensors": "weights!"})
    weights = replace(
        CATALOG["minilm"],
        name="toy",
        wheels=(entry_of(wheel, "model/"),),
        weights_sha256=sha256_of(b"weights!"),
        weights_nbytes=8,
    )
    monkeypatch.setitem(CATALOG, "toy", weights)
    return SimpleNamespace(folder=index_folder, wheel=wheel, weights=weights)


@pytest.fixture
def parts(index_folder, monkeypatch):
    """An index with the three parts of a GGUF file, and its catalog entry; converting copies the file."""
    contents = [b"one, ", b"two, ", b"three"]
    wheels = [
        write_wheel(index_folder, f"toy-part{number}", {"part.bin": content})
        for number, content in enumerate(contents, start=1)
    ]
    weights = replace(
        CATALOG["smollm2"],
        name="toy",
        weights_file="toy.gguf",
        weights_sha256=sha256_of(b"".join(contents)),
        weights_nbytes=15,
        wheels=tuple(entry_of(wheel, "part.bin") for wheel in wheels),
        hub=None,
    )
    monkeypatch.setitem(CATALOG, "toy", weights)

    def convert(file, target, dtype):
        target.mkdir()
        shutil.copy(file, target / dtype)

    monkeypatch.setattr("blockrag.models.convert.convert_gguf", convert)
    return SimpleNamespace(folder=index_folder, wheels=wheels, weights=weights)


def is_empty(home: Path) -> bool:
    return not list((home / "models").glob("*"))


def test_weights_are_fetched_once_and_then_need_no_index(home, index):
    folder = local_path("toy")
    assert folder == home / "models" / "toy" and (folder / "model.safetensors").read_text() == "weights!"
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors", "source.json"]
    assert index.weights.weights_sha256 in (folder / "source.json").read_text()
    index.wheel.unlink()
    assert local_path("toy") == folder and [p.name for p in (home / "models").iterdir()] == ["toy"]
    assert not (home / "downloads" / "toy").exists()


@pytest.mark.slow
def test_parts_are_joined_in_order_and_converted(home, parts):
    folder = local_path("toy")
    assert (folder / "float32").read_text() == "one, two, three" and base_id("toy") == parts.weights.weights_sha256
    assert not (home / "downloads" / "toy").exists()


@pytest.mark.slow
def test_after_a_break_the_parts_that_are_here_are_not_fetched_again(home, parts):
    third = parts.wheels[2].rename(parts.folder / "away")
    with pytest.raises(WeightsError, match=r"toy \(toy-part3 1.0\).*package index was not reached"):
        local_path("toy")
    third.rename(parts.wheels[2])
    kept = home / "downloads" / "toy" / parts.wheels[0].name
    assert kept.exists() and is_empty(home)
    (home / "downloads" / "toy" / parts.wheels[1].name).write_text("damaged meanwhile")
    parts.wheels[0].unlink()  # the index does not have it any more
    assert (local_path("toy") / "float32").read_text() == "one, two, three"


@pytest.mark.slow
def test_a_conversion_that_breaks_off_leaves_the_verified_file(home, parts, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("blockrag.models.convert.convert_gguf", killed)
        local_path("toy")
    assert [path.name for path in (home / "downloads" / "toy").glob("*.whl")] == [] and is_empty(home)
    for wheel in parts.wheels:
        wheel.unlink()
    assert (local_path("toy") / "float32").read_text() == "one, two, three"


@pytest.mark.slow
def test_a_joined_file_of_another_hash_is_thrown_away_with_its_parts(home, parts, monkeypatch):
    monkeypatch.setitem(CATALOG, "toy", replace(parts.weights, weights_sha256="0" * 64))
    with pytest.raises(WeightsError, match=r"toy.gguf has sha256 .* expected 0000.*not used"):
        local_path("toy")
    assert is_empty(home) and not list((home / "downloads" / "toy").glob("*.whl"))


@pytest.mark.slow
def test_one_bar_counts_over_all_parts(home, parts):
    told = []
    local_path("toy", lambda *step: told.append(step))
    total = sum(wheel.stat().st_size for wheel in parts.wheels)
    done = [n_done for _, n_done, _ in told]
    assert told[-1] == ("toy", total, total) and done == sorted(done) and {step[2] for step in told} == {total}


HUB = HubFile("org/toy", "a" * 40, "toy.gguf")


@pytest.fixture
def hub(monkeypatch, parts):
    """A hub with the file that the parts make; `hub.calls` is what was asked of it, `hub.content` what it gives."""
    monkeypatch.setitem(CATALOG, "toy", replace(parts.weights, hub=HUB))
    state = SimpleNamespace(calls=[], content=b"one, two, three", error=None, cached=None)

    def head(url, timeout):
        state.calls.append((url, timeout))
        if state.error:
            raise state.error

    def download(repo_id, filename, revision, local_dir, tqdm_class):
        assert (repo_id, filename, revision) == ("org/toy", "toy.gguf", "a" * 40)
        bar = tqdm_class(total=len(state.content), initial=5, desc=filename, name="hub")
        bar.update(len(state.content) - 5)
        (Path(local_dir) / filename).write_bytes(state.content)
        return str(Path(local_dir) / filename)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda **where: state.cached)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", head)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return state


def test_the_hub_comes_first_at_its_pinned_revision(home, hub, parts):
    for wheel in parts.wheels:
        wheel.unlink()
    told = []
    assert (local_path("toy", lambda *step: told.append(step)) / "float32").read_text() == "one, two, three"
    assert told == [("toy", 15, 15)] and f"/org/toy/resolve/{'a' * 40}/toy.gguf" in hub.calls[0][0]


@pytest.mark.slow
def test_without_the_hub_the_packages_are_fetched_and_that_is_said(home, hub, caplog):
    hub.error = RuntimeError("no route to host")
    assert (local_path("toy") / "float32").read_text() == "one, two, three"
    assert "org/toy/toy.gguf: no route to host. Trying the package index." in caplog.text
    assert hub.calls[0][1] <= 5, "seconds, and no more tries"


@pytest.mark.slow
def test_a_file_of_the_hub_of_another_hash_is_not_used(home, hub, caplog):
    hub.content = b"changed there!!"
    assert (local_path("toy") / "float32").read_text() == "one, two, three"
    assert "expected" in caplog.text and "not used" in caplog.text


def test_without_hub_and_index_both_reasons_are_told(home, hub, parts):
    hub.error = OSError("offline")
    parts.wheels[0].unlink()
    with pytest.raises(WeightsError, match=r"hub did not give.*offline\..*toy-part1.*package index was not reached"):
        local_path("toy")


def test_a_file_in_the_hubs_cache_needs_no_network(home, hub, tmp_path):
    hub.error = OSError("offline")
    hub.cached = str(tmp_path / "toy.gguf")
    Path(hub.cached).write_bytes(hub.content)
    assert (local_path("toy") / "float32").read_text() == "one, two, three"
    assert hub.calls == [] and Path(hub.cached).exists()


def test_a_disk_that_is_full_is_not_taken_for_an_absent_hub(home, hub):
    hub.error = OSError(28, "No space left on device")
    with pytest.raises(WeightsError, match="toy.*cannot be written.*No space left.*BLOCKRAG_HOME"):
        local_path("toy")


def test_catalog_pins_every_source():
    for weights in CATALOG.values():
        hashes = [weights.weights_sha256, *(wheel.sha256 for wheel in weights.wheels)]
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes) and len({*hashes}) == len(hashes)
        assert weights.hub is None or re.fullmatch("[0-9a-f]{40}", weights.hub.revision)


def test_a_wheel_of_another_hash_is_refused(home, index, monkeypatch):
    wheel = replace(index.weights.wheels[0], sha256="0" * 64)
    monkeypatch.setitem(CATALOG, "toy", replace(index.weights, wheels=(wheel,)))
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


def test_without_a_source_the_models_that_are_here_are_named(home, parts, monkeypatch):
    local_path("toy")
    absent = replace(parts.weights, name="other", wheels=(replace(parts.weights.wheels[0], package="no-such-package"),))
    monkeypatch.setitem(CATALOG, "other", absent)
    with pytest.raises(WeightsError, match=r"(?s)other \(no-such-package.*Here already: toy\."):
        local_path("other")


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


def test_several_may_fetch_at_once(home, index):
    with ThreadPoolExecutor(3) as threads:
        folders = list(threads.map(local_path, ["toy"] * 3))
    assert {*folders} == {home / "models" / "toy"} == {*(home / "models").iterdir()}


@pytest.mark.slow
def test_a_damaged_note_of_the_source_has_the_model_made_anew(home, index):
    (local_path("toy") / "source.json").write_text("{")
    assert json.loads((local_path("toy") / "source.json").read_text())["weights"]["sha256"]


def test_a_folder_kept_by_an_earlier_release_is_kept(home, index):
    folder = home / "models" / "toy"
    folder.mkdir(parents=True)
    source = {
        "format": 1,
        "wheel": {"name": "w", "sha256": "s"},
        "weights": {"name": "f", "sha256": index.weights.weights_sha256},
    }
    (folder / "source.json").write_text(json.dumps(source, indent=2))
    index.wheel.unlink()
    assert local_path("toy") == folder


@pytest.mark.slow
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
    total = index.wheel.stat().st_size
    assert told[-1] == ("toy", total, total) and all(0 <= n <= total for _, n, _ in told)
    remove("toy")

    def stop(*step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local_path("toy", stop)
    assert is_empty(home)


@pytest.mark.parametrize(
    "name, message",
    [("nonsense", "no model 'nonsense'; give one of smollm2, qwen2.5-coder-0.5b"), ("a/b/c", "no model")],
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
    with pytest.raises(WeightsError, match="org/name cannot be fetched from the Hugging Face hub.*offline"):
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


@pytest.fixture
def folder(home, tmp_path):
    """A tiny model as transformers saves it."""
    tiny_model().network.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def edit_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("method", ["awq", "gptq", "bitsandbytes", "fp8"])
def test_a_quantised_checkpoint_is_refused_by_its_method(folder, method):
    edit_config(folder, quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(UnsupportedModelError, match=rf"quantised \({method}\).*unquantised checkpoint, or a GGUF"):
        load_answer_model(str(folder))


@pytest.mark.parametrize("damage", ["absent", "{"])
def test_a_model_without_a_tokenizer_says_so(folder, damage):
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer.json").unlink()
    if damage != "absent":
        (folder / "tokenizer.json").write_text(damage)
    with pytest.raises(WeightsError, match=r"(?s)no tokenizer that can be read.*tokenizer\.json"):
        load_answer_model(str(folder))


def test_a_tokenizer_that_transformers_makes_up_is_refused(home, tmp_path):
    tiny_model("qwen2").network.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="has no tokenizer .a vocabulary of 1"):
        load_answer_model(str(tmp_path))


def test_weights_that_are_cut_off_or_incomplete_say_so(folder):
    file = folder / "model.safetensors"
    whole = load_file(file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="incomplete or damaged.*Fetch the model again"):
        load_answer_model(str(folder))
    save_file({name: t for name, t in whole.items() if name != "model.norm.weight"}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"1 tensors are missing, first model\.norm\.weight"):
        load_answer_model(str(folder))


def test_a_configuration_that_cannot_be_read_says_so(folder):
    edit_config(folder, model_type="nonsense")
    with pytest.raises(UnsupportedModelError, match="does not know this kind of model.*nonsense"):
        load_answer_model(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json cannot be read"):
        load_answer_model(str(folder))


def test_bfloat16_is_used_where_it_is_stored_and_multiplied(folder, monkeypatch):
    def multiplies(answer: bool) -> None:
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": answer}, raising=False)

    multiplies(True)
    assert load_answer_model(str(folder)).dtype == torch.float32, "stored in float32"
    edit_config(folder, dtype="bfloat16")
    assert load_answer_model(str(folder)).dtype == torch.bfloat16
    assert load_answer_model(str(folder), dtype=torch.float32).dtype == torch.float32
    multiplies(False)
    assert load_answer_model(str(folder)).dtype == torch.float32
    assert best_dtype("cuda", torch.float32) == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_tokens", [1, 16, 17])
def test_an_8_bit_layer_is_near_the_layer_for_few_and_many_tokens(dtype, n_tokens):
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 96).to(dtype)
    layer.weight.data[3] = 0
    inputs = torch.randn(2, n_tokens, 64, dtype=dtype)
    found, expected = Int8Linear(layer)(inputs), layer(inputs)
    assert found.dtype == dtype and found.shape == expected.shape
    assert (found - expected).float().std() < 0.02 * expected.float().std()


def test_weights_in_8_bits_load_by_setting_and_have_kv_of_their_own(folder):
    exact, model = load_answer_model(str(folder)), load_answer_model(str(folder), dtype=torch.int8)
    assert model.dtype == torch.float32 and model.weights_id == f"{exact.weights_id}-int8"
    layers = [m for m in model.network.modules() if isinstance(m, Int8Linear)]
    assert len(layers) == 2 * 7 + 1 and not any(isinstance(m, torch.nn.Linear) for m in model.network.modules())
    with torch.no_grad():
        near, whole = (m.network(torch.arange(9)[None]).logits for m in (model, exact))
    assert 0 < (near - whole).std() < 0.1 * whole.std()
    with pytest.raises(UnsupportedModelError, match="for a CPU, not for cuda"):
        load_answer_model(str(folder), device="cuda", dtype=torch.int8)


def test_networks_that_share_weights_share_them_in_8_bits():
    shared = torch.nn.Linear(8, 8)
    one, other = torch.nn.Sequential(shared, torch.nn.Linear(8, 8)), torch.nn.Sequential(shared)
    use_int8(one, other)
    assert one[0] is other[0] and one[0].weight.dtype == torch.int8 == one[1].weight.dtype


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
