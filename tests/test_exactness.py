"""Rule 3: encode + assemble + prefill gives the reference's logits, for every family, RoPE type and format."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.attention.format import PLAIN, BlockFormat
from blockrag.attention.reference import reference_logits
from blockrag.attention.runner import make_runner
from blockrag.generate import prefill
from blockrag.models.answer_model import AnswerModel
from tests.paths import assemble, cached_logits, encode_all
from tests.tiny import (
    EXPERTS,
    FAMILIES,
    LATENT,
    MORE,
    ONE_ROPE_TYPE,
    OTHER_FAMILIES,
    ROPE,
    VOCABULARY,
    WINDOWED,
    tiny_model,
)

TOLERANCE = 1e-4
FORMATS = {
    "plain": PLAIN,
    "literal sinks": BlockFormat(sink_ids=(5, 6)),
    "learned sinks": BlockFormat(sink_embeddings=torch.linspace(-1, 1, 3 * 64).view(3, 64)),
    "prefix visible": BlockFormat(prefix_visible=True),
    "sinks, prefix visible": BlockFormat(sink_ids=(7,), prefix_visible=True),
}


def tokens(n: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (n,), generator=generator).tolist()


def assert_exact(model: AnswerModel, prefix: list[int], blocks: list[list[int]], final: list[int]) -> None:
    difference = (cached_logits(model, prefix, blocks, final) - reference_logits(model, prefix, blocks, final)).abs()
    assert difference.max() <= TOLERANCE, f"logits differ by {difference.max():.1e}, mean {difference.mean():.1e}"


COMBINATIONS = [
    *product(FAMILIES, ROPE, FORMATS),
    *product(OTHER_FAMILIES, ["default"], FORMATS),
    *((family, rope, "plain") for family, rope in product([*OTHER_FAMILIES, *LATENT], ROPE) if rope != "default"),
    *product([*WINDOWED, *EXPERTS, *LATENT], ["default"], FORMATS),
    *product(MORE, ["default"], ["plain", "sinks, prefix visible"]),
]


@pytest.mark.parametrize(
    "family, rope, block_format", [row for row in COMBINATIONS if row[1] == "default" or row[0] not in ONE_ROPE_TYPE]
)
def test_cached_logits_are_the_references(family, rope, block_format):
    model = tiny_model(family, rope=rope, block_format=FORMATS[block_format])
    blocks = [tokens(n, seed=n) for n in (1, 40, 300, 33)]
    assert_exact(model, tokens(7, seed=98), blocks, tokens(9, seed=99))


WINDOWS = {
    "mistral": {"sliding_window": 16},
    "phi3": {"sliding_window": 16},
    "starcoder2": {"sliding_window": 16},
    "mixtral": {"sliding_window": 16},
    "qwen2": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    "qwen3": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    "qwen3_moe": {"use_sliding_window": True, "sliding_window": 16},
    "smollm3": {
        "use_sliding_window": True,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}
"""Settings that give layers a window, of families that also have models without."""


@pytest.mark.parametrize("block_format", ["plain", "sinks, prefix visible"])
@pytest.mark.parametrize("family", WINDOWS)
def test_layers_with_a_window_see_that_far_in_the_joined_prompt(family, block_format):
    model = tiny_model(family, block_format=FORMATS[block_format], **WINDOWS[family])
    blocks, final = [tokens(n, seed=n) for n in (1, 40, 300, 5, 6)], tokens(33, seed=99)
    assert model.rope.windows and {*model.rope.windows} <= {16, None}
    assert_exact(model, tokens(7, seed=98), blocks, final)
    without = tiny_model(family, block_format=FORMATS[block_format])
    far = reference_logits(without, [], blocks, final) - reference_logits(model, [], blocks, final)
    assert far.abs().max() > 100 * TOLERANCE, "the window would not be noticed"


@pytest.mark.parametrize("window", [1, 2, 7, 39, 40, 41, 400])
def test_windows_of_any_size(window):
    model = tiny_model("gemma2", sliding_window=window)
    assert_exact(model, tokens(3, 1), [tokens(n, n) for n in (40, 1, 39)], tokens(9, 2))


@pytest.mark.parametrize("family", [*WINDOWED, *EXPERTS, *LATENT, "mistral"])
def test_the_runner_is_exact_through_prefill_and_decoding(family):
    model = tiny_model(family, **WINDOWS.get(family, {}))
    blocks, final = [tokens(n, seed=n) for n in (40, 300)], tokens(20, seed=99)
    with make_runner(model).join(encode_all(model, blocks), room=30) as joined:
        found = torch.stack(
            [joined.logits(ids) for ids in (final[:8], final[8:17], *([token] for token in final[17:]))]
        )
    expected = reference_logits(model, [], blocks, final)[[7, 16, 17, 18, 19]]
    assert (found - expected).abs().max() <= TOLERANCE


LONG = {"short_factor": [1.0 + i / 8 for i in range(8)], "long_factor": [2.0 + i for i in range(8)]}
LENGTHS = {
    "dynamic": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
    "longrope": {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "factor": 8.0,
        "original_max_position_embeddings": 64,
        **LONG,
    },
}


@pytest.mark.parametrize("kind", LENGTHS)
def test_frequencies_that_depend_on_length_are_those_of_the_context(kind):
    """Blocks below and above the original length, which `transformers` would give different frequencies."""
    family, own = ("phi3", {"original_max_position_embeddings": 64}) if kind == "longrope" else ("llama", {})
    model = tiny_model(family, rope_parameters=LENGTHS[kind], **own)
    before = model.rope.inv_freq.clone()
    assert_exact(model, [], [tokens(n, n) for n in (5, 80, 40)], tokens(9, 2))
    assert torch.equal(model.network.model.rotary_emb.inv_freq.double(), before)
    factors = torch.tensor(LONG["long_factor"]) if kind == "longrope" else 1.0
    assert torch.allclose(before, 1 / (factors * 1e4 ** (torch.arange(0, 16, 2) / 16)).double())


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=0, max_size=5),
    n_prefix=st.integers(0, 12),
    n_final=st.integers(1, 20),
    kv_heads=st.sampled_from([1, 2, 4]),
    family=st.sampled_from(FAMILIES),
    block_format=st.sampled_from([PLAIN, FORMATS["literal sinks"]]),
    seed=st.integers(0, 10**6),
)
def test_exact_for_any_number_length_and_order_of_blocks(
    lengths, n_prefix, n_final, kv_heads, family, block_format, seed
):
    model = tiny_model(family, kv_heads=kv_heads, block_format=block_format, seed=seed % 3)
    blocks = [tokens(n, seed + i) for i, n in enumerate(lengths)]
    assert_exact(model, tokens(n_prefix, seed + 100), blocks, tokens(n_final, seed + 101))


@pytest.mark.parametrize("rope", ROPE)
def test_exact_over_thousands_of_tokens(rope):
    model = tiny_model(rope=rope)
    assert_exact(model, tokens(5, 1), [tokens(n, n) for n in (2000, 1, 700, 900)], tokens(6, 2))


def test_blocks_isolation_changes_the_logits():
    """The tolerance would notice a missing mask: ordinary attention is far off."""
    model = tiny_model()
    blocks, final = [tokens(40, 1), tokens(40, 2)], tokens(5, 3)
    full = model.network(input_ids=torch.tensor([blocks[0] + blocks[1] + final])).logits[0, -5:]
    assert (full - reference_logits(model, [], blocks, final)).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("family", [*FAMILIES, *OTHER_FAMILIES, *WINDOWED, *EXPERTS, *LATENT, *MORE])
def test_one_block_without_sinks_is_the_models_own_generate(family):
    model = tiny_model(family)
    block, final = tokens(50, 1), tokens(8, 2)
    found = greedy(model, [block], final, 20)
    ids = torch.tensor([block + final])
    model.network.set_attn_implementation("eager")
    expected = model.network.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, eos_token_id=None, do_sample=False, pad_token_id=0
    )[0, ids.shape[1] :].tolist()
    assert found == expected


def greedy(model: AnswerModel, blocks: list[list[int]], final: list[int], n: int) -> list[int]:
    parts = encode_all(model, blocks)
    cache = assemble(parts, model.rope, model.kv_storage(sum(p.n_tokens for p in parts) + len(final) + n))
    chosen = [int(prefill(model, final, cache).argmax())]
    while len(chosen) < n:
        chosen.append(int(prefill(model, chosen[-1:], cache).argmax()))
    return chosen


@pytest.mark.weights
def test_exact_with_the_real_smollm2(smollm2, smollm2_path):
    model = smollm2
    text = (smollm2_path / "tokenizer.json").read_text()[:2000]
    ids = model.tokenizer(text).input_ids
    blocks = [ids[:1], ids[1:40], ids[40:140], ids[140:260]]
    final = model.tokenizer("Question: what is this?<|im_end|>\n<|im_start|>assistant\n").input_ids
    assert_exact(model, model.tokenizer("<|im_start|>user\n").input_ids, blocks, final)
