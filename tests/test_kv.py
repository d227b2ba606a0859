"""KV keys and tiers: one contract suite for every tier, then what is particular to each."""

import json
import os
import shutil
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockrag import arguments
from blockrag.errors import ArgumentError, KVCorruptError, KVMismatchError, KVTierError
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.disk import DiskTier
from blockrag.kv.key import KVIdentity
from blockrag.kv.memory import MemoryTier
from blockrag.kv.remote import RemoteTier
from blockrag.kv.streaming import GROUP, NICENESS, begin, make_readers
from blockrag.kv.tiered import TieredKV
from blockrag.kv.writer import write_kv
from tests.tiny import no_garbage_collection

IDENTITY = KVIdentity(weights="w", format="f", prefix=(), dtype="float32")
TIERS = {
    "memory": lambda tmp, budget: MemoryTier(budget),
    "disk": lambda tmp, budget: DiskTier(tmp / "kv", budget, IDENTITY.digest),
    "remote": lambda tmp, budget: RemoteTier(f"file://{tmp}/kv", IDENTITY.digest),
}
WITH_BUDGET = ("memory", "disk")
ROOM = 1 << 20


def kv(seed: int = 0, n_tokens: int = 4, dtype: torch.dtype = torch.float32) -> BlockKV:
    keys, values = torch.randn(2, 2, 3, n_tokens, 8, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return BlockKV(keys, values)


def key(i: int) -> str:
    return IDENTITY.key([i])


def same(a: BlockKV, b: BlockKV) -> bool:
    return torch.equal(a.keys, b.keys) and torch.equal(a.values, b.values) and a.first_position == b.first_position


@pytest.fixture(params=TIERS)
def make(request, tmp_path):
    return lambda budget=ROOM: TIERS[request.param](tmp_path, budget)


@pytest.fixture(params=WITH_BUDGET)
def make_within(request, tmp_path):
    return lambda budget=ROOM: TIERS[request.param](tmp_path, budget)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_round_trip_is_exact_to_the_bit(make, dtype):
    tier, block = make(), replace(kv(1, dtype=dtype), first_position=7)
    assert tier.put(key(1), block)
    assert same(tier.get(key(1)), block) and tier.get(key(1)).keys.dtype == dtype


def test_missing_and_deleted_keys_are_none(make):
    tier = make()
    assert tier.get(key(1)) is None and key(1) not in tier
    tier.put(key(1), kv())
    assert key(1) in tier and tier.keys() == [key(1)]
    tier.delete(key(1))
    tier.delete(key(1))
    assert tier.get(key(1)) is None and key(1) not in tier and tier.keys() == [] and tier.nbytes == 0


@pytest.mark.parametrize("find", ["get", "open"])
def test_what_nobody_uses_is_freed_without_the_garbage_collector(make, find):
    tier = make()
    tier.put(key(1), kv())
    with no_garbage_collection():
        block = getattr(tier, find)(key(1))
        keys, values = weakref.ref(block.keys), weakref.ref(block.values)
        block.settle()
        tier.delete(key(1))
        assert keys() is not None
        del block
        assert keys() is None and values() is None


def test_the_least_recently_used_goes_first(make_within):
    tier, n = make_within(3 * (kv().nbytes + 1024)), 0
    while len(tier.keys()) == n:  # until one had to go
        tier.put(key(n), kv(n))
        tier.get(key(0))
        n += 1
    assert key(0) in tier and key(1) not in tier and key(n - 1) in tier


def test_what_exceeds_the_budget_alone_is_not_kept(make_within):
    tier = make_within(1000 + kv(1).nbytes)
    assert tier.put(key(1), kv(1, n_tokens=1))
    assert not tier.put(key(2), kv(2, n_tokens=400))
    assert key(1) in tier, "nothing is evicted for a block that cannot be kept"


def test_putting_again_replaces_and_counts_once(make):
    tier = make()
    tier.put(key(1), kv(1))
    once = tier.nbytes
    tier.put(key(1), kv(1))
    assert tier.nbytes == once and tier.keys() == [key(1)]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(0, 9), max_size=20), budget=st.integers(0, 20_000))
def test_the_budget_holds_always(make_within, numbers, budget):
    tier = make_within(budget)
    for i in numbers:
        kept = tier.put(key(i), kv(i, n_tokens=1 + 3 * i))
        assert tier.nbytes <= budget
        assert kept == (key(i) in tier)


