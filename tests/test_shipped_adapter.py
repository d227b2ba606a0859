"""The adapter that ships for the default model: whole, small, found by itself, and better than none."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn.functional import kl_div

from blockrag.models.adapter import TENSORS, load_adapter
from blockrag.models.catalog import CATALOG
from blockrag.models.shipped import SHIPPED, find_adapter, shipped_adapters
from blockrag.models.store import base_id
from training.evaluate.readers import Reader, open_readers

FOLDER = SHIPPED / "smollm2-135m"

TOWNS = {
    "Brenn": 1871,
    "Tarn": 1903,
    "Skarv": 1788,
    "Oster": 1955,
    "Moll": 1846,
    "Ravn": 1912,
    "Holm": 1830,
    "Vik": 1899,
}
PASSAGES = [
    f"# {town}\n\nThe lighthouse of {town} was built in {year}. It has {year % 97} steps."
    for town, year in TOWNS.items()
]


def test_it_is_small_and_says_what_made_it():
    adapter = load_adapter(FOLDER)
    assert (FOLDER / TENSORS).stat().st_size <= 20_000_000
    assert adapter.base == "smollm2" and adapter.teacher and adapter.student
    assert {"teacher", "student", "metrics"} <= adapter.about.keys()
    assert {row["mode"] for row in adapter.about["metrics"]} == {"full", "naive", "block"}


@pytest.mark.parametrize("folder", shipped_adapters().values(), ids=shipped_adapters())
def test_every_shipped_adapter_belongs_to_a_model_of_the_catalog(folder):
    adapter = load_adapter(folder)
    assert (folder / TENSORS).stat().st_size <= 48_000_000
    assert adapter.base_id == CATALOG[adapter.base].weights_sha256 and "metrics" in adapter.about
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "/tmp" not in json.dumps(adapter.about), "paths of the machine that trained it"
    for row in adapter.about["metrics"]:
        assert f"{100 * row['contains']:.1f}" in card or f"{100 * row['f1']:.1f}" in card, row


def test_weights_in_the_tree_are_few():
    weights = [path for path in (SHIPPED.parents[1]).rglob("shipped/**/*.safetensors")]
    assert len(weights) >= 3 and sum(path.stat().st_size for path in weights) <= 120_000_000


@pytest.fixture(scope="module")
def readers(smollm2_path):
    return open_readers(("full", "naive", "block"), "smollm2", "auto", "cpu")


@pytest.mark.weights
def test_it_is_found_for_the_default_model(readers):
    adapter = load_adapter(FOLDER)
    assert adapter.base_id == base_id("smollm2")
    assert find_adapter("auto", "smollm2").block_format.digest == adapter.block_format.digest
    assert readers["block"].model.full is readers["full"].model is not None


@pytest.mark.weights
def test_block_mode_is_nearer_to_full_mode_by_it(readers):
    apart = divergence({mode: torch.cat(list(answers(reader))) for mode, reader in readers.items()})
    assert apart["block"] < apart["naive"] and apart["block"] < 0.1  # 0.101 with the adapter before
    words = (Path(__file__).parents[1] / "NOTICE").read_text(encoding="utf-8").split(" ")
    *before, last = (" ".join(words[i : i + 20]) for i in range(0, 180, 20))
    apart = divergence({mode: going_on(reader, before, last) for mode, reader in readers.items()})
    assert apart["block"] < 0.15 * apart["naive"], apart


def divergence(said: dict[str, torch.Tensor]) -> dict[str, float]:
    """Of each mode from full mode, mean over tokens."""
    full = said["full"]
    return {mode: float(kl_div(each, full, reduction="batchmean", log_target=True)) for mode, each in said.items()}


def going_on(reader: Reader, before: list[str], last: str) -> torch.Tensor:
    """Distributions in the last block over those before it."""
    *blocks, ids = (reader.prompt.block_ids(text) for text in (*before, last))
    return reader.log_probabilities(reader.read(blocks), ids[:1], ids[1:])


def answers(reader: Reader) -> Iterator[torch.Tensor]:
    """Distributions at the right answer to a question about each town."""
    parts = reader.read([reader.prompt.block_ids(text) for text in PASSAGES])
    for town, year in TOWNS.items():
        final = reader.prompt.final_ids(f"When was the lighthouse of {town} built?")
        year_ids = reader.model.tokenizer(str(year), add_special_tokens=False).input_ids
        yield reader.log_probabilities(parts, final, year_ids)
