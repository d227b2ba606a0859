"""Which models are accepted; every refusal names what was found and what to do."""

import pytest
from tiny import FAMILIES, ROPE, tiny_model
from transformers import AutoConfig

from blockrag.errors import UnsupportedModelError
from blockrag.models.families import VERIFIED_FAMILIES, check_supported

LONG = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 2.0, "short_factor": [1.0] * 8, "long_factor": [1.0] * 8}


def config(family: str = "llama", **changes):
    small = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    return AutoConfig.for_model(family, **small, **changes)


def test_every_verified_family_is_in_the_exactness_tests():
    assert sorted(FAMILIES) == sorted(VERIFIED_FAMILIES)


def test_an_unverified_family_names_the_flag_that_overrides():
    with pytest.raises(UnsupportedModelError, match="'gpt2'.*--allow-unverified"):
        check_supported(AutoConfig.for_model("gpt2"))
    check_supported(config("olmo"), allow_unverified=True)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"family": "mistral", "sliding_window": 4096}, "sliding"),
        ({"family": "qwen2", "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}, "sliding"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "'dynamic'.*length of the prompt",
        ),
        ({"rope_parameters": LONG}, "'longrope'.*length of the prompt"),
        ({"rope_parameters": {**ROPE["default"], "partial_rotary_factor": 0.5}}, r"partial.*0\.5"),
    ],
)
def test_what_cannot_be_cached_is_refused_by_name(changes, message):
    with pytest.raises(UnsupportedModelError, match=message):
        check_supported(config(**changes), allow_unverified=True)


def test_a_model_is_checked_when_it_is_made():
    with pytest.raises(UnsupportedModelError, match="sliding"):
        tiny_model("mistral", sliding_window=32)