def test_threads_share_a_tier(make):
    tier, wrong = make(20 * (kv().nbytes + 1024)), []

    def work(thread: int) -> None:
        for i in range(20):
            tier.put(key(i), kv(i))
            found = tier.get(key((i * 7 + thread) % 20))
            if found is not None and not same(found, kv((i * 7 + thread) % 20)):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and (tier.budget_nbytes is None or tier.nbytes <= tier.budget_nbytes)


@pytest.mark.parametrize(
    "field, value", [("weights", "v"), ("format", "g"), ("prefix", (1,)), ("dtype", "bfloat16"), ("version", 0)]
)
def test_the_key_depends_on_all_that_determines_the_kv(field, value):
    assert replace(IDENTITY, **{field: value}).key([1, 2]) != IDENTITY.key([1, 2])


def test_the_key_depends_on_every_token_and_their_order():
    assert len({IDENTITY.key(ids) for ids in ([1, 2], [2, 1], [1], [1, 2, 0], [258])}) == 5
    assert IDENTITY.key([1, 2]) == IDENTITY.key((1, 2))


def disk(tmp: Path, identity: KVIdentity = IDENTITY, budget: int = ROOM) -> DiskTier:
    return DiskTier(tmp, budget, identity.digest)


def only_file(tmp: Path) -> Path:
    (path,) = tmp.glob("*/*.safetensors")
    return path


def test_disk_survives_a_restart_with_its_order(tmp_path):
    first = disk(tmp_path)
    for i in range(3):
        first.put(key(i), kv(i))
    second = disk(tmp_path)
    assert second.keys() == [key(0), key(1), key(2)] and second.nbytes == first.nbytes
    assert same(second.get(key(1)), kv(1))


def test_disk_opened_with_a_smaller_budget_keeps_to_it(tmp_path):
    first = disk(tmp_path)
    for i in range(4):
        first.put(key(i), kv(i))
    assert disk(tmp_path, budget=first.nbytes // 2).keys() == [key(2), key(3)]


@pytest.mark.parametrize("cut", [0, 4, 9, 200, 600, -1])
def test_a_truncated_file_is_refused_and_removed(tmp_path, cut):
    tier = disk(tmp_path)
    tier.put(key(1), kv())
    path = only_file(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(KVCorruptError, match="not whole"):
        tier.get(key(1))
    assert tier.get(key(1)) is None and key(1) not in tier


def test_every_flipped_bit_of_the_tensors_is_noticed(tmp_path):
    tier = disk(tmp_path)
    tier.put(key(1), kv())
    path = only_file(tmp_path)
    whole = path.read_bytes()
    for at in range(8 + int.from_bytes(whole[:8], "little"), len(whole), 37):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with pytest.raises(KVCorruptError):
            tier.get(key(1))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 400), to=st.integers(0, 255))
def test_an_altered_header_is_an_error_or_harmless(tmp_path, at, to):
    tier = disk(tmp_path)
    tier.put(key(1), kv())
    path = only_file(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + bytes([to]) + whole[at + 1 :])
    try:
        assert same(tier.get(key(1)), kv())
    except (KVCorruptError, KVMismatchError):
        assert key(1) not in tier


def many_layers(seed: int = 0) -> BlockKV:
    keys, values = torch.randn(2, 3 * GROUP - 1, 2, 5, 8, generator=torch.Generator().manual_seed(seed))
    return BlockKV(keys, values)


@pytest.mark.parametrize("at_rest", ["exact", "int8", "int4"])
def test_blocks_arrive_layer_by_layer_the_first_of_all_first(tmp_path, at_rest):
    tier, read = DiskTier(tmp_path, ROOM, IDENTITY.digest, at_rest=at_rest), []
    for i in range(3):
        tier.put(key(i), many_layers(i))
    with ThreadPoolExecutor(1) as readers:
        parts = [tier.open(key(i)) for i in range(3)]
        watched = [
            replace(part, read=lambda layers, i=i, part=part: (part.read(layers), read.append((layers.start, i)))[0])
            for i, part in enumerate(parts)
        ]
        begin([kv(), *watched], readers)
        for i, part in enumerate(watched):
            part.await_layer(len(part.keys) - 1)
            assert same(part, tier.get(key(i))) and part.settle()
            assert at_rest != "exact" or same(part, many_layers(i))
    assert read == [(start, i) for start in range(0, 3 * GROUP - 1, GROUP) for i in range(3)]


