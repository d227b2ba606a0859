"""Rotations: they compose, agree with the network's own, and leave what they read alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from blockrag.attention.assemble import assemble
from blockrag.attention.rope import Rope, use_exact_angles
from blockrag.errors import UnsupportedModelError
from blockrag.kv.block_kv import BlockKV
from tests.tiny import FAMILIES, ROPE, tiny_model

ROPE_OF_64 = Rope(1.0 / 10_000.0 ** (torch.arange(0, 64, 2).double() / 64))


def rotated(rope: Rope, keys: torch.Tensor, offset: int) -> torch.Tensor:
    out = torch.full_like(keys, float("nan"))
    rope.rotate(keys, rope.rotation(offset), out)
    return out


@settings(max_examples=40, deadline=None)
@given(first=st.integers(-5000, 60_000), second=st.integers(-60_000, 60_000), seed=st.integers(0, 99))
def test_turns_compose_and_undo(first, second, seed):
    keys = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(seed))
    twice = rotated(ROPE_OF_64, rotated(ROPE_OF_64, keys, first), second)
    torch.testing.assert_close(twice, rotated(ROPE_OF_64, keys, first + second), atol=1e-5, rtol=0)
    torch.testing.assert_close(rotated(ROPE_OF_64, rotated(ROPE_OF_64, keys, first), -first), keys, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rope", ROPE)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_moved_key_is_the_one_computed_in_its_place(family, rope):
    model = tiny_model(family, rope=rope)
    rotary, keys = model.network.model.rotary_emb, torch.randn(1, 2, 10, 16)

    def at(start: int) -> torch.Tensor:
        cos, sin = rotary(keys, torch.arange(start, start + 10)[None])
        return apply_rotary_pos_emb(keys, keys, cos, sin)[1]

    torch.testing.assert_close(rotated(model.rope, at(3), 3000), at(3003), atol=2e-6, rtol=0)


def test_bfloat16_is_rotated_in_float32():
    keys = torch.randn(4, 50, 64)
    exact = rotated(ROPE_OF_64, keys.bfloat16().float(), 12_345)
    assert torch.equal(rotated(ROPE_OF_64, keys.bfloat16(), 12_345), exact.bfloat16())


def test_components_beyond_the_rotary_dimension_pass_through():
    rope, keys = Rope(torch.tensor([1.0, 0.1]).double()), torch.randn(5, 6)
    out = rotated(rope, keys, 7)
    assert torch.equal(out[:, 4:], keys[:, 4:]) and not torch.equal(out[:, :4], keys[:, :4])


def test_neighbours_are_rotated_together_where_they_are_pairs():
    halves, pairs = ROPE_OF_64, Rope(ROPE_OF_64.inv_freq, interleaved=True)
    keys = torch.randn(5, 64)
    side_by_side = keys.view(5, 2, 32).transpose(1, 2).reshape(5, 64)  # component i beside i + 32
    expected = rotated(halves, keys, 7).view(5, 2, 32).transpose(1, 2).reshape(5, 64)
    assert torch.equal(rotated(pairs, side_by_side, 7), expected)


def test_keys_of_layers_without_rotation_stay():
    rope, keys = Rope(ROPE_OF_64.inv_freq, rotated_layers=(True, False, True)), torch.randn(3, 2, 5, 64)
    before, part = BlockKV(torch.zeros(3, 2, 7, 64), torch.zeros(3, 2, 7, 64)), BlockKV(keys, keys)
    cache = assemble([before, part], rope, torch.empty(2, 3, 1, 2, 12, 64))
    out = torch.stack([layer.joined()[0][0, :, 7:] for layer in cache.layers])
    assert torch.equal(out[1], keys[1]) and torch.equal(out[::2], rotated(ROPE_OF_64, keys[::2], 7))
    assert [rope.rotates(layer) for layer in range(3)] == [True, False, True] and ROPE_OF_64.rotates(1)


@pytest.mark.parametrize(
    "rope, common",
    [
        (ROPE_OF_64, True),
        (Rope(ROPE_OF_64.inv_freq, interleaved=True), False),
        (Rope(ROPE_OF_64.inv_freq, rotated_layers=(False, True)), False),
        (Rope(ROPE_OF_64.inv_freq[:16]), False),
    ],
)
def test_what_is_not_the_common_case_is_told(rope, common):
    assert rope.is_common(64) == common


def test_a_module_with_angles_of_its_own_is_refused():
    class Reversed(LlamaRotaryEmbedding):
        def forward(self, x, position_ids):
            cos, sin = super().forward(x, -position_ids)
            return sin, cos

    config = AutoConfig.for_model("llama", hidden_size=64, num_attention_heads=4)
    with pytest.raises(UnsupportedModelError, match="Reversed computes its angles in its own way"):
        use_exact_angles(Reversed(config))


def test_exact_angles_until_the_handle_is_removed():
    rotary = LlamaRotaryEmbedding(AutoConfig.for_model("llama", hidden_size=64, num_attention_heads=4))
    x, positions = torch.zeros(1, 1), torch.tensor([[4001]])
    rounded = rotary(x, position_ids=positions)[0]
    handle = use_exact_angles(rotary)
    exact = rotary(x, position_ids=positions)[0]
    assert torch.equal(exact[0, 0, :8], (4001 * rotary.inv_freq.double()).cos().float())
    assert not torch.equal(exact, rounded)
    handle.remove()
    assert torch.equal(rotary(x, position_ids=positions)[0], rounded)
