"""Encoding: isolation to the bit (rule 4), immutability (rule 5), batches, sinks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.attention.encode import encode_blocks, encode_prefix
from blockrag.attention.format import BlockFormat
from blockrag.kv.block_kv import BlockKV
from blockrag.models.int8 import use_int8
from tests.paths import encode_all, logits_over
from tests.tiny import EXPERTS, OTHER_FAMILIES, VOCABULARY, WINDOWED, tiny_model

MODEL = tiny_model()
block_of_tokens = st.lists(st.integers(3, VOCABULARY - 1), min_size=1, max_size=80)


def same_bits(a: BlockKV, b: BlockKV) -> bool:
    return torch.equal(a.keys, b.keys) and torch.equal(a.values, b.values)


@settings(max_examples=30, deadline=None)
@given(
    block=block_of_tokens,
    others=st.lists(block_of_tokens, max_size=6),
    changed=st.lists(block_of_tokens, max_size=6),
    place=st.integers(0, 6),
)
def test_other_blocks_move_no_bit(block, others, changed, place):
    alone = encode_all(MODEL, [block])[0]
    for company in (others, changed):
        at = min(place, len(company))
        kv = encode_all(MODEL, company[:at] + [block] + company[at:])[at]
        assert same_bits(kv, alone), "a block's KV depends on what is encoded beside it"


@pytest.mark.parametrize("family", [*OTHER_FAMILIES, *WINDOWED, *EXPERTS])
def test_no_familys_blocks_move_a_bit_of_one_another(family):
    model = tiny_model(family, hidden_size=256, intermediate_size=512, head_dim=64)
    block, others = [7] * 40, [[5 + n] * n for n in (1, 33, 60, 90)]
    kv = encode_all(model, [*others, block])[-1]
    assert same_bits(kv, encode_all(model, [block, [9] * 50])[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8 and float32", "int8 and bfloat16"])
def test_in_16_and_8_bits_too_blocks_move_no_bit_of_one_another(dtype):
    model = tiny_model("qwen2", hidden_size=256, intermediate_size=512, head_dim=64)
    if "bfloat16" in dtype:
        model.network.bfloat16()
    if "int8" in dtype:
        use_int8(model.network)
    for block in ([7] * 40, [5], [9] * 300):
        kv = encode_all(model, [[5 + n] * n for n in (1, 33, 60, 90)] + [block])[-1]
        assert same_bits(kv, encode_all(model, [block, [9] * 50])[0])


def test_a_block_of_its_own_changes_with_its_tokens():
    a, b = encode_all(MODEL, [[5, 6, 7], [5, 6, 8]])
    assert torch.equal(a.keys[:, :, :2], b.keys[:, :, :2]) and not same_bits(a, b)


def test_every_block_comes_once_under_its_number():
    blocks = [[3 + i] * n for i, n in enumerate((70, 3, 33, 3, 64, 1))]
    encoded = list(encode_blocks(MODEL, blocks))
    assert sorted(e.number for e in encoded) == list(range(6))
    assert all(e.kv.n_tokens == len(blocks[e.number]) for e in encoded)


def test_kv_has_the_stored_layout():
    kv = encode_all(MODEL, [[5, 6, 7]])[0]
    assert kv.keys.shape == kv.values.shape == (2, 2, 3, 16)
    assert kv.keys.is_contiguous() and kv.nbytes == 2 * 2 * 2 * 3 * 16 * 4 == 3 * MODEL.kv_nbytes_per_token


def test_sinks_are_part_of_the_block_and_change_it():
    model = tiny_model(block_format=BlockFormat(sink_ids=(9, 10)))
    with_sinks = encode_all(model, [[5, 6, 7]])[0]
    written_out = encode_all(MODEL, [[9, 10, 5, 6, 7]])[0]
    assert with_sinks.n_tokens == 5 and same_bits(with_sinks, written_out)


def test_the_prefix_has_no_sinks():
    model = tiny_model(block_format=BlockFormat(sink_ids=(9, 10)))
    assert encode_prefix(model, [5, 6]).n_tokens == 2


def test_a_visible_prefix_is_needed_and_seen():
    model = tiny_model(block_format=BlockFormat(prefix_visible=True))
    with pytest.raises(ValueError, match="encode it first"):
        encode_all(model, [[5, 6]])
    one, two = (encode_all(model, [[5, 6]], encode_prefix(model, prefix))[0] for prefix in ([7, 8], [7, 9]))
    assert one.first_position == 2 and not torch.equal(one.values[1], two.values[1])


def test_answers_leave_block_kv_as_it_was():
    parts = encode_all(MODEL, [[5] * 20, [6] * 30])
    before = [(part.keys.clone(), part.values.clone()) for part in parts]
    answers = [logits_over(MODEL, order, [8, 9]) for order in (parts, parts[::-1], parts)]
    assert torch.equal(answers[0], answers[2]) and not torch.equal(answers[0], answers[1])
    for part, (keys, values) in zip(parts, before, strict=True):
        assert torch.equal(part.keys, keys) and torch.equal(part.values, values)
