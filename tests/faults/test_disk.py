"""A disk that is full, read-only, gone or altered: the answer comes, and its report says what happened."""

import errno
import os
import shutil

import pytest
import torch

from blockrag.errors import KVTierError
from blockrag.events import Answer
from blockrag.kv.disk import DiskTier
from blockrag.kv.key import FORMAT_VERSION
from blockrag.kv.remote import RemoteTier
from blockrag.pipeline import Pipeline
from tests.samples import RIVERS
from tests.tiny import tiny_engine

QUESTION = "How long is river 3?"


@pytest.fixture
def pipeline(tmp_path):
    """An index whose blocks are on disk alone."""
    pipeline = Pipeline.open(tiny_engine(tmp_path / "kv", memory_bytes=0), tmp_path)
    pipeline.add(pipeline.segment(RIVERS))
    pipeline.expected = answer(pipeline).text
    return pipeline


def answer(pipeline) -> Answer:
    return [*pipeline.ask(QUESTION, k=3, max_new_tokens=6)][-1]


def files(tmp_path):
    return sorted((tmp_path / "kv").glob("*/*.safetensors"))


def assert_encoded_anew(pipeline, word: str, misses: int = 3) -> None:
    told = answer(pipeline)
    assert told.text == pipeline.expected and told.report.kv_misses == misses
    assert any(word in note for note in told.report.notes), told.report.notes


@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "emptied", "version"])
def test_an_altered_file_is_encoded_anew(pipeline, tmp_path, damage):
    for path in files(tmp_path):
        whole = path.read_bytes()
        if damage == "flipped bit":
            path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
        elif damage == "version":
            path.write_bytes(whole.replace(f'"version":"{FORMAT_VERSION}"'.encode(), b'"version":"9"'))
        else:
            path.write_bytes(whole[: len(whole) // 2 if damage == "truncated" else 0])
    assert_encoded_anew(pipeline, "not whole")
    assert answer(pipeline).report.kv_misses == 0 and answer(pipeline).report.notes == ()


def test_a_disk_that_fails_while_layers_are_read(pipeline, monkeypatch):
    """The headers can still be read, what is behind them cannot."""
    preadv = os.preadv

    def fail(descriptor, rooms, offset):
        if offset > 8 and len(rooms[0]) > 2000:
            raise OSError(errno.EIO, "Input/output error")
        return preadv(descriptor, rooms, offset)

    monkeypatch.setattr("blockrag.kv.reader.os.preadv", fail)
    assert_encoded_anew(pipeline, "could not read it (Input/output error)")
    monkeypatch.undo()
    assert answer(pipeline).report.notes == () and answer(pipeline).report.kv_misses == 0


def test_files_of_another_model_are_encoded_anew(pipeline, tmp_path):
    other = DiskTier(tmp_path / "other", 1 << 26, "0" * 64)
    for path in files(tmp_path):
        other.put(path.stem, pipeline.engine.kv.get(path.stem).kv)
        shutil.copy(other._path(path.stem), path)
    assert_encoded_anew(pipeline, "another model")


def failing_writes(monkeypatch, error: int) -> None:
    def fail(*args, **kwargs):
        raise OSError(error, "No space left on device" if error == errno.ENOSPC else "Read-only file system")

    monkeypatch.setattr("blockrag.kv.disk.write_kv", fail)


@pytest.mark.parametrize("error, word", [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only")])
def test_a_disk_that_takes_nothing(pipeline, monkeypatch, error, word):
    pipeline.engine.kv.tiers[1].delete(pipeline.engine.kv.tiers[1].keys()[0])
    for key in pipeline.engine.kv.tiers[1].keys():
        pipeline.engine.kv.delete(key)
    failing_writes(monkeypatch, error)
    for _ in range(2):
        assert_encoded_anew(pipeline, word)
    monkeypatch.undo()
    assert answer(pipeline).report.notes == () and answer(pipeline).report.kv_misses == 0


def test_a_disk_that_is_full_in_earnest(tmp_path):
    """RLIMIT_FSIZE makes the kernel itself refuse to write on."""
    resource = pytest.importorskip("resource")
    import signal  # noqa: PLC0415

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    pipeline = Pipeline.open(tiny_engine(tmp_path / "kv", memory_bytes=0), tmp_path)
    pipeline.add(pipeline.segment(RIVERS))
    pipeline.expected = answer(pipeline).text
    for key in pipeline.engine.kv.tiers[1].keys():
        pipeline.engine.kv.delete(key)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        assert_encoded_anew(pipeline, "disk tier: could not write")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "kv").glob("*/*.tmp")), "nothing half is left"
    assert answer(pipeline).text == pipeline.expected and files(tmp_path)


def test_a_folder_deleted_while_running(pipeline, tmp_path):
    shutil.rmtree(tmp_path / "kv")
    told = answer(pipeline)
    assert told.text == pipeline.expected and told.report.kv_misses == 3
    assert answer(pipeline).report.kv_misses == 0, "it is made again"


def test_a_file_where_the_folder_was(pipeline, tmp_path):
    shutil.rmtree(tmp_path / "kv")
    (tmp_path / "kv").write_text("in the way")
    assert_encoded_anew(pipeline, "disk tier: could not")
    with pytest.raises(KVTierError, match="could not open it"):
        DiskTier(tmp_path / "kv", 1 << 20, "x")


def test_a_read_only_folder_can_still_be_read(pipeline, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("blockrag.kv.disk.FileLock.__enter__", refuse)
    tier = DiskTier(tmp_path / "kv", 1 << 26, pipeline.engine.identity.digest)
    assert tier.keys() and tier.get(tier.keys()[0]) is not None
    with pytest.raises(KVTierError, match="Read-only"):
        tier.put("f" * 64, tier.get(tier.keys()[0]))


def test_stored_blocks_are_the_same_to_the_bit_after_answers(tmp_path):
    """Rule 5, on every tier."""
    pipeline = Pipeline.open(tiny_engine(tmp_path / "kv"), tmp_path)
    pipeline.add(pipeline.segment(RIVERS))
    tiers = pipeline.engine.kv.tiers
    tiers.append(RemoteTier(f"file://{tmp_path}/team", pipeline.engine.identity.digest))
    for key in tiers[1].keys():
        tiers[2].put(key, tiers[1].get(key))
    before = {(t.name, key): t.get(key).keys.clone() for t in tiers for key in t.keys()}
    used = []
    for question, faster in ((QUESTION, 0), ("Which river is short?", 1), ("Where do they flow?", 2)):
        for tier in tiers[:faster]:
            for key in tier.keys():
                tier.delete(key)
        used.append(list(pipeline.ask(question, k=4, max_new_tokens=8))[-1].report.kv_hits)
    assert used == [{"memory": 4}, {"disk": 4}, {"remote": 4}]
    assert all(torch.equal(t.get(key).keys, before[t.name, key]) for t in tiers for key in t.keys())
    assert {t.name for t in tiers if t.keys()} >= {"memory", "remote"}
