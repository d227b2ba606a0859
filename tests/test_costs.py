"""Reading block KV or encoding it again: the decision on made costs, the measurement, and what answers do and tell."""

import json
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrag.attention.encode import encode_blocks, pass_tokens
from blockrag.kv import costs as costs_module
from blockrag.kv.costs import ENCODE, GAIN, GAIN_S, Choice, Costs, Kept, Meter, choose
from blockrag.pipeline import Pipeline
from tests.samples import BOUNDS, RIVERS
from tests.tiny import tiny_engine, tiny_model


def made(encode: float | None, overlap: bool = True, **links: float | None) -> Costs:
    """Costs of a second for so many tokens and bytes."""
    meters = {ENCODE: Meter(), **{tier: Meter() for tier in links}}
    for name, rate in {ENCODE: encode, **links}.items():
        if rate is not None:
            meters[name].add(rate, 1.0)
    return Costs(meters, None, "made", overlap=overlap)


def blocks(n: int, tier: str = "disk", n_tokens: int = 512, nbytes: int = 512 * 131_072, first: int = 0) -> list[Kept]:
    return [Kept(f"{tier} {first + i}", tier, n_tokens, nbytes) for i in range(n)]


def test_on_a_gpu_a_slow_disk_and_encoding_share_the_blocks():
    """32K tokens of the 8B shape, 1.17 GB/s, 40,082 tokens a second: both at once take less than either."""
    choice = choose(blocks(64), [], made(40_082, disk=1.17e9), sum)
    assert choice.why == (
        "read 12 from disk and encoded 52 again: 688 ms expected; reading all 64 takes 3,671 ms, encoding all 818 ms"
    )
    assert len(choice.again) == 52


def test_a_fast_link_is_read():
    choice = choose(blocks(64), [], made(40_082, disk=52e9), sum)
    assert not choice.again and choice.why.startswith("read 64 from disk: 83 ms expected")


def test_on_a_cpu_each_block_takes_the_cheaper_way():
    """Reading and encoding need the same cores, so that their times add up."""
    costs = made(1000, overlap=False, disk=1e9, remote=1e6)
    far, near = blocks(4, "remote", nbytes=int(1e6)), blocks(4, "disk", nbytes=int(1e6))
    choice = choose([*near, *far], [], costs, sum)
    assert choice.again == {block.key for block in far}
    assert choose(near, [], costs, sum).again == frozenset()


def test_what_is_not_measured_is_read_and_this_is_told():
    for costs in (made(None, disk=1.0), made(1e9, disk=None)):
        choice = choose(blocks(3), [], costs, sum)
        assert not choice.again and "not both measured" in choice.why
    assert choose([], [5], made(None), sum) == Choice()


def test_a_small_gain_changes_nothing():
    assert not choose(blocks(2), [], made(1e9, disk=512 * 131_072 / (GAIN_S / 3)), sum).again
    assert not choose(blocks(2), [], made(1024 / 0.95, overlap=False, disk=2 * 512 * 131_072), sum).again


def test_blocks_that_no_tier_has_are_encoded_first():
    """Encoding is busy with them, so that the disk is read meanwhile."""
    costs = made(512, disk=512 * 131_072)
    assert len(choose(blocks(10), [], costs, sum).again) == 5
    assert len(choose(blocks(10), [512] * 10, costs, sum).again) == 0


@given(
    n=st.integers(1, 60),
    encode=st.floats(1e2, 1e6),
    disk=st.floats(1e5, 1e11),
    overlap=st.booleans(),
    missing=st.lists(st.integers(1, 4000), max_size=3),
)
def test_the_choice_is_never_expected_to_be_slower_than_either_pure_way(n, encode, disk, overlap, missing):
    kept, costs = blocks(n), made(encode, overlap, disk=disk)
    again = choose(kept, missing, costs, sum).again
    tokens = sum(missing) + sum(block.n_tokens for block in kept if block.key in again)
    read = sum(block.nbytes for block in kept if block.key not in again) / disk
    both = max if overlap else lambda *parts: sum(parts)
    read_all = both(sum(block.nbytes for block in kept) / disk, sum(missing) / encode)
    encode_all = (sum(missing) + sum(block.n_tokens for block in kept)) / encode
    assert both(read, tokens / encode) <= min(read_all, encode_all + max(GAIN * read_all, GAIN_S)) * (1 + 1e-9)


def test_a_meter_counts_overlapping_work_once_and_forgets():
    meter = Meter()
    assert meter.cost is None

    def work():
        with meter.running() as done:
            time.sleep(0.05)
            done.amount = 10

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert meter.amount == 40 and 0.05 <= meter.seconds < 0.15
    with pytest.raises(ValueError), meter.running():
        raise ValueError
    assert meter.amount == 40, "work that failed is not counted"
    for _ in range(20):
        meter.add(1, 10.0)
    assert meter.cost == pytest.approx(10.0, rel=0.01), "the machine is slower now"


