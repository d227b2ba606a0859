"""Attacks on reuse: KV is found only by all that determines it, and a file in another's place is refused."""

import shutil
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blockrag.attention.format import BlockFormat
from blockrag.engine import Engine
from blockrag.errors import KVCorruptError, KVMismatchError
from blockrag.kv.disk import DiskTier
from blockrag.kv.key import KVIdentity, kv_identity
from blockrag.kv.memory import MemoryTier
from blockrag.kv.tiered import TieredKV
from tests.tiny import WordEmbedder, tiny_model, tiny_tokenizer

TEXT = "The toll is twelve crowns, and the bridge opens at nine."
VICTIM = KVIdentity(weights="w", format="f", prefix=(1, 2), dtype="float32")
OTHERS = {
    "weights": replace(VICTIM, weights="w2"),
    "adapter or sinks": replace(VICTIM, format="f2"),
    "prefix": replace(VICTIM, prefix=(1, 3)),
    "no prefix": replace(VICTIM, prefix=()),
    "type": replace(VICTIM, dtype="bfloat16"),
    "version": replace(VICTIM, version=VICTIM.version + 1),
    "tenant": replace(VICTIM, salt="t"),
}
token_lists = st.lists(st.integers(0, 2**31), min_size=1, max_size=8)


def test_every_part_of_the_identity_is_attacked():
    changed = {
        f.name for other in OTHERS.values() for f in fields(other) if getattr(other, f.name) != getattr(VICTIM, f.name)
    }
    assert changed == {f.name for f in fields(VICTIM)}


@pytest.mark.parametrize("attack", OTHERS)
def test_the_same_tokens_of_another_maker_have_another_key(attack):
    assert OTHERS[attack].key([5, 6, 7]) != VICTIM.key([5, 6, 7])


@given(token_lists, token_lists)
def test_other_tokens_have_another_key_of_full_length(one, other):
    """Tokens are hashed at a fixed width, so that none can be split or joined into others; no hash is truncated."""
    assert (VICTIM.key(one) == VICTIM.key(other)) == (one == other)
    assert len(VICTIM.key(one)) == 64 == len(VICTIM.digest)


@given(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))
def test_parts_of_an_identity_cannot_flow_into_one_another(a, b, c, d):
    one, other = KVIdentity(a, b, (), "float32"), KVIdentity(c, d, (), "float32")
    assert (one.digest == other.digest) == ((a, b) == (c, d))


def test_identities_without_a_salt_are_those_of_earlier_versions():
    assert KVIdentity("w", "f", (1,), "float32", 3).digest == (
        "0b1f7a5debcebd4cd1242fd36325b9871ef9d7a1038526bfa35c96269d0fd925"
    )


def engine(folder, salt: str = "", **settings) -> Engine:
    model = tiny_model(tokenizer=tiny_tokenizer(), **settings)
    tiers = [MemoryTier(1 << 26), DiskTier(folder, 1 << 26, kv_identity(model, salt).digest)]
    return Engine(model, WordEmbedder(), TieredKV(tiers), "tiny", kv_salt=salt)


def kept(of: Engine, text: str = TEXT):
    """What this engine finds of a block with `text`."""
    return of.kv.get(of.kv_key(text))


ATTACKERS = {
    "another tenant": {"salt": "tenant b"},
    "no tenant": {"salt": ""},
    "other weights": {"salt": "tenant a", "seed": 1},
    "sinks": {"salt": "tenant a", "block_format": BlockFormat(sink_ids=(5, 6))},
    "an adapter": {"salt": "tenant a", "block_format": BlockFormat(adapter="a")},
    "a visible prefix": {"salt": "tenant a", "block_format": BlockFormat(prefix_visible=True)},
}


@pytest.mark.parametrize("attack", ATTACKERS)
def test_engines_that_share_a_disk_find_only_their_own(tmp_path, attack):
    victim = engine(tmp_path, "tenant a")
    victim.warm([TEXT])
    attacker = engine(tmp_path, **ATTACKERS[attack])
    assert kept(attacker) is None
    attacker.warm([TEXT])
    assert torch.equal(kept(engine(tmp_path, "tenant a")).kv.keys, kept(victim).kv.keys)


def test_a_text_that_begins_alike_is_another_block(tmp_path):
    own = engine(tmp_path)
    own.warm([TEXT])
    for text in (TEXT[:-1], TEXT.lower(), TEXT[1:], TEXT + TEXT):
        assert kept(own, text) is None


def test_a_file_in_the_place_of_another_is_refused(tmp_path):
    """Someone who can write to the folder renames a block, or brings one of another maker."""
    own = engine(tmp_path)
    own.warm([TEXT, "The toll is nothing."])
    path = {text: own.kv.tiers[1]._path(own.kv_key(text)) for text in (TEXT, "The toll is nothing.")}
    shutil.copy(path["The toll is nothing."], path[TEXT])
    with pytest.raises(KVCorruptError, match="it holds the block"):
        engine(tmp_path).kv.tiers[1].get(own.kv_key(TEXT))
    other = engine(tmp_path / "other", seed=1)
    other.warm([TEXT])
    shutil.copy(other.kv.tiers[1]._path(other.kv_key(TEXT)), path[TEXT])
    with pytest.raises(KVMismatchError, match="another model"):
        engine(tmp_path).kv.tiers[1].get(own.kv_key(TEXT))