@pytest.mark.parametrize("layer", [0, GROUP, 3 * GROUP - 2])
def test_a_damaged_layer_shows_when_it_is_awaited_and_no_sooner(tmp_path, layer):
    tier, block = disk(tmp_path), many_layers()
    tier.put(key(1), block)
    path = only_file(tmp_path)
    whole = path.read_bytes()
    at = whole.index(block.values[layer].numpy().tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with ThreadPoolExecutor(1) as readers:
        part = tier.open(key(1))
        begin([part], readers)
        for before in range(layer // GROUP * GROUP):
            part.await_layer(before)
        with pytest.raises(KVCorruptError, match=f"of layer {layer}, expected"):
            part.await_layer(layer)
        assert not part.settle() and key(1) not in tier


@pytest.mark.skipif(sys.platform != "linux", reason="a thread's own priority")
def test_readers_give_way_and_nobody_else_does():
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = priority()
    with make_readers(1) as readers:
        assert readers.submit(priority).result() == min(19, before + NICENESS) and priority() == before


def test_what_is_not_awaited_is_not_read_and_not_promoted(tmp_path):
    memory, slow = MemoryTier(ROOM), disk(tmp_path)
    tiers = TieredKV([memory, slow])
    slow.put(key(1), many_layers())
    n_open = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(1) as readers:
        hold = threading.Event()
        readers.submit(hold.wait)
        with tiers.lease() as lease:
            part = lease.open(key(1)).kv
            begin([part], readers)
        assert all(read.cancelled() for read in part.pending) and key(1) not in memory
        hold.set()
    assert len(os.listdir("/proc/self/fd")) == n_open
    with ThreadPoolExecutor(1) as readers, tiers.lease() as lease:
        part = lease.open(key(1)).kv
        begin([part], readers)
        part.await_layer(len(part.keys) - 1)
    assert same(memory.get(key(1)), many_layers()), "what has come is"


def test_kv_of_another_model_is_refused(tmp_path):
    disk(tmp_path).put(key(1), kv())
    with pytest.raises(KVMismatchError, match="another model"):
        disk(tmp_path, replace(IDENTITY, weights="other")).get(key(1))


@pytest.mark.parametrize("kind", ["disk", "remote"])
def test_files_that_were_swapped_are_refused(tmp_path, kind):
    tier = disk(tmp_path) if kind == "disk" else RemoteTier(f"file://{tmp_path}", IDENTITY.digest)
    for number in (1, 2):
        tier.put(key(number), kv(number))
    one, two = (tmp_path / key(n)[:2] / f"{key(n)}.safetensors" for n in (1, 2))
    shutil.copy(two, one)
    with pytest.raises(KVCorruptError, match="it holds the block"):
        tier.get(key(1))
    assert same(tier.get(key(2)), kv(2)) and tier.get(key(1)) is None, "it is removed, and made anew"


def test_files_of_a_shared_store_are_sealed(tmp_path):
    url = f"file://{tmp_path}"
    ours = RemoteTier(url, IDENTITY.digest, secret=b"s" * 16)
    ours.put(key(1), kv(1))
    assert same(RemoteTier(url, IDENTITY.digest, secret=b"s" * 16).get(key(1)), kv(1))
    with pytest.raises(KVCorruptError, match="not sealed"):
        RemoteTier(url, IDENTITY.digest, secret=b"t" * 16, read_only=True).get(key(1))
    (path,) = tmp_path.glob("*/*.safetensors")
    whole = path.read_bytes()
    other = tmp_path / key(2)[:2] / f"{key(2)}.safetensors"
    other.parent.mkdir(exist_ok=True)
    other.write_bytes(whole)
    RemoteTier(url, IDENTITY.digest).put(key(3), kv(3))  # by someone without the secret
    for number in (2, 3):
        with pytest.raises(KVCorruptError, match="not sealed"):
            ours.get(key(number))
    assert same(ours.get(key(1)), kv(1))


def test_a_secret_of_a_store_is_long_enough(tmp_path):
    (tmp_path / "s").write_bytes(b"  0123456789abcdef\n")
    assert arguments.secret("s", tmp_path / "s") == b"0123456789abcdef"
    (tmp_path / "s").write_bytes(b"short")
    for path, message in (
        (tmp_path / "s", "at least 16"),
        (tmp_path / "none", "path of a file"),
        (7, "path of a file"),
    ):
        with pytest.raises(ArgumentError, match=message):
            arguments.secret("s", path)


def test_half_written_files_are_cleaned_up_at_the_next_start(tmp_path):
    code = (
        "import os, sys, torch, blockrag.kv.writer as f\n"
        "from pathlib import Path\n"
        "from blockrag.kv.block_kv import BlockKV\n"
        "f.os.replace = lambda a, b: os._exit(9)\n"  # dies between writing and renaming
        "f.write_kv(Path(sys.argv[1]), BlockKV(torch.ones(1, 1, 2, 4), torch.ones(1, 1, 2, 4)), 'x', 'k')\n"
    )
    folder = tmp_path / key(1)[:2]
    folder.mkdir()
    died = subprocess.run([sys.executable, "-c", code, str(folder / f"{key(1)}.safetensors")], cwd=os.getcwd())
    (aside,) = folder.glob("*.tmp")
    assert died.returncode == 9 and disk(tmp_path).get(key(1)) is None
    assert aside.exists(), "a young file may be another process's work"
    os.utime(aside, (0, 0))
    tier = disk(tmp_path)
    assert not list(folder.iterdir()) and tier.keys() == [] and tier.get(key(1)) is None


def test_two_processes_see_each_others_files(tmp_path):
    one, two = disk(tmp_path), disk(tmp_path)
    one.put(key(1), kv(1))
    assert key(1) in two and same(two.get(key(1)), kv(1)) and two.nbytes == one.nbytes
    two.delete(key(1))
    assert one.get(key(1)) is None and one.nbytes == 0


def test_what_another_process_removes_meanwhile_is_no_error(tmp_path, monkeypatch):
    def written_and_removed(path, *args):
        nbytes = write_kv(path, *args)
        path.unlink()
        return nbytes

    (tmp_path / "00").mkdir()
    (tmp_path / "00" / f"{key(9)}.safetensors").symlink_to("gone")  # listed, and gone when it is looked at
    monkeypatch.setattr("blockrag.kv.disk.write_kv", written_and_removed)
    tier = disk(tmp_path)
    assert tier.put(key(1), kv(1)) and tier.get(key(1)) is None
    monkeypatch.undo()
    assert tier.put(key(1), kv(1)) and same(tier.get(key(1)), kv(1))


def test_tiered_writes_through_and_promotes_when_the_lease_ends(tmp_path):
    memory, slow = MemoryTier(ROOM), disk(tmp_path)
    tiers = TieredKV([memory, slow])
    tiers.put(key(1), kv(1))
    assert key(1) in memory and key(1) in slow and tiers.get(key(1)).tier == "memory"
    memory.delete(key(1))
    with tiers.lease() as lease:
        assert lease.get(key(1)).tier == "disk" and key(1) not in memory
    assert key(1) in memory, "a hit below is copied up"
    tiers.delete(key(1))
    assert key(1) not in tiers and tiers.get(key(1)) is None


def test_what_a_lease_uses_is_not_evicted(tmp_path):
    room = 3 * kv().nbytes
    memory = MemoryTier(room)
    tiers = TieredKV([memory, disk(tmp_path)])
    for i in range(3):
        tiers.put(key(i), kv(i))
    with tiers.lease() as lease:
        held = lease.get(key(0)).kv
        lease.put(key(3), kv(3))
        for i in range(4, 9):
            tiers.put(key(i), kv(i))
            assert key(0) in memory and key(3) in memory and memory.nbytes <= room
        assert not memory.put(key(9), kv(9, n_tokens=9)), "what is left beside the pinned is too little"
        assert same(held, kv(0))
    for i in range(10, 13):
        tiers.put(key(i), kv(i))
    assert key(0) not in memory and key(3) not in memory


def test_what_is_deleted_while_it_is_used_goes_afterwards():
    memory = MemoryTier(ROOM)
    tiers = TieredKV([memory])
    tiers.put(key(1), kv(1))
    with tiers.lease() as first, tiers.lease() as second:
        first.get(key(1)), second.get(key(1))
        tiers.delete(key(1))
        assert key(1) not in tiers and tiers.get(key(1)) is None and memory.keys() == []
        assert memory.nbytes == kv(1).nbytes, "its bytes are there still, and count"
    assert memory.nbytes == 0


def test_a_copy_on_another_device_is_kept_there(tmp_path):
    class OtherDevice(MemoryTier):
        """Stands for a GPU's memory: tensors of another device than the CPU."""

    device = OtherDevice(ROOM, "meta", "device")
    tiers = TieredKV([device, MemoryTier(ROOM, name="host"), disk(tmp_path)])
    tiers.tiers[2].put(key(1), kv(1))
    with tiers.lease() as lease:
        hit = lease.get(key(1))
        lease.moved(key(1), BlockKV(hit.kv.keys.to("meta"), hit.kv.values.to("meta")))
    assert key(1) in device and device.get(key(1)).keys.device.type == "meta"
    assert same(tiers.tiers[1].get(key(1)), kv(1))


class Broken(MemoryTier):
    """A medium that fails."""

    def get(self, key):
        raise KVTierError("the medium does not answer")

    def put(self, key, kv):
        raise KVTierError("the medium is full")


def test_a_failing_tier_is_noted_once_and_the_others_serve():
    tiers, notes = TieredKV([Broken(ROOM), MemoryTier(ROOM)]), []
    for i in range(3):
        tiers.put(key(i), kv(i), notes)
        assert same(tiers.get(key(i), notes).kv, kv(i))
    assert notes == ["the medium is full", "the medium does not answer"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "get", "delete", "lease", "end"]), st.integers(0, 7)), max_size=40
    ),
    budget=st.integers(0, 6000),
)
def test_the_budget_holds_whatever_is_pinned(tmp_path_factory, steps, budget):
    tiers = TieredKV([MemoryTier(budget), disk(tmp_path_factory.mktemp("kv"), budget=2 * budget)])
    leases = []
    for step, i in steps:
        if step == "put":
            tiers.put(key(i), kv(i, n_tokens=1 + i))
        elif step == "get":
            hit = leases[-1][1].get(key(i)) if leases else tiers.get(key(i))
            assert hit is None or same(hit.kv, kv(i, n_tokens=1 + i))
        elif step == "delete":
            tiers.delete(key(i))
            assert key(i) not in tiers
        elif step == "lease":
            context = tiers.lease()
            leases.append((context, context.__enter__()))
        elif leases:
            leases.pop(i % len(leases))[0].__exit__(None, None, None)
        for tier in tiers.tiers:
            assert tier.nbytes <= tier.budget_nbytes
    for context, _ in leases:
        context.__exit__(None, None, None)
    memory = tiers.tiers[0]
    assert not memory._pins and not memory._doomed and memory.nbytes == sum(kv.nbytes for kv in memory._kept.values())