def test_a_link_that_was_not_read_for_long_is_read_again(monkeypatch):
    costs = made(1e9, disk=1e3)
    assert choose(blocks(3), [], costs, sum).again
    monkeypatch.setattr(costs_module, "STALE_S", -1.0)
    assert "not both measured" in choose(blocks(3), [], costs, sum).why


def test_costs_are_kept_for_the_machine_and_written_when_they_change(tmp_path):
    path = tmp_path / "costs.json"
    first = Costs({ENCODE: Meter(), "disk": Meter()}, path, "a machine", overlap=False)
    first.meters[ENCODE].add(100, 1.0)
    first.keep()
    written = path.stat().st_mtime_ns, path.read_text()
    first.meters[ENCODE].add(100, 1.05)
    first.keep()
    assert (path.stat().st_mtime_ns, path.read_text()) == written, "hardly changed"
    again = Costs({ENCODE: Meter(), "disk": Meter()}, path, "a machine", overlap=False)
    assert again.of(ENCODE) == pytest.approx(0.01) and again.of("disk") is None
    other = Costs({ENCODE: Meter()}, path, "another machine", overlap=False)
    assert other.of(ENCODE) is None
    other.meters[ENCODE].add(7, 1.0)
    other.keep()
    assert {*json.loads(path.read_text())} == {"a machine", "another machine"}


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"a machine": {"encode": ["x", 1]}}', '{"a machine": 5}'])
def test_damaged_costs_are_measured_again(damage, tmp_path, caplog):
    path = tmp_path / "costs.json"
    path.write_text(damage)
    costs = Costs({ENCODE: Meter()}, path, "a machine", overlap=False)
    assert costs.of(ENCODE) is None and "measured again" in caplog.text
    costs.meters[ENCODE].add(1, 1.0)
    costs.keep()
    assert json.loads(path.read_text()) == {"a machine": {"encode": [1, 1.0]}}


def test_a_folder_that_cannot_be_written_costs_no_answer(tmp_path, caplog):
    costs = Costs({ENCODE: Meter()}, tmp_path / "gone" / "costs.json", "a machine", overlap=False)
    costs.meters[ENCODE].add(1, 1.0)
    costs.keep()
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_the_tokens_of_passes_are_those_that_the_network_computes(family, monkeypatch):
    model, computed = tiny_model(family), []
    hook = model.network.register_forward_pre_hook(
        lambda module, args, kwargs: computed.append(kwargs["inputs_embeds"][..., 0].numel()), with_kwargs=True
    )
    lengths = [1, 31, 33, 40, 300, 300, 7]
    list(encode_blocks(model, [[5] * n for n in lengths]))
    hook.remove()
    assert sum(computed) == pass_tokens(model, lengths)


@pytest.fixture
def indexed(tmp_path):
    pipeline = Pipeline.open(tiny_engine(tmp_path / "kv"), tmp_path)
    pipeline.add(pipeline.segment(RIVERS, bounds=BOUNDS), 1.0)
    return tmp_path


def reopened(folder, encode: float, disk: float):
    """The pipeline in a new process, with nothing in memory, with made costs."""
    pipeline = Pipeline.open(tiny_engine(folder / "kv"), folder)
    pipeline.engine.costs = made(encode, overlap=False, disk=disk)
    return pipeline


def ask(pipeline, **settings):
    return list(pipeline.ask("Which river?", k=4, max_new_tokens=8, **settings))[-1]


def test_an_answer_encodes_again_what_is_read_too_slowly_and_tells(indexed):
    read, encoded = ask(reopened(indexed, 1e3, 1e12)), ask(slow := reopened(indexed, 1e12, 1e3))
    n = len(read.sources)
    assert read.text == encoded.text and n > 1
    assert read.report.kv_hits == {"disk": n} and read.report.kv_again == 0
    assert read.report.kv_choice.startswith(f"read {n} from disk: ")
    assert encoded.report.kv_hits == {} and encoded.report.kv_again == n and encoded.report.kv_misses == 0
    assert encoded.report.kv_choice.startswith(f"encoded {n} again: ") and not encoded.report.n_tokens_saved
    later = ask(slow)
    assert later.report.kv_hits == {"memory": n} and later.report.kv_choice == "", "kept in memory since"


def test_costs_are_measured_by_indexing_and_reading_and_kept(indexed):
    kept = json.loads((indexed / "kv" / "costs.json").read_text())
    assert [{*names} for names in kept.values()] == [{"encode"}]
    pipeline = Pipeline.open(tiny_engine(indexed / "kv"), indexed)
    first = ask(pipeline)
    assert "not both measured" in first.report.kv_choice and pipeline.engine.costs.of("disk") > 0
    later = Pipeline.open(tiny_engine(indexed / "kv"), indexed)
    assert later.engine.costs.of(ENCODE) > 0 and later.engine.costs.of("disk") > 0
    assert "ms expected; reading all" in ask(later).report.kv_choice
