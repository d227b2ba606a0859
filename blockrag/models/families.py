"""Which model families are verified for block attention, and why others are refused. Knows configurations, not weights.

To add a family: enter its `model_type` here and in the exactness tests' table; it is in once they pass.
"""

from transformers import PreTrainedConfig

from blockrag.attention.rope import STATIC_ROPE_TYPES
from blockrag.errors import UnsupportedModelError

VERIFIED_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""`model_type`s whose exactness tests pass (rule 3)."""


def check_supported(config: PreTrainedConfig, *, allow_unverified: bool = False) -> None:
    """Raise unless blocks of this model can be cached exactly.

    Parameters
    ----------
    config : PreTrainedConfig
        The model's configuration.
    allow_unverified : bool
        Accept a `model_type` outside `VERIFIED_FAMILIES`. Layers and positions that cannot work are refused still.

    Raises
    ------
    UnsupportedModelError
        Naming what was found, what is expected and what to do.
    """
    if config.model_type not in VERIFIED_FAMILIES and not allow_unverified:
        raise UnsupportedModelError(
            f"model family {config.model_type!r} is not verified for block attention; verified are "
            f"{', '.join(VERIFIED_FAMILIES)}. Pass --allow-unverified (allow_unverified=True) to try it all the same."
        )
    _check_layers(config)
    _check_positions(config)


def _check_layers(config: PreTrainedConfig) -> None:
    layer_types = getattr(config, "layer_types", None) or ()
    other = sorted({kind for kind in layer_types if kind != "full_attention"})
    if other:
        raise UnsupportedModelError(
            f"{config.model_type}: layers of type {', '.join(other)} cannot be block-cached as they are; "
            "only models whose layers all use full attention can."
        )
    window = getattr(config, "sliding_window", None)
    if window and not layer_types:
        raise UnsupportedModelError(
            f"{config.model_type}: a sliding window of {window} tokens cannot be block-cached as it is; use a model "
            "without one, or set sliding_window to null in its config.json if it was trained without."
        )


def _check_positions(config: PreTrainedConfig) -> None:
    rope = config.rope_parameters
    if "rope_type" not in rope or rope["rope_type"] not in STATIC_ROPE_TYPES:
        raise UnsupportedModelError(
            f"{config.model_type}: rotary positions of type {rope.get('rope_type', rope)!r} change with the length of "
            f"the prompt, so that cached keys cannot be moved; supported are {', '.join(STATIC_ROPE_TYPES)}."
        )
    partial = rope.get("partial_rotary_factor", 1.0)
    if partial != 1.0:
        raise UnsupportedModelError(
            f"{config.model_type}: partial rotary positions (factor {partial}) are not verified; expected 1.0."
        )