def test_tiered_reports_a_damaged_block_as_missing(tmp_path):
    tiers, notes = TieredKV([MemoryTier(0), disk(tmp_path)]), []
    tiers.put(key(1), kv(1))
    only_file(tmp_path).write_bytes(b"no")
    assert tiers.get(key(1), notes) is None and "not whole" in notes[0]
    tiers.put(key(1), kv(1))
    assert same(tiers.get(key(1)).kv, kv(1))


def test_a_shared_store_serves_many_machines_and_is_filled_by_those_that_may(tmp_path):
    url = f"file://{tmp_path}/team"
    writer, reader = RemoteTier(url, IDENTITY.digest), RemoteTier(url, IDENTITY.digest, read_only=True)
    one = TieredKV([MemoryTier(ROOM), writer])
    other = TieredKV([MemoryTier(ROOM), disk(tmp_path / "own"), reader])
    one.put(key(1), kv(1))
    with other.lease() as lease:
        assert lease.get(key(1)).tier == "remote"
    assert other.get(key(1)).tier == "memory", "read-through"
    other.put(key(2), kv(2))
    other.delete(key(1))
    assert writer.keys() == [key(1)] and writer.nbytes > kv(1).nbytes, "nothing is written or deleted by a reader"
    one.delete(key(1))
    assert key(1) not in reader and not list((tmp_path / "team").glob("*/*"))


