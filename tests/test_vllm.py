"""Block KV for vLLM, as far as it does not need vLLM: plans, keys and pages. The rest is in tests/vllm."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import blockrag
from blockrag.attention.assemble import assemble
from blockrag.attention.encode import encode_blocks, encode_prefix
from blockrag.attention.format import BLOCK_FORMAT, BlockFormat, write_format
from blockrag.errors import ArgumentError, KVMismatchError, KVTierError, WeightsError
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.key import KVIdentity
from blockrag.vllm.pages import PageLayout, heads_of, joined, slots_of
from blockrag.vllm.plan import ServedModel, make_plan, served_model
from blockrag.vllm.store import BlockStore, Settings
from tests.tiny import tiny_model

PLAIN = ServedModel("w", "float32")
SINKS = ServedModel("w", "float32", "f", sink_ids=(7, 8))
VISIBLE = ServedModel("w", "float32", "f", prefix_visible=True)
PROMPT = [7, 8, 1, 7, 8, 2, 3, 4, 5]


def plan_of(model=PLAIN, tokens=PROMPT, salt=None, is_stored=lambda part: False, **params):
    return make_plan({"v": 1, **params}, tokens, model, salt, is_stored)


def test_an_answer_loads_prefix_and_blocks_and_leaves_the_rest():
    plan = plan_of(prefix=2, blocks=[1, 4])
    assert [(part.start, part.n_tokens, part.first_position) for part in plan.load] == [(0, 2, 0), (2, 1, 0), (3, 4, 0)]
    assert plan.end == 7 and plan.save is None
    assert [part.first_position for part in plan_of(VISIBLE, prefix=2, blocks=[1, 4]).load] == [0, 2, 2]


@pytest.mark.parametrize("model", [PLAIN, SINKS, VISIBLE], ids=["plain", "sinks", "visible"])
def test_keys_are_those_of_our_engine_then_those_of_vllm(model):
    part = plan_of(model, prefix=3, blocks=[4]).load[1]
    seen = (7, 8, 1) if model.prefix_visible else ()
    own_tokens = [2, 3] if model.sink_ids else [7, 8, 2, 3]
    for name, weights in zip(part.names, ("w", "w-vllm"), strict=True):
        identity = KVIdentity(weights, model.format_digest, seen, "float32")
        assert (name.identity, name.key) == (identity.digest, identity.key(own_tokens))


def test_tenants_find_none_of_each_others_blocks():
    keys = [{n.key for p in plan_of(prefix=2, blocks=[3], salt=s).load for n in p.names} for s in (None, "a", "b")]
    assert not keys[0] & keys[1] and not keys[1] & keys[2]
    part = plan_of(prefix=2, blocks=[3], salt="a").load[1]
    assert part.names[0].identity == KVIdentity("w", PLAIN.format_digest, (), "float32", salt="a").digest


def test_a_prefix_is_no_block_of_the_same_tokens():
    prefix, block = plan_of(prefix=2, blocks=[2], tokens=[5, 6, 5, 6, 9]).load
    assert not {name.key for name in prefix.names} & {name.key for name in block.names}


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        (PLAIN, {"v": 2}, "expected an object with v=1"),
        (PLAIN, {"blocks": [1], "path": "/etc/passwd"}, "expected v, prefix"),
        (PLAIN, {}, "either blocks or encode"),
        (PLAIN, {"blocks": [1], "encode": True}, "either blocks or encode"),
        (PLAIN, {"prefix": -1, "blocks": [1]}, "prefix is -1"),
        (PLAIN, {"prefix": True, "blocks": [1]}, "prefix is True"),
        (PLAIN, {"prefix": 2, "blocks": []}, "blocks is"),
        (PLAIN, {"prefix": 2, "blocks": "11"}, "blocks is '11'"),
        (PLAIN, {"prefix": 2, "blocks": [0, 1]}, "a length in blocks is 0"),
        (PLAIN, {"prefix": 2, "blocks": [4, 3]}, "at least one token must follow"),
        (PLAIN, {"encode": 1}, "encode is 1"),
        (PLAIN, {"prefix": 2, "encode": True}, "encode them alone"),
        (SINKS, {"prefix": 0, "blocks": [3, 2]}, "expected the sinks"),
        (SINKS, {"prefix": 0, "blocks": [2]}, "expected the sinks"),
        (VISIBLE, {"prefix": 0, "blocks": [3]}, "see the prefix"),
        (VISIBLE, {"encode": True}, "see the prefix"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused(model, params, message):
    with pytest.raises(ArgumentError, match=message):
        plan_of(model, **params)


def test_salts_differ_by_spans_model_and_caller():
    plans = [
        plan_of(prefix=2, blocks=[1, 4]),
        plan_of(prefix=2, blocks=[2, 3]),
        plan_of(prefix=3, blocks=[4]),
        plan_of(prefix=2, blocks=[1, 4], salt="tenant"),
        plan_of(replace(PLAIN, format_digest="other"), prefix=2, blocks=[1, 4]),
        plan_of(replace(PLAIN, weights="other"), prefix=2, blocks=[1, 4]),
    ]
    assert len({plan.salt for plan in plans}) == len(plans)
    assert plans[0].salt == plan_of(prefix=2, blocks=[1, 4]).salt


def test_a_block_is_encoded_once():
    missing = plan_of(VISIBLE, prefix=3, encode=True)
    assert (missing.load, missing.salt) == ((), None)
    assert (missing.save.start, missing.save.n_tokens, missing.save.first_position) == (3, 6, 3)
    stored = plan_of(VISIBLE, prefix=3, encode=True, is_stored=lambda part: True)
    assert stored.save is None and stored.end == len(PROMPT) - 1 and stored.salt
    assert missing.save == stored.load[1] == plan_of(VISIBLE, [*PROMPT, 1], prefix=3, blocks=[6]).load[1]
    prefix = plan_of(VISIBLE, prefix=len(PROMPT), encode=True).save
    assert prefix == plan_of(VISIBLE, [*PROMPT, 1, 2], prefix=len(PROMPT), blocks=[1]).load[0]


def test_the_format_is_read_from_the_folder_of_the_weights(tmp_path):
    assert served_model("w", "float32", tmp_path, is_adapter=False) == PLAIN
    with pytest.raises(WeightsError, match="was not written for block mode"):
        served_model("w", "float32", tmp_path, is_adapter=True)
    write_format(tmp_path, (7, 8), False, "f")
    assert served_model("w", "float32", tmp_path, is_adapter=True) == SINKS
    (tmp_path / BLOCK_FORMAT).write_text('{"sinks": ["7"], "prefix_visible": true, "digest": "f"}')
    with pytest.raises(WeightsError, match="sinks is '7'"):
        served_model("w", "float32", tmp_path, is_adapter=False)


@pytest.mark.parametrize("visible", [False, True])
@pytest.mark.parametrize("family", ["llama", "smollm3", "glm"])
def test_joined_tokens_are_those_of_our_own_assembly(family, visible):
    model = tiny_model(family, kv_heads=4, block_format=BlockFormat(prefix_visible=visible))
    prefix = encode_prefix(model, [5, 6, 7])
    blocks = list(encode_blocks(model, [[8, 9, 10, 11], [12], [13, 14]], prefix))
    parts = [prefix, *(encoded.kv for encoded in sorted(blocks, key=lambda encoded: encoded.number))]
    storage = model.kv_storage(10)
    cache = assemble(parts, model.rope, storage)
    for layer in cache.layers:
        layer.joined()
    starts = [0, 3, 7, 8]
    for lo, hi, heads in ((0, 10, slice(0, 4)), (2, 9, slice(1, 3)), (9, 10, slice(3, 4))):
        keys, values = joined(list(zip(starts, parts, strict=True)), model.rope, lo, hi, heads)
        assert torch.equal(keys, storage[0, :, 0, heads, lo:hi].transpose(1, 2))
        assert torch.equal(values, storage[1, :, 0, heads, lo:hi].transpose(1, 2))


def test_each_rank_has_its_heads():
    assert [heads_of(rank, 2, 4) for rank in range(2)] == [slice(0, 2), slice(2, 4)]
    assert [heads_of(rank, 4, 2) for rank in range(4)] == [slice(0, 1), slice(0, 1), slice(1, 2), slice(1, 2)]


class Pages:
    """Pages of three tokens, two heads of four numbers; `order` names how a page is laid out."""

    def __init__(self, order: str, dtype=torch.float32):
        sizes = {"k": 2, "n": 3, "h": 2, "d": 4}
        self.order = order
        self.cache = torch.randn(8, *(sizes[name] for name in order)).to(dtype)

    def write(self, keys, values, slots):
        both = torch.stack([keys, values])  # k n h d
        view = self.cache.permute(0, *(1 + self.order.index(name) for name in "knhd"))
        for token, slot in enumerate(slots.tolist()):
            view[slot // 3, :, slot % 3] = both[:, token]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", ["knhd", "hnkd", "hkdn", "dhkn"])
def test_pages_of_any_layout_are_read(order, dtype):
    pages = Pages(order, dtype)
    before = pages.cache.clone()
    layout = PageLayout.learn(pages.cache, pages.write, (3, 2, 4))
    assert torch.equal(pages.cache, before), "the page is restored"
    of_request = torch.tensor([5, 2, 7])
    keys, values = torch.randn(2, 8, 2, 4).to(dtype)
    pages.write(keys, values, slots_of(of_request, 0, 8, 3))
    got = layout.read(pages.cache, of_request, 1, 8)
    assert torch.equal(got, torch.stack([keys, values])[:, 1:].transpose(1, 2))
    assert torch.equal(layout.read(pages.cache, of_request, 4, 5), got[:, :, 3:4])


def test_pages_that_do_not_hold_what_is_written_are_refused():
    pages = Pages("knhd")
    before = pages.cache.clone()
    with pytest.raises(ValueError, match="does not hold 48 numbers"):
        PageLayout.learn(pages.cache, lambda keys, values, slots: pages.write(keys, keys, slots), (3, 2, 4))
    assert torch.equal(pages.cache, before)


def block_kv(n_tokens: int) -> BlockKV:
    return BlockKV(*torch.randn(2, 2, 1, n_tokens, 4))


def test_a_store_keeps_what_vllm_encoded_and_shares_it(tmp_path):
    (tmp_path / "secret").write_text("s" * 64)
    shared = {"kv_remote": (tmp_path / "team").as_uri(), "kv_remote_secret": str(tmp_path / "secret")}
    part, kv = plan_of(prefix=2, blocks=[3]).load[1], block_kv(3)
    first = BlockStore(Settings.read({"kv_dir": str(tmp_path / "kv"), **shared}))
    with pytest.raises(KVTierError, match="tokens 2 to 5 have no block KV"):
        first.get(part)
    assert not first.is_in_folder(part)
    first.put(part, kv)
    assert first.is_in_folder(part)
    second = BlockStore(Settings.read(shared))
    assert not second.is_in_folder(part), "a store behind a network is not asked"
    assert torch.equal(second.get(part).keys, kv.keys)
    with pytest.raises(KVMismatchError, match="has 3 tokens from position 0; expected 4"):
        second.get(replace(part, n_tokens=4))
    unsealed = BlockStore(Settings.read({"kv_remote": shared["kv_remote"], "kv_remote_secret": __file__}))
    with pytest.raises(KVTierError, match="is not sealed"):
        unsealed.get(part)


def test_a_store_without_room_says_so(tmp_path):
    store = BlockStore(Settings.read({"kv_dir": str(tmp_path), "disk_bytes": "1KB"}))
    with pytest.raises(KVTierError, match="raise disk_bytes"):
        store.put(plan_of(prefix=2, blocks=[3]).load[1], block_kv(3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "neither kv_dir nor kv_remote"),
        ({"kv_dir": "/x", "memory_bytes": "much"}, "memory_bytes"),
        ({"dir": 1}, "dir"),
    ],
)
def test_settings_are_checked(given, message):
    with pytest.raises((ArgumentError, TypeError), match=message):
        Settings.read(given)


def test_only_the_connector_imports_vllm():
    """`import blockrag` and the client need no vLLM; `register` imports it when vLLM calls."""
    root = Path(blockrag.__file__).parent
    importers = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"^\s*(import|from) vllm\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert importers == {"vllm/__init__.py", "vllm/connector.py"}
