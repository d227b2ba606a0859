"""What a request to vLLM asks for: which parts of its prompt have block KV, under which keys, and the salt of its
prefix cache.

Requests carry ``kv_transfer_params={"blockrag": {...}}``, with lengths in tokens:

- ``{"v": 1, "prefix": n, "blocks": [n, n, ...]}``: the prompt starts with a prefix and blocks, each behind its sinks.
  Their KV is loaded; the rest of the prompt is computed.
- ``{"v": 1, "prefix": n, "encode": true}``: the tokens behind the prefix are one block, or there are none and the
  prefix itself is meant. vLLM computes the prompt, and the KV of the block or prefix is saved.

Keys are computed from the prompt's own tokens. Nothing in a request names a file.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from blockrag import arguments
from blockrag.attention.format import BLOCK_FORMAT, PLAIN
from blockrag.errors import ArgumentError, WeightsError
from blockrag.kv.key import KVIdentity

PARAMETER = "blockrag"
VERSION = 1
MADE_BY_VLLM = "-vllm"
"""Follows the weights in the identity of KV that vLLM encoded, which is not isolated to the bit as our engine's is."""


@dataclass(frozen=True)
class Name:
    """Where a block KV may be found: the digest of its identity, and its key."""

    identity: str
    key: str


@dataclass(frozen=True)
class Part:
    """Tokens ``[start, start + n_tokens)`` of a prompt that have one block KV, sinks included.

    Attributes
    ----------
    start, n_tokens : int
    first_position : int
        Position of its first token when it was encoded.
    names : tuple of Name
        The first that is found is used.
    """

    start: int
    n_tokens: int
    first_position: int
    names: tuple[Name, ...]


@dataclass(frozen=True)
class Plan:
    """What the connector does for a request.

    Attributes
    ----------
    mode : "block" or "encode"
        As the response reports it.
    load : tuple of Part
        Tile the prompt up to `end`; empty if nothing is loaded.
    end : int
        First token of the prompt that vLLM computes.
    save : Part or None
        Saved once the prompt is computed.
    salt : str or None
        Salt of the prefix cache; None keeps the caller's own.
    """

    mode: Literal["block", "encode"]
    load: tuple[Part, ...] = ()
    end: int = 0
    save: Part | None = None
    salt: str | None = None


@dataclass(frozen=True)
class ServedModel:
    """The network that answers a request, as far as it determines block KV.

    Attributes
    ----------
    weights : str
        Hash of the base model; see `blockrag.models.store.weights_sha256`.
    dtype : str
        Such as ``"float32"``.
    format_digest : str
        `BlockFormat.digest` of the adapter.
    sink_ids : tuple of int
        Literal tokens before every block.
    prefix_visible : bool
        Whether blocks see the prefix.
    tenant : str
        See `KVIdentity.salt`.
    """

    weights: str
    dtype: str
    format_digest: str = PLAIN.digest
    sink_ids: tuple[int, ...] = ()
    prefix_visible: bool = False
    tenant: str = ""

    def block(self, token_ids: Sequence[int], prefix_ids: Sequence[int], start: int) -> Part:
        """The block ``token_ids`` (sinks included) that stands at `start`.

        Raises
        ------
        ArgumentError
            If it does not begin with the sinks, or has no other token.
        """
        n_sinks = len(self.sink_ids)
        if tuple(token_ids[:n_sinks]) != self.sink_ids or len(token_ids) == n_sinks:
            raise ArgumentError(
                f"the block at token {start} begins with {list(token_ids[: n_sinks + 1])}; expected the sinks "
                f"{list(self.sink_ids)}, then the block's own tokens"
            )
        seen = tuple(prefix_ids) if self.prefix_visible else ()
        makers = (self.weights, self.weights + MADE_BY_VLLM)
        names = (self._name(weights, self.format_digest, seen, token_ids[n_sinks:]) for weights in makers)
        return Part(start, len(token_ids), len(seen), tuple(names))

    def prefix(self, token_ids: Sequence[int]) -> Part:
        """The prefix with these tokens, which our own engine does not keep in its store."""
        name = self._name(self.weights + MADE_BY_VLLM, f"{self.format_digest}-prefix", (), token_ids)
        return Part(0, len(token_ids), 0, (name,))

    def _name(self, weights: str, block_format: str, seen: tuple[int, ...], token_ids: Sequence[int]) -> Name:
        identity = KVIdentity(weights, block_format, seen, self.dtype, salt=self.tenant)
        return Name(identity.digest, identity.key(token_ids))


