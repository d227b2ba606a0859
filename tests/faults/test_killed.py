"""A process killed while it writes loses nothing it had acknowledged, and leaves nothing half."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from blockrag.kv.disk import DiskTier

ROOT = Path(__file__).parents[2]
WRITER = """
import sys, torch
from pathlib import Path
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.disk import DiskTier
folder, first = Path(sys.argv[1]), int(sys.argv[2])
tier = DiskTier(folder, 1 << 30, "killed")
print("ready", flush=True)
for i in range(first, first + 10_000):
    tier.put(f"{i:064x}", BlockKV(torch.full((2, 2, 64, 16), float(i)), torch.full((2, 2, 64, 16), -float(i))))
    print(i, flush=True)
"""


@pytest.mark.timeout(1800)
def test_killed_while_writing(tmp_path, rounds):
    acknowledged, draw = set(), random.Random(0)
    for number in range(rounds(3, 200)):
        acknowledged |= _write_and_kill(tmp_path, 100_000 * number, draw.uniform(0.0, 0.15))
        tier = DiskTier(tmp_path, 1 << 30, "killed")
        listed = set(tier.keys())
        assert {f"{i:064x}" for i in acknowledged} <= listed
        for key in listed if number % 20 == 0 else list(listed)[-20:]:
            kv = tier.get(key)
            assert torch.equal(kv.keys, torch.full((2, 2, 64, 16), float(int(key, 16))))
    assert acknowledged


def _write_and_kill(folder: Path, first: int, after_s: float) -> set[int]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(first)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(after_s)
    process.kill()
    lines = process.stdout.read().split("\n")
    process.wait()
    return {int(line) for line in lines[:-1]}  # the last line may be cut short
