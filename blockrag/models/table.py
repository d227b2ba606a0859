"""Every kind of causal language model that `transformers` knows: verified, unverified or refused, and why."""

import re
from dataclasses import dataclass
from typing import Literal

import transformers
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from blockrag.errors import UnsupportedModelError
from blockrag.models.families import FAMILIES, Family, check_supported

State = Literal["verified", "unverified", "refused"]

_FEATURES = {
    "windows": "sliding windows",
    "local_rope": "rotary positions of their own for these",
    "softcap": "capped scores",
    "experts": "experts",
    "learned_sinks": "learned sinks",
    "partial": "heads rotated in part",
    "interleaved": "neighbouring components rotated",
    "rotated_layers": "layers without rotation",
    "latent": "latent attention",
}

_HEAD = """# Model families

All {n} kinds of causal language models of transformers {version}, with the settings that it gives them: {counts}.
Made by `python -m blockrag models families`.

*Verified*: the exactness tests pass, on tiny models of the real architecture. *Unverified*: nothing in the settings
speaks against it; `--allow-unverified` tries it, and the model is compared with one dense pass when it is loaded.
*Refused*: blocks cannot be cached exactly, or are not verified to be, whatever the flag.

For layers with a window, the reference is the block mask within the window, at positions of the joined prompt; only the
tokens that the window sees are joined. Models with windows, capped scores or learned sinks are computed under a mask,
on every device; kernels on a GPU and reading in place on a CPU serve full attention, and kernels dense models alone.

Each block of a mixture of experts is encoded as a batch by itself, so that other blocks move no bit of its KV. Logits
are those of the reference within 1e-4 in float32 as long as every token is routed to the same experts: where the
router's scores for two experts differ by less than the rounding of the layers before, another expert may be taken, as
between any two batch sizes of the same model.

Of layers with latent attention (MLA), block KV holds what the network caches: each token's latent, and the rotated part
of its key, which all heads share and which alone is moved: 1,152 bytes a token in a layer of DeepSeek-V3, in 16 bits.
They are computed under a mask, on every device.

`longrope` and `dynamic` rotary positions take the frequencies for the model's whole context
(`max_position_embeddings`), whatever the length of a prompt, in block mode and in full mode; KV could not be reused
otherwise.

| `model_type` | State | Why, or what is verified beyond Llama's layers |
| --- | --- | --- |
"""


@dataclass(frozen=True)
class FamilyRow:
    """What becomes of models of one `model_type` with the settings that `transformers` gives them.

    Attributes
    ----------
    state : str
        ``unverified`` families are tried with ``--allow-unverified``.
    why : str
        What is verified beyond Llama's layers, or why it is refused.
    """

    model_type: str
    state: State
    why: str = ""


def family_rows() -> list[FamilyRow]:
    """A row for each `model_type` that has a causal language model, in alphabetical order."""
    return [_row(model_type) for model_type in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)]


def markdown() -> str:
    """The rows as a page of the documentation."""
    rows = family_rows()
    counts = ", ".join(
        f"{sum(row.state == state for row in rows)} {state}" for state in ("verified", "unverified", "refused")
    )
    lines = [f"| `{row.model_type}` | {row.state} | {row.why} |" for row in rows]
    return _HEAD.format(n=len(rows), version=transformers.__version__, counts=counts) + "\n".join(lines) + "\n"


def _row(model_type: str) -> FamilyRow:
    if model_type in FAMILIES:
        return FamilyRow(model_type, "verified", _beyond(FAMILIES[model_type]))
    try:
        check_supported(AutoConfig.for_model(model_type), allow_unverified=True)
    except UnsupportedModelError as error:
        reason = str(error).removeprefix(f"{model_type}: ").partition("; use ")[0].partition(": use ")[0]
        return FamilyRow(model_type, "refused", re.sub(r"\s+", " ", reason).rstrip("."))
    except Exception as error:  # of any kind, since each family checks its settings in its own way; told in the row
        reason = f"its settings cannot be made without a checkpoint ({type(error).__name__})"
        return FamilyRow(model_type, "refused", reason)
    return FamilyRow(model_type, "unverified")


def _beyond(family: Family) -> str:
    return ", ".join(text for name, text in _FEATURES.items() if getattr(family, name))
