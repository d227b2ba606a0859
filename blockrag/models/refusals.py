"""What block attention cannot do, whatever the family: found in a configuration, refused by name.

Each check says what it found and what is expected. They read configurations as `transformers` builds them, where many
attributes exist only for some families.
"""

from typing import Any

from transformers import PreTrainedConfig

from blockrag.attention.rope import STATIC_ROPE_TYPES
from blockrag.errors import UnsupportedModelError

USE_ANOTHER = "use a model whose layers all have full attention and rotary positions"

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""What configurations call the number of experts."""


def check_layers(config: PreTrainedConfig) -> None:
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


def check_positions(config: PreTrainedConfig, *, partial: bool) -> None:
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
