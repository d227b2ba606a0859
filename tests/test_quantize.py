"""Block KV in 8 and in 4 bits: small, near, and what it was made of stays."""

import importlib
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import common, plot, shapes
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.quantize import LARGEST, dequantize, dequantize4, quantize, quantize4
from tests.tiny import tiny_model, tiny_tokenizer


def kv(seed: int, n_tokens: int = 20, size: float = 1.0) -> BlockKV:
    keys, values = size * torch.randn(2, 3, 2, n_tokens, 16, generator=torch.Generator().manual_seed(seed))
    return BlockKV(keys, values, first_position=seed)


@given(seed=st.integers(0, 999), n_tokens=st.integers(1, 40), size=st.sampled_from([1e-30, 1e-3, 1.0, 1e4]))
def test_no_number_is_off_by_more_than_half_a_step(seed, n_tokens, size):
    block = kv(seed, n_tokens, size)
    before = block.keys.clone()
    stored = quantize(block)
    back = dequantize(stored, torch.float32)
    for found, true, scales in (
        (back.keys, block.keys, stored.key_scales),
        (back.values, block.values, stored.value_scales),
    ):
        assert ((found - true).abs() <= 0.5001 * scales).all()
    assert torch.equal(block.keys, before) and back.first_position == seed
    assert stored.keys.abs().max() <= LARGEST


@given(
    seed=st.integers(0, 999),
    n_tokens=st.sampled_from([1, 2, 63, 64, 65, 130]),
    size=st.sampled_from([1e-30, 1e-3, 1.0, 1e3]),
    group=st.sampled_from([8, 12, 64]),
    offset=st.sampled_from([0.0, -300.0]),
)
def test_in_4_bits_no_number_is_off_by_more_than_half_a_step(seed, n_tokens, size, group, offset):
    """And by the rounding of the group's smallest number to 16 bits."""
    block = kv(seed, n_tokens, size)
    block = BlockKV(block.keys + offset, block.values, seed)
    before = block.keys.clone()
    back = dequantize4(quantize4(block, group), torch.float32, group)
    for found, true, dim in ((back.keys, block.keys, -2), (back.values, block.values, -1)):
        for a, b in zip(found.split(group, dim), true.split(group, dim), strict=True):
            step = (b.amax(dim, keepdim=True) - b.amin(dim, keepdim=True)) / 15
            rounding = b.abs().amax(dim, keepdim=True) * 2**-10 + 1e-7
            assert ((a - b).abs() <= 0.501 * step + rounding).all()
    assert torch.equal(block.keys, before) and back.first_position == seed


def test_4_bits_take_little_more_than_half_a_byte_a_number():
    keys, values = torch.randn(2, 3, 2, 256, 64)
    assert quantize4(BlockKV(keys, values)).nbytes == 4.5 / 32 * (keys.nbytes + values.nbytes)


def test_numbers_that_are_all_alike_and_types_come_back():
    alike = BlockKV(torch.full((2, 3, 4, 16), -2.5), torch.zeros(2, 3, 4, 16))
    back = dequantize4(quantize4(alike), torch.bfloat16)
    assert torch.equal(back.keys.float(), alike.keys) and torch.equal(back.values.float(), alike.values)


def test_it_takes_little_more_than_a_byte_a_number():
    block = kv(1, n_tokens=300)
    assert quantize(block).nbytes < 1.3 * block.nbytes / 4


def test_zeros_stay_zeros_and_types_come_back():
    nothing = BlockKV(torch.zeros(2, 3, 4, 16), torch.zeros(2, 3, 4, 16))
    assert torch.equal(dequantize(quantize(nothing), torch.float32).keys, nothing.keys)
    block = kv(3)
    half = BlockKV(block.keys.bfloat16(), block.values.bfloat16())
    assert dequantize(quantize(half), torch.bfloat16).keys.dtype == torch.bfloat16


def test_quantizing_again_changes_nothing():
    once = dequantize(quantize(kv(5)), torch.float32)
    torch.testing.assert_close(dequantize(quantize(once), torch.float32).keys, once.keys, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_the_measurement_tells_every_way_apart(monkeypatch, tmp_path, capsys):
    measurement = importlib.import_module("benchmarks.quantize")
    subject = shapes.Subject("tiny", tiny_model(tokenizer=tiny_tokenizer()), random_weights=True)
    machine = common.Machine("a CPU", 2, torch.__version__, 20.0, None, 1.0, 0.3)
    monkeypatch.setattr(measurement, "open_subject", lambda name, device: subject)
    monkeypatch.setattr(measurement, "measure_machine", lambda device, dtype: machine)
    monkeypatch.setattr(measurement, "TEXTS", ("NOTICE",))
    path = tmp_path / "quantize-tiny.json"
    measurement.main(["--json", str(path)])
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert len(rows) == 13 and rows[0]["kl"] == 0 and rows[0]["bytes_per_token"] == 2 * 2 * 2 * 16 * 4
    assert all(0 < row["key_error"] < 0.05 and row["bytes_per_token"] < 200 for row in rows[1:9])
    assert all(0 < row["key_error"] < 0.2 and row["bytes_per_token"] < 150 for row in rows[9:])
    assert rows[1]["key_error"] != pytest.approx(rows[5]["key_error"]), "before and after rotation differ"
    assert plot.draw(path).stat().st_size > 5000
