"""Many questions in a row, and many processes at once: nothing grows, nothing is lost, the budgets hold."""

import gc
import os
import random
from pathlib import Path

import pytest
import torch

from blockrag.documents import Document
from blockrag.events import Answer
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.disk import DiskTier
from blockrag.pipeline import Pipeline
from tests.processes import start, told
from tests.tiny import tiny_engine


def resident_nbytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_questions_in_a_row_leak_nothing(tmp_path, rounds):
    text = "".join(f"River {i} is {i} kilometres long and flows to the sea. " * 4 + "\n\n" for i in range(20))
    engine = tiny_engine(tmp_path / "kv", memory_bytes=200_000, disk_bytes=600_000)  # evicting all the time
    pipeline = Pipeline.open(engine, tmp_path)
    pipeline.add(pipeline.segment(Document("rivers.txt", "text/plain", text)))
    n, after_warm_up = rounds(60, 1000), None
    for i in range(n):
        (*_, last) = pipeline.ask(f"How long is river {i % 20}?", k=3, max_new_tokens=4)
        assert isinstance(last, Answer)
        assert all(tier.nbytes <= tier.budget_nbytes for tier in engine.kv.tiers)
        if i == n // 2:
            gc.collect()
            after_warm_up = resident_nbytes(), len(os.listdir("/proc/self/fd"))
    gc.collect()
    assert resident_nbytes() - after_warm_up[0] < 8 << 20
    assert len(os.listdir("/proc/self/fd")) <= after_warm_up[1]
    assert not engine.kv.tiers[0]._pins


def write_and_read(tell, folder: Path, seed: int, n: int, budget: int) -> None:
    tier, draw = DiskTier(folder, budget, "shared"), random.Random(seed)
    for _ in range(n):
        i = draw.randrange(30)
        kv = BlockKV(torch.full((2, 2, 16, 16), float(i)), torch.full((2, 2, 16, 16), -float(i)))
        if draw.random() < 0.6:
            tier.put(f"{i:064x}", kv)
        found = tier.get(f"{draw.randrange(30):064x}")
        assert found is None or torch.equal(found.keys, -found.values)
        with tier._writing:  # or what one process evicts and another writes meanwhile would both be counted
            on_disk = sum(path.stat().st_size for path in folder.glob("*/*.safetensors"))
        assert on_disk <= budget, (on_disk, budget)
    tell("done")


@pytest.mark.timeout(1800)
def test_processes_share_a_folder_and_its_budget(tmp_path, rounds):
    budget, n = 60_000, rounds(60, 2000)
    running = [start(write_and_read, tmp_path, seed, n, budget) for seed in range(2)]
    assert [list(told(here)) for _, here in running] == [["done"], ["done"]]
    tier = DiskTier(tmp_path, budget, "shared")
    assert tier.keys() and all(tier.get(key) is not None for key in tier.keys())