def test_a_store_in_memory_is_reached_alike():
    tier = RemoteTier("memory://team", IDENTITY.digest)
    tier.put(key(1), kv(1))
    assert same(RemoteTier("memory://team", IDENTITY.digest).get(key(1)), kv(1))


def test_a_store_that_fails_is_an_error_of_its_tier_alone(tmp_path, monkeypatch, caplog):
    tier, notes = RemoteTier(f"file://{tmp_path}", IDENTITY.digest), []
    tiers = TieredKV([MemoryTier(ROOM), tier])

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route to the store")

    for name in ("exists", "cat_file", "pipe_file"):
        monkeypatch.setattr(tier._store, name, unreachable)
    tiers.put(key(1), kv(1), notes)
    assert tiers.get(key(2), notes) is None and same(tiers.get(key(1)).kv, kv(1))
    assert all("remote tier" in note and "no route" in note for note in notes) and len(notes) == 1
    assert key(2) not in tiers and "could not write to it (ConnectionError" in caplog.text, "told in the log elsewhere"
    tiers.delete(key(1))
    assert key(1) not in tiers and len(caplog.records) == 1, "which is told once, not once a block"
    with pytest.raises(KVTierError, match="remote tier: could not reach"):
        RemoteTier("nonsense://x", IDENTITY.digest)


