"""Which model families are verified for block attention, and what each does in its own way. Knows configurations only.

To add a family: enter its `model_type` here and its tiny settings in `tests/tiny.py`; it is in once the exactness tests
pass. What no family may have is in `blockrag.models.refusals`.
"""

from dataclasses import dataclass

from transformers import PreTrainedConfig

from blockrag.errors import UnsupportedModelError
from blockrag.models.refusals import check_layers, check_positions


@dataclass(frozen=True)
class Family:
    """What a family does differently from Llama.

    Attributes
    ----------
    partial : bool
        Whether models that rotate only the first components of a head are verified.
    interleaved : bool
        Whether components 2 i and 2 i + 1 of a head turn together.
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
    """The family's row, or Llama's ways where it has none."""
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
        Accept a `model_type` outside `FAMILIES`. Layers and positions that cannot work are refused still.

    Raises
    ------
    UnsupportedModelError
        Naming what was found, what is expected and what to do.
    """
    check_layers(config)
    check_positions(config, partial=family_of(config).partial)
    if config.model_type not in FAMILIES and not allow_unverified:
        raise UnsupportedModelError(
            f"model family {config.model_type!r} is not verified for block attention; verified are "
            f"{', '.join(FAMILIES)}. Pass --allow-unverified (allow_unverified=True) to try it all the same."
        )
