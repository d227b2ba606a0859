"""A process killed while it writes loses nothing it had acknowledged, and leaves nothing half."""

import random
from pathlib import Path

import pytest
import torch

from blockrag.kv.block_kv import BlockKV
from blockrag.kv.disk import DiskTier
from tests.processes import told_until_killed


def write(tell, folder: Path, first: int) -> None:
    tier = DiskTier(folder, 1 << 30, "killed")
    tell("ready")
    for i in range(first, first + 10_000):
        tier.put(f"{i:064x}", BlockKV(torch.full((2, 2, 64, 16), float(i)), torch.full((2, 2, 64, 16), -float(i))))
        tell(i)


@pytest.mark.timeout(1800)
def test_killed_while_writing(tmp_path, rounds):
    acknowledged, draw = set(), random.Random(0)
    for number in range(rounds(3, 200)):
        acknowledged |= set(told_until_killed(draw.uniform(0.0, 0.15), write, tmp_path, 100_000 * number))
        tier = DiskTier(tmp_path, 1 << 30, "killed")
        listed = set(tier.keys())
        assert {f"{i:064x}" for i in acknowledged} <= listed
        for key in listed if number % 20 == 0 else list(listed)[-20:]:
            kv = tier.get(key)
            assert torch.equal(kv.keys, torch.full((2, 2, 64, 16), float(int(key, 16))))
    assert acknowledged
