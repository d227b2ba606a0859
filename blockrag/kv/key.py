"""Identity of a block KV: a hash of everything that determines it (rule 6)."""

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from blockrag.prompt import Prompt

if TYPE_CHECKING:
    from blockrag.models.answer_model import AnswerModel

FORMAT_VERSION = 3
"""Raised whenever the same inputs would give another block KV, or another file."""


@dataclass(frozen=True)
class KVIdentity:
    """Everything but the block's own tokens.

    Attributes
    ----------
    weights : str
        Hash of the base model's weights and configuration.
    format : str
        Hash of sinks and prefix visibility, and of the adapter they belong to.
    prefix : tuple of int
        Token ids of the prefix where blocks see it, else empty.
    dtype : str
        Such as ``"float32"``.
    version : int
        `FORMAT_VERSION` of the code that made it.
    salt : str
        Parts tenants: with different ones, none finds KV of another, or can tell by the time whether it exists.
    """

    weights: str
    format: str
    prefix: tuple[int, ...]
    dtype: str
    version: int = FORMAT_VERSION
    salt: str = ""

    @property
    def digest(self) -> str:
        """Hash of the whole identity, 64 hexadecimal digits."""
        parts = asdict(self)
        if not self.salt:
            del parts["salt"]  # identities without one are those of earlier versions
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def key(self, token_ids: Sequence[int]) -> str:
        """Key of the block with these tokens (without sinks), 64 hexadecimal digits."""
        tokens = struct.pack(f"<{len(token_ids)}q", *token_ids)
        return hashlib.sha256(bytes.fromhex(self.digest) + tokens).hexdigest()


def kv_identity(model: "AnswerModel", salt: str = "") -> KVIdentity:
    """Identity of the block KVs that `model` makes with its prompt, for one tenant."""
    prefix = Prompt(model.tokenizer).prefix_ids if model.format.prefix_visible else ()
    dtype = str(model.dtype).removeprefix("torch.")
    return KVIdentity(model.weights_id, model.format.digest, prefix, dtype, salt=salt)
