"""Model families that are verified for block attention, and configurations that cannot work whatever the family.

To add a family: enter its `model_type` in `FAMILIES` and its tiny settings in `tests/tiny.py`; it is verified once the
exactness tests pass. Checks read configurations as `transformers` builds them: many attributes exist only for some
families.
"""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from blockrag.attention.rope import ROPE_TYPES
from blockrag.errors import UnsupportedModelError

USE_ANOTHER = "use a model whose layers all have softmax attention and rotary positions"

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Names that configurations give to the number of experts."""


WINDOWS_ONLY = "sliding_attention"
"""Only layers of this type rotate keys."""


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
        Attribute of the configuration that says layer by layer whether keys are rotated; `WINDOWS_ONLY` if only those
        of sliding-window layers are.
    windows : bool
        Whether models with sliding-window layers are verified.
    local_rope : bool
        Whether such layers may have frequencies of their own.
    softcap : bool
        Whether attention scores may be capped.
    experts : bool
        Whether its layers are mixtures of experts.
    learned_sinks : bool
        Whether each head has a learned sink beside its keys.
    latent : bool
        Whether its layers have latent attention (MLA).
    """

    partial: bool = False
    interleaved: bool = False
    rotated_layers: str | None = None
    windows: bool = False
    local_rope: bool = False
    softcap: bool = False
    experts: bool = False
    learned_sinks: bool = False
    latent: bool = False


FAMILIES = {
    "llama": Family(),
    "mistral": Family(windows=True),
    "qwen2": Family(windows=True),
    "qwen3": Family(windows=True),
    "gemma": Family(),
    "gemma2": Family(windows=True, softcap=True),
    "gemma3_text": Family(windows=True, local_rope=True),
    "phi3": Family(windows=True),
    "granite": Family(),
    "olmo": Family(),
    "olmo2": Family(),
    "olmo3": Family(windows=True, local_rope=True),
    "smollm3": Family(rotated_layers="no_rope_layers", windows=True),
    "ministral": Family(windows=True),
    "starcoder2": Family(windows=True),
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
    "mixtral": Family(windows=True, experts=True),
    "qwen2_moe": Family(experts=True),
    "qwen3_moe": Family(windows=True, experts=True),
    "olmoe": Family(experts=True),
    "granitemoe": Family(experts=True),
    "gpt_oss": Family(windows=True, experts=True, learned_sinks=True),
    "hunyuan_v1_dense": Family(),
    "internlm3": Family(),
    "jais2": Family(),
    "cwm": Family(windows=True),
    "granite_swa": Family(windows=True),
    "vaultgemma": Family(windows=True, softcap=True),
    "cohere2": Family(windows=True, interleaved=True, rotated_layers=WINDOWS_ONLY),
    "exaone4": Family(windows=True, rotated_layers=WINDOWS_ONLY),
    "afmoe": Family(windows=True, experts=True, rotated_layers=WINDOWS_ONLY),
    "cohere2_moe": Family(windows=True, experts=True, interleaved=True, rotated_layers=WINDOWS_ONLY),
    "exaone_moe": Family(windows=True, experts=True, rotated_layers=WINDOWS_ONLY),
    "dots1": Family(windows=True, experts=True),
    "ernie4_5_moe": Family(experts=True, interleaved=True),
    "flex_olmo": Family(experts=True),
    "glm4_moe": Family(experts=True, partial=True),
    "granitemoeshared": Family(experts=True),
    "hunyuan_v1_moe": Family(experts=True),
    "minimax_m2": Family(experts=True, partial=True),
    "phimoe": Family(experts=True, windows=True),
    "solar_open": Family(experts=True, partial=True),
    "deepseek_v2": Family(latent=True, experts=True, interleaved=True),
    "deepseek_v3": Family(latent=True, experts=True),
    "glm4_moe_lite": Family(latent=True, experts=True),
    "axk1": Family(latent=True, experts=True),
    "minicpm3": Family(latent=True),
    "youtu": Family(latent=True),
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
    if attribute == WINDOWS_ONLY:
        layers = tuple(window is not None for window in windows(config) or ())
    else:
        layers = tuple(bool(rotated) for rotated in getattr(config, attribute)[: config.num_hidden_layers])
    return None if all(layers) else layers


def windows(config: PreTrainedConfig) -> tuple[int | None, ...] | None:
    """Layer by layer, how many positions a token sees, its own included, or None for all; None if no layer has a
    window."""
    text = _text(config)
    kinds = getattr(text, "layer_types", None) or ["sliding_attention"] * text.num_hidden_layers
    window = getattr(text, "sliding_window", None)
    if not window or "sliding_attention" not in kinds:
        return None
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def latent_sizes(config: PreTrainedConfig) -> tuple[int, int] | None:
    """See `Rope.latent_sizes`; None without latent attention."""
    text = _text(config)
    return (text.qk_rope_head_dim, text.kv_lora_rank) if getattr(text, "kv_lora_rank", None) else None


def n_experts(config: PreTrainedConfig) -> int:
    """Experts of a layer; 0 or 1 if it is no mixture."""
    text = _text(config)
    parts = [text, getattr(text, "ffn_config", None)]  # of DBRX
    return max(_number(part, attribute) for part in parts for attribute in EXPERTS)


def has_plain_attention(config: PreTrainedConfig) -> bool:
    """Whether every layer attends to all earlier tokens by softmax alone, with keys and values as they are cached: no
    window, no cap, no learned sinks, no latents."""
    family = family_of(config)
    is_capped = bool(getattr(_text(config), "attn_logit_softcapping", None))
    return windows(config) is None and not is_capped and not family.learned_sinks and not latent_sizes(config)


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
    _check_layers(config, family_of(config))
    _check_positions(config, family_of(config))
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


def _check_layers(config: PreTrainedConfig, family: Family) -> None:
    """Refuse layers whose keys and values are not those of ordinary causal attention."""
    text, name = _text(config), config.model_type
    if getattr(text, "is_heterogeneous", False):
        raise UnsupportedModelError(
            f"{name}: its layers differ in shape from one another; use a model whose layers are all alike."
        )
    _check_kinds(text, name, family)
    if latent_sizes(text) and not family.latent:
        raise UnsupportedModelError(
            f"{name}: latent attention (MLA) is not verified for this family; use a model of a verified one "
            f"({_having('latent')})."
        )
    if n_experts(config) > 1 and not family.experts:
        raise UnsupportedModelError(
            f"{name}: a mixture of {n_experts(config)} experts is not verified for this family; use a dense model, or "
            f"a mixture of a verified family ({_having('experts')})."
        )
    if getattr(text, "attn_logit_softcapping", None) and not family.softcap:
        raise UnsupportedModelError(
            f"{name}: capped attention scores (softcap) are not verified for this family; {USE_ANOTHER}."
        )
    if getattr(text, "use_bidirectional_attention", None):
        raise UnsupportedModelError(f"{name}: its attention sees later tokens too; use a causal language model.")


def _check_kinds(text: PreTrainedConfig, name: str, family: Family) -> None:
    layer_types = getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None) or ()
    other = sorted({kind for kind in layer_types if kind not in ("full_attention", "attention", "sliding_attention")})
    if other:
        raise UnsupportedModelError(
            f"{name}: layers of type {', '.join(other)} cannot be block-cached as they are; {USE_ANOTHER}."
        )
    has_window = "sliding_attention" in layer_types or (getattr(text, "sliding_window", None) and not layer_types)
    if has_window and not family.windows:
        raise UnsupportedModelError(
            f"{name}: sliding-window layers are not verified for this family; use a model of a verified one "
            f"({_having('windows')})."
        )
    if family.rotated_layers == WINDOWS_ONLY and not has_window and not name.startswith("exaone"):
        raise UnsupportedModelError(
            f"{name}: without sliding-window layers, no layer rotates its keys, which is not verified; {USE_ANOTHER}."
        )
    if not getattr(text, "num_attention_heads", None):
        raise UnsupportedModelError(
            f"{name}: a recurrent network without attention has no keys and values to cache; {USE_ANOTHER}."
        )


