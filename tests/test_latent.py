"""Latent attention (MLA): block KV holds latents, in every tier and form, and answers come from them."""

import pytest
import torch

from blockrag.attention.encode import encode_blocks
from blockrag.attention.kv_cache import PreallocatedCache
from blockrag.attention.reference import reference_logits
from blockrag.errors import UnsupportedModelError
from blockrag.kv.disk import DiskTier
from blockrag.pipeline import Pipeline
from tests.paths import cached_logits, encode_all, logits_over
from tests.samples import BOUNDS, RIVERS
from tests.tiny import LATENT, OWN_SETTINGS, ROPE, tiny_engine, tiny_model

BLOCKS, FINAL = [list(range(5, 45)), list(range(60, 75))], [9, 8, 7, 6, 5]
KEY, LATENT_SIZE = (OWN_SETTINGS["deepseek_v3"][name] for name in ("qk_rope_head_dim", "kv_lora_rank"))


@pytest.mark.parametrize("family", LATENT)
def test_a_token_takes_its_latent_and_one_rotated_key(family):
    model = tiny_model(family)
    kv = encode_all(model, BLOCKS)[0]
    assert kv.keys.shape == (2, 1, 40, KEY) and kv.values.shape == (2, 1, 40, LATENT_SIZE)
    assert kv.nbytes == 40 * model.kv_nbytes_per_token == 40 * 2 * (KEY + LATENT_SIZE) * 4
    assert kv.keys.untyped_storage().nbytes() == kv.keys.nbytes, "the batch that it comes from is freed"


def test_changing_a_block_moves_no_bit_of_another():
    model = tiny_model("deepseek_v3")
    first, second = ([b.kv for b in encode_blocks(model, [BLOCKS[0], other])] for other in ([3] * 35, [4] * 35))
    assert torch.equal(first[0].keys, second[0].keys) and torch.equal(first[0].values, second[0].values)


@pytest.mark.parametrize("at_rest, tolerance", [("exact", 0.0), ("int8", 0.2)])
def test_latents_are_kept_on_disk(at_rest, tolerance, tmp_path):
    model = tiny_model("deepseek_v2")
    tier = DiskTier(tmp_path, None, "0" * 64, at_rest=at_rest)
    parts = encode_all(model, BLOCKS)
    for number, part in enumerate(parts):
        assert tier.put(f"{number:064x}", part)
    back = [tier.get(f"{number:064x}") for number in range(2)]
    assert (logits_over(model, back, FINAL) - logits_over(model, parts, FINAL)).abs().max() <= tolerance
    assert at_rest == "int8" or all(torch.equal(a.values, b.values) for a, b in zip(parts, back, strict=True))


def test_scaled_yarn_as_deepseek_publishes_it():
    rope = {**ROPE["yarn"], "mscale": 0.707, "mscale_all_dim": 0.8}
    for family in ("deepseek_v2", "deepseek_v3"):
        model = tiny_model(family, rope_parameters=rope)
        difference = cached_logits(model, [], BLOCKS, FINAL) - reference_logits(model, [], BLOCKS, FINAL)
        assert difference.abs().max() <= 1e-4


def test_an_engine_answers_from_latents_in_memory_and_on_disk(tmp_path):
    pipeline = Pipeline.open(tiny_engine(tmp_path / "kv", family="deepseek_v3"), tmp_path)
    pipeline.add(pipeline.segment(RIVERS, bounds=BOUNDS), 1.0)
    answers = [ask(pipeline)]
    pipeline.engine = tiny_engine(tmp_path / "kv", family="deepseek_v3")
    answers.append(ask(pipeline))
    assert [{*answer.report.kv_hits} for answer in answers] == [{"memory"}, {"disk"}]
    assert answers[0].text == answers[1].text


def ask(pipeline):
    return list(pipeline.ask("Which river?", k=3, max_new_tokens=8))[-1]


def test_a_release_of_transformers_that_caches_no_latents_is_refused():
    model = tiny_model("deepseek_v3")
    layer = PreallocatedCache(model.kv_storage(8), rope=model.rope).layers[0]
    heads = torch.zeros(1, 4, 3, 20)
    with pytest.raises(UnsupportedModelError, match="does not cache the latents"):
        layer.update(heads, heads[..., :10])
