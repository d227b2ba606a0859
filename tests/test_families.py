"""Which models are accepted; every refusal names what was found and what to do."""

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from blockrag.errors import UnsupportedModelError
from blockrag.models.answer_model import AnswerModel
from blockrag.models.families import FAMILIES as VERIFIED
from blockrag.models.families import check_supported, rotated_layers
from tests.tiny import FAMILIES, OTHER_FAMILIES, ROPE, tiny_model

LONG = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 2.0, "short_factor": [1.0] * 8, "long_factor": [1.0] * 8}


def config(family: str = "llama", **changes):
    small = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    return AutoConfig.for_model(family, **{**small, **changes})


def test_every_verified_family_is_in_the_exactness_tests():
    assert sorted([*FAMILIES, *OTHER_FAMILIES]) == sorted(VERIFIED)


def test_the_guide_names_every_verified_family():
    guide = (Path(__file__).parent.parent / "docs" / "guides" / "models.md").read_text(encoding="utf-8")
    assert [family for family in VERIFIED if f"`{family}`" not in guide] == []


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_verified_families_are_accepted_as_they_are_published(family):
    check_supported(AutoConfig.for_model(family))


def test_an_unverified_family_names_the_flag_that_overrides():
    with pytest.raises(UnsupportedModelError, match="'starcoder2'.*--allow-unverified"):
        check_supported(config("starcoder2"))
    check_supported(config("starcoder2"), allow_unverified=True)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"family": "mistral", "sliding_window": 4096}, "sliding"),
        ({"family": "phi3", "sliding_window": 2047, "pad_token_id": 0}, "sliding window of 2047"),
        ({"family": "qwen2", "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}, "sliding"),
        (
            {"family": "smollm3", "use_sliding_window": True, "sliding_window": 64, "num_hidden_layers": 4},
            "sliding_attention",
        ),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "'dynamic'.*length of the prompt",
        ),
        ({"rope_parameters": LONG}, "'longrope'.*length of the prompt"),
        ({"rope_parameters": {**ROPE["default"], "partial_rotary_factor": 0.5}}, r"partial.*0\.5"),
        ({"family": "gemma", "use_bidirectional_attention": True}, "later tokens"),
        ({"family": "falcon", "alibi": True}, "ALiBi"),
        ({"family": "lfm2", "layer_types": ["conv", "full_attention"]}, "conv"),
        ({"family": "gemma2", "layer_types": ["full_attention"] * 2}, "softcap"),
        ({"per_layer_config": {0: {"intermediate_size": 32}, 1: {"intermediate_size": 64}}}, "differ in shape"),
    ],
)
def test_what_cannot_be_cached_is_refused_by_name(changes, message):
    with pytest.raises(UnsupportedModelError, match=message):
        check_supported(config(**changes), allow_unverified=True)


@pytest.mark.parametrize(
    "family, message",
    [
        *((family, "sliding_attention") for family in ("gemma2", "gemma3", "gemma3_text", "olmo3", "cohere2", "ministral")),
        *((family, "linear_attention|recurrent") for family in ("qwen3_next", "jamba", "recurrent_gemma", "bamba")),
        *((family, "mamba|linear_attention|recurrent") for family in ("mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm")),
        *((family, "absolute ones or ALiBi") for family in ("gpt2", "opt", "bloom", "mpt")),
        *((family, "latent attention") for family in ("deepseek_v2", "deepseek_v3", "minicpm3")),
        *((family, "mixture of .* experts") for family in ("mixtral", "qwen3_moe", "granitemoe", "olmoe")),
    ],
)  # fmt: skip
def test_families_that_cannot_work_are_refused_as_they_are_published(family, message):
    """The flag does not help: what it would lead to is a crash, or answers that are quietly wrong."""
    with pytest.raises(UnsupportedModelError, match=f"^{family}: .*({message}).*; use a "):
        check_supported(AutoConfig.for_model(family), allow_unverified=True)


def test_a_model_is_checked_when_it_is_made():
    with pytest.raises(UnsupportedModelError, match="sliding"):
        tiny_model("mistral", sliding_window=32)


def test_a_network_built_otherwise_is_refused():
    network = AutoModelForCausalLM.from_config(config("gpt_neox", intermediate_size=64, vocab_size=40, rotary_pct=1.0))
    with pytest.raises(UnsupportedModelError, match="GPTNeoXForCausalLM: no module model.rotary_emb"):
        AnswerModel(network, None, "weights", allow_unverified=True)


def test_layers_without_rotation_are_read_from_the_configuration():
    assert rotated_layers(config("smollm3", num_hidden_layers=4)) == (True, True, True, False)
    assert rotated_layers(config("smollm3", no_rope_layers=[1, 1])) is None is rotated_layers(config("llama"))
