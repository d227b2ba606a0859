"""Model families that are verified for block attention, and configurations that cannot work whatever the family.

To add a family: enter its `model_type` in `FAMILIES` and its tiny settings in `tests/tiny.py`; it is verified once the
exactness tests pass. Checks read configurations as `transformers` builds them: many attributes exist only for some
families.
"""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from blockrag.attention.rope import STATIC_ROPE_TYPES
from blockrag.errors import UnsupportedModelError

USE_ANOTHER = "use a model whose layers all have full attention and rotary positions"

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Names that configurations give to the number of experts."""


@dataclass(frozen=True)
class Family:
    """How a family differs from Llama.

    Attributes
    ----------
    partial : bool
        Whether models that rotate only the first components of a head are verified.
    interleaved : bool
        Whether components 2 i and 2 i + 1 of a head are rotated together.
    rotated_layers : str or None
        Attribute of the configuration that says layer by layer whether keys are rotated.
    """

    partial: bool = False
    interleaved: bool = False
    rotated_layers: str | None = None


FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "qwen2": Family(),
    "qwen3": Family(),
    "gemma": Family(),
    "phi3": Family(),
    "granite": Family(),
    "olmo": Family(),
    "olmo2": Family(),
    "smollm3": Family(rotated_layers="no_rope_layers"),
    "arcee": Family(),
    "seed_oss": Family(),
    "apertus": Family(),
    "hyperclovax": Family(),
    "phi": Family(partial=True),
    "glm": Family(partial=True, interleaved=True),
    "glm4": Family(partial=True, interleaved=True),
    "cohere": Family(interleaved=True),
    "ernie4_5": Family(interleaved=True),
    "helium": Family(interleaved=True),
}
"""`model_type`s whose exactness tests pass (rule 3)."""


def family_of(config: PreTrainedConfig) -> Family:
    """The family's row; Llama's for an unverified family."""
    return FAMILIES.get(config.model_type, Family())


def rotated_layers(config: PreTrainedConfig) -> tuple[bool, ...] | None:
    """Layer by layer, whether keys are rotated; None where all are."""
    attribute = family_of(config).rotated_layers
    if attribute is None:
        return None
    layers = tuple(bool(rotated) for rotated in getattr(config, attribute)[: config.num_hidden_layers])
    return None if all(layers) else layers


def check_supported(config: PreTrainedConfig, *, allow_unverified: bool = False) -> None:
    """Raise unless blocks of this model can be cached exactly.

    Parameters
    ----------
    config : PreTrainedConfig
        The model's configuration.
    allow_unverified : bool
        Accept a `model_type` outside `FAMILIES`. Layers and positions that cannot work are still refused.

    Raises
    ------
    UnsupportedModelError
        If they cannot; it says what was found, what is expected and what to do.
    """
    _check_weights(config)
    _check_layers(config)
    _check_positions(config, partial=family_of(config).partial)
    if config.model_type not in FAMILIES and not allow_unverified:
        raise UnsupportedModelError(
            f"model family {config.model_type!r} is not verified for block attention; verified are "
            f"{', '.join(FAMILIES)}. Pass --allow-unverified (allow_unverified=True) to try it anyway."
        )


def _check_weights(config: PreTrainedConfig) -> None:
    """Refuse quantised checkpoints: their layers would be computed by kernels of other packages."""
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        settings = quantised if isinstance(quantised, dict) else quantised.to_dict()
        raise UnsupportedModelError(
            f"{config.model_type}: this checkpoint is quantised ({settings.get('quant_method', 'unknown method')}); "
            "use the model's unquantised checkpoint, or a GGUF file of it."
        )


def _check_layers(config: PreTrainedConfig) -> None:
    """Refuse layers whose keys and values are not those of ordinary full causal attention."""
    text, name = _text(config), config.model_type
    if getattr(text, "is_heterogeneous", False):
        raise UnsupportedModelError(
            f"{name}: its layers differ in shape from one another; use a model whose layers are all alike."
        )
    _check_kinds(text, name)
    if getattr(text, "kv_lora_rank", None):
        raise UnsupportedModelError(
            f"{name}: latent attention (MLA) keeps keys and values of different sizes, of which only a part is "
            f"rotated, and cannot be block-cached as it is; {USE_ANOTHER}."
        )
    n_experts = max((_number(text, attribute) for attribute in EXPERTS), default=0)
    if n_experts > 1:
        raise UnsupportedModelError(
            f"{name}: a mixture of {n_experts} experts computes the tokens of all blocks of a batch together, so that "
            "one block would change the last bits of another's keys; use a dense model."
        )
    if getattr(text, "attn_logit_softcapping", None):
        raise UnsupportedModelError(f"{name}: capped attention scores (softcap) are not computed here; {USE_ANOTHER}.")
    if getattr(text, "use_bidirectional_attention", None):
        raise UnsupportedModelError(f"{name}: its attention sees later tokens too; use a causal language model.")


def _check_kinds(text: PreTrainedConfig, name: str) -> None:
    layer_types = getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None) or ()
    other = sorted({kind for kind in layer_types if kind not in ("full_attention", "attention")})
    if other:
        raise UnsupportedModelError(
            f"{name}: layers of type {', '.join(other)} cannot be block-cached as they are; {USE_ANOTHER}."
        )
    window = getattr(text, "sliding_window", None)
    if window and not layer_types:
        raise UnsupportedModelError(
            f"{name}: a sliding window of {window} tokens cannot be block-cached as it is; use a model "
            "without one, or set sliding_window to null in its config.json if it was trained without."
        )
    if not getattr(text, "num_attention_heads", None):
        raise UnsupportedModelError(
            f"{name}: a recurrent network without attention has no keys and values to cache; {USE_ANOTHER}."
        )


def _check_positions(config: PreTrainedConfig, *, partial: bool) -> None:
    """Refuse positions that are not one rotation for all keys of a block; heads rotated in part unless `partial`."""
    name, rope = config.model_type, getattr(_text(config), "rope_parameters", None)
    if not rope or getattr(_text(config), "alibi", False):
        raise UnsupportedModelError(
            f"{name}: its configuration names no rotary positions (rope_parameters); keys with positions of another "
            f"kind, such as absolute ones or ALiBi, cannot be moved; {USE_ANOTHER}."
        )
    if "rope_type" not in rope:
        raise UnsupportedModelError(
            f"{name}: rotary positions differ from layer to layer ({', '.join(rope)}); use a model that has one kind."
        )
    if rope["rope_type"] not in STATIC_ROPE_TYPES:
        raise UnsupportedModelError(
            f"{name}: rotary positions of type {rope['rope_type']!r}; cached keys can be moved only where angles do "
            f"not change with the length of the prompt: use a model of type {', '.join(STATIC_ROPE_TYPES)}."
        )
    factor = rope.get("partial_rotary_factor", 1.0)
    if factor != 1.0 and not partial:
        raise UnsupportedModelError(
            f"{name}: partial rotary positions (factor {factor}) are not verified for this family; expected 1.0."
        )


def _text(config: PreTrainedConfig) -> Any:
    """The part of a configuration that describes the language model; of most models the whole."""
    return config.get_text_config(decoder=True)


def _number(config: Any, attribute: str) -> int:
    value = getattr(config, attribute, None)
    return value if isinstance(value, int) else 0