def test_a_store_that_failed_is_left_alone_for_a_while(tmp_path, monkeypatch):
    now, asked = [100.0], []
    monkeypatch.setattr("blockrag.kv.remote.time.monotonic", lambda: now[0])
    tier = RemoteTier(f"file://{tmp_path}", IDENTITY.digest)
    tier.put(key(1), kv(1))
    fetch = tier._store.cat_file

    def refuse(error):
        def asks(path):
            asked.append(path)
            raise error

        monkeypatch.setattr(tier._store, "cat_file", asks)
        for _ in range(3):
            with pytest.raises(KVTierError, match=str(error)):
                tier.get(key(1))

    refuse(PermissionError("reading is not allowed"))
    assert len(asked) == 3, "a store that answers is asked again"
    refuse(TimeoutError("no answer for a minute"))
    assert len(asked) == 4
    monkeypatch.setattr(tier._store, "cat_file", fetch)
    with pytest.raises(KVTierError):
        tier.get(key(1))
    now[0] += 31
    assert same(tier.get(key(1)), kv(1))


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_without_a_budget_everything_is_kept(tmp_path, kind):
    tier = TIERS[kind](tmp_path, None)
    for i in range(20):
        assert tier.put(key(i), kv(i))
    tier.set_budget(kv(0).nbytes * 4)
    assert 0 < len(tier.keys()) <= 4
    tier.set_budget(None)
    assert tier.put(key(99), kv(99)) and key(99) in tier


@pytest.mark.parametrize("form, error, share", [("int8", 0.05, 0.85), ("int4", 0.35, 0.6)])
@pytest.mark.parametrize("kind", ["disk", "remote"])
def test_a_file_in_fewer_bits_is_small_near_and_only_for_who_allows_it(tmp_path, kind, form, error, share):
    def tier(at_rest):
        if kind == "disk":
            return DiskTier(tmp_path, ROOM, IDENTITY.digest, at_rest=at_rest)
        return RemoteTier(f"file://{tmp_path}", IDENTITY.digest, at_rest=at_rest)

    block = kv(1, n_tokens=200, dtype=torch.bfloat16)
    tier(form).put(key(1), block)
    back = tier(form).get(key(1))
    assert back.keys.dtype == torch.bfloat16 and (back.keys - block.keys).abs().max() < error
    assert only_file(tmp_path).stat().st_size < share * block.nbytes
    with pytest.raises(KVMismatchError, match=f"--kv-at-rest {form}"):
        tier("exact" if form == "int8" else "int8").get(key(1))
    tier("exact").put(key(2), block)
    assert same(tier(form).get(key(2)), block), "what is exact is used as it is"


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_a_damaged_byte_of_any_tensor_is_noticed(tmp_path, form):
    tier = DiskTier(tmp_path, ROOM, IDENTITY.digest, at_rest=form)
    tier.put(key(1), kv(1, n_tokens=70))
    whole = only_file(tmp_path).read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    start = 8 + int.from_bytes(whole[:8], "little")
    for name in header.keys() - {"__metadata__"}:
        for at in (0, header[name]["data_offsets"][1] - header[name]["data_offsets"][0] - 1):
            damaged = bytearray(whole)
            damaged[start + header[name]["data_offsets"][0] + at] ^= 4
            path = tier._path(key(1))
            path.write_bytes(damaged)
            with pytest.raises(KVCorruptError):
                tier.get(key(1))
            assert not path.exists()


def test_what_cannot_be_kept_in_4_bits_is_told_and_costs_no_answer(tmp_path):
    huge = BlockKV(1e6 * kv(1).keys, kv(1).values)
    tiers, notes = TieredKV([MemoryTier(None), DiskTier(tmp_path, ROOM, IDENTITY.digest, at_rest="int4")]), []
    tiers.put(key(1), huge, notes)
    assert "cannot be kept in 4 bits" in notes[0] and "--kv-at-rest int8" in notes[0]
    assert same(tiers.get(key(1)).kv, huge) and not list(tmp_path.glob("*/*"))