def served_model(weights: str, dtype: str, folder: Path, *, is_adapter: bool) -> ServedModel:
    """The served model of a checkpoint's or a LoRA's folder, whose file `BLOCK_FORMAT` describes its blocks.

    A checkpoint without that file reads plain blocks.

    Raises
    ------
    WeightsError
        If the file is damaged, or a LoRA has none.
    """
    path = folder / BLOCK_FORMAT
    if not path.exists() and not is_adapter:
        return ServedModel(weights, dtype)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        sinks = tuple(arguments.whole("sinks", token, 0) for token in told["sinks"])
        return ServedModel(weights, dtype, str(told["digest"]), sinks, bool(told["prefix_visible"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{folder} has no {BLOCK_FORMAT} that can be read ({error}): it was not written for block mode. Write it "
            "with export_peft or merge, in block mode."
        ) from error


def make_plan(
    params: Any, token_ids: Sequence[int], model: ServedModel, salt: str | None, is_stored: Callable[[Part], bool]
) -> Plan:
    """The plan of a request.

    Parameters
    ----------
    params : Any
        What the request gives under `PARAMETER`; checked here.
    token_ids : sequence of int
        Of the whole prompt.
    model : ServedModel
    salt : str or None
        The caller's own salt, which parts tenants in the store as it does in the prefix cache.
    is_stored : callable
        Whether a part need not be encoded.

    Raises
    ------
    ArgumentError
        If the request cannot be answered in block mode.
    """
    if not isinstance(params, dict) or params.get("v") != VERSION:
        raise ArgumentError(f"{PARAMETER} is {params!r}; expected an object with v={VERSION}")
    model = replace(model, tenant=salt or "")
    others = params.keys() - {"v", "prefix", "blocks", "encode"}
    if others or ("blocks" in params) == ("encode" in params):
        raise ArgumentError(f"{PARAMETER} has {', '.join(params)}; expected v, prefix, and either blocks or encode")
    n_prefix = arguments.whole("prefix", params.get("prefix", 0), 0, len(token_ids))
    if "encode" in params:
        if params["encode"] is not True:
            raise ArgumentError(f"encode is {params['encode']!r}; expected true")
        return _encode(token_ids, n_prefix, model, salt, is_stored)
    return _answer(token_ids, n_prefix, params["blocks"], model, salt)


def _answer(token_ids: Sequence[int], n_prefix: int, blocks: Any, model: ServedModel, salt: str | None) -> Plan:
    if not isinstance(blocks, list) or not blocks:
        raise ArgumentError(f"blocks is {blocks!r}; expected a list of lengths")
    _check_prefix(n_prefix, model)
    prefix_ids = token_ids[:n_prefix]
    parts = [model.prefix(prefix_ids)] if n_prefix else []
    end = n_prefix
    for length in blocks:
        start, end = end, end + arguments.whole("a length in blocks", length, 1, len(token_ids))
        if end >= len(token_ids):
            raise ArgumentError(
                f"prefix and blocks have {end} tokens or more, the prompt has {len(token_ids)}; at least one token "
                "must follow the blocks"
            )
        parts.append(model.block(token_ids[start:end], prefix_ids, start))
    return Plan("block", tuple(parts), end, salt=_salt("answer", model, [n_prefix, *blocks], salt))


def _encode(
    token_ids: Sequence[int], n_prefix: int, model: ServedModel, salt: str | None, is_stored: Callable[[Part], bool]
) -> Plan:
    """Compute a block behind the prefix that it sees. Where both are stored already, they are loaded, so that hardly
    anything is computed."""
    prefix_ids, is_prefix = token_ids[:n_prefix], n_prefix == len(token_ids)
    if is_prefix:
        part = model.prefix(prefix_ids)
    else:
        _check_prefix(n_prefix, model)
        if n_prefix and not model.prefix_visible:
            raise ArgumentError(f"prefix is {n_prefix}, but blocks of this model do not see it; encode them alone")
        part = model.block(token_ids[n_prefix:], prefix_ids, n_prefix)
    parts = (part,) if is_prefix or not n_prefix else (model.prefix(prefix_ids), part)
    if len(token_ids) == 1 or not all(is_stored(each) for each in parts):
        return Plan("encode", save=part)
    return Plan("encode", parts, len(token_ids) - 1, salt=_salt("encode", model, [n_prefix], salt))


def _check_prefix(n_prefix: int, model: ServedModel) -> None:
    if model.prefix_visible and not n_prefix:
        raise ArgumentError("prefix is 0, but blocks of this model see the prefix; put it before them")


def _salt(purpose: str, model: ServedModel, spans: list[int], salt: str | None) -> str:
    """Pages of block mode depend on the spans, so that they are cached for these very spans."""
    told = [purpose, model.weights, model.dtype, model.format_digest, model.prefix_visible, spans, salt]
    return f"{PARAMETER}:{hashlib.sha256(json.dumps(told).encode()).hexdigest()}"