def _check_positions(config: PreTrainedConfig, family: Family) -> None:
    """Refuse positions that are not one rotation for all of a block's keys in a layer."""
    name, rope = config.model_type, getattr(_text(config), "rope_parameters", None)
    if not rope or getattr(_text(config), "alibi", False):
        raise UnsupportedModelError(
            f"{name}: its configuration names no rotary positions (rope_parameters); keys with positions of another "
            f"kind, such as absolute ones or ALiBi, cannot be moved; {USE_ANOTHER}."
        )
    kinds = {"": rope} if "rope_type" in rope else {kind: own for kind, own in rope.items() if own}
    if "" not in kinds and not (family.local_rope and kinds.keys() <= {"full_attention", "sliding_attention"}):
        raise UnsupportedModelError(
            f"{name}: rotary positions differ from layer to layer ({', '.join(rope)}), which is not verified for this "
            "family; use a model that has one kind."
        )
    for own in kinds.values():
        if own["rope_type"] not in ROPE_TYPES:
            raise UnsupportedModelError(
                f"{name}: rotary positions of type {own['rope_type']!r}; cached keys can be moved only where angles "
                f"are positions times frequencies: use a model of type {', '.join(ROPE_TYPES)}."
            )
        if own.get("llama_4_scaling_beta"):
            raise UnsupportedModelError(
                f"{name}: queries are scaled by their position in the prompt, so that a block depends on its place; "
                f"{USE_ANOTHER}."
            )
        factor = own.get("partial_rotary_factor", 1.0)
        if factor != 1.0 and not family.partial:
            raise UnsupportedModelError(
                f"{name}: partial rotary positions (factor {factor}) are not verified for this family; expected 1.0."
            )


def _having(feature: str) -> str:
    return ", ".join(name for name, family in FAMILIES.items() if getattr(family, feature))


def _text(config: PreTrainedConfig) -> Any:
    """The part of a configuration that describes the language model; of most models the whole."""
    return config.get_text_config(decoder=True)


def _number(config: Any, attribute: str) -> int:
    value = getattr(config, attribute, None)
    return value if isinstance(value, int) else 0
