"""Answers from blocks whose KV is computed once: ``model.generate(..., custom_generate=THIS_FOLDER, blocks=[...])``."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from blockrag.attention.assemble import assemble
from blockrag.attention.encode import encode_blocks, encode_prefix
from blockrag.attention.format import BlockFormat
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.key import kv_identity
from blockrag.kv.memory import MemoryTier
from blockrag.models.answer_model import AnswerModel

KV_BYTES = 2 << 30
"""Block KV kept in memory for each network; the least recently used is dropped."""


def generate(
    model: PreTrainedModel,
    inputs: torch.Tensor | None = None,
    blocks: Sequence[Sequence[int]] = (),
    prefix: Sequence[int] = (),
    sinks: Sequence[int] = (),
    **settings: Any,
) -> Any:
    """Generate after a prefix and blocks, each of which was computed alone; a block's KV is reused from call to call.

    Parameters
    ----------
    model : PreTrainedModel
        Of a family that BlockRAG supports. Its rotary angles are computed in float64 from the first call on.
    inputs : torch.Tensor
        Token ids of the final block, the question and the answer's header, shape ``(1, tokens)``; also as `input_ids`.
    blocks : sequence of token id sequences
        Without special tokens.
    prefix : sequence of int
        Token ids before the blocks, such as the chat template's beginning.
    sinks : sequence of int
        Token ids put before every block, if the model was trained with such.
    **settings
        Everything else that `generate` takes: a generation config, sampling, a streamer, stopping criteria.

    Returns
    -------
    torch.Tensor or ModelOutput
        As from `generate` with `inputs` alone: the final block, then the answer.

    Raises
    ------
    ValueError
        If `inputs` are several sequences or padded, or all of it is longer than the model's context.
    UnsupportedModelError
        If blocks of this model cannot be cached exactly.
    """
    given = settings.pop("input_ids", None)
    final = given if inputs is None else inputs
    mask = settings.pop("attention_mask", None)
    if final is None or final.dim() != 2 or len(final) != 1 or (mask is not None and not mask.all()):
        raise ValueError("inputs are token ids of one sequence without padding, shape (1, tokens)")
    network, kept = _prepared(model, tuple(sinks))
    cache, ids = _joined(network, _parts(network, kept, prefix, blocks), prefix, [[*sinks, *block] for block in blocks])
    if ids.shape[1] + final.shape[1] >= network.max_tokens:
        raise ValueError(f"{ids.shape[1] + final.shape[1]} tokens; the model's context has {network.max_tokens}")
    whole = torch.cat([ids.to(final), final], dim=1)
    output = model.generate(whole, attention_mask=torch.ones_like(whole), past_key_values=cache, **settings)
    if isinstance(output, torch.Tensor):
        return output[:, ids.shape[1] :]
    output.sequences = output.sequences[:, ids.shape[1] :]
    return output


def _prepared(model: PreTrainedModel, sinks: tuple[int, ...]) -> tuple[AnswerModel, MemoryTier]:
    """The network as BlockRAG sees it, with its KV; made anew when weights or adapters have changed."""
    state = [str((p.data_ptr(), p._version)) for p in model.parameters()]
    state += [str((module.active_adapters, module.disable_adapters)) for module in model.modules() if _is_tuned(module)]
    weights_id = hashlib.sha256(repr((state, model.dtype)).encode()).hexdigest()
    made = model.__dict__.setdefault("_block_generate", {})  # freed with the network
    key = f"{weights_id} {sinks}"
    if key not in made:
        made.clear()
        network = AnswerModel(model, None, weights_id, BlockFormat(sink_ids=sinks))
        made[key] = network, MemoryTier(KV_BYTES, model.device)
    return made[key]


def _is_tuned(module: torch.nn.Module) -> bool:
    return hasattr(module, "active_adapters") and hasattr(module, "disable_adapters") and hasattr(module, "base_layer")


def _parts(
    network: AnswerModel, kept: MemoryTier, prefix: Sequence[int], blocks: Sequence[Sequence[int]]
) -> list[BlockKV]:
    """KV of the prefix and the blocks; what is not kept is encoded."""
    keys = [kv_identity(network).key(block) for block in blocks]
    found = {key: kv for key in keys if (kv := kept.get(key)) is not None}
    missing = {key: block for key, block in zip(keys, blocks, strict=True) if key not in found}
    for encoded in encode_blocks(network, list(missing.values())):
        key = list(missing)[encoded.number]
        found[key] = encoded.kv
        kept.put(key, encoded.kv)
    before = [encode_prefix(network, prefix)] if prefix else []
    return [*before, *(found[key] for key in keys)]


def _joined(
    network: AnswerModel, parts: Sequence[BlockKV], prefix: Sequence[int], blocks: Sequence[Sequence[int]]
) -> tuple[DynamicCache, torch.Tensor]:
    """The parts as a cache of `transformers`, and their token ids ``(1, tokens)``."""
    ids = torch.tensor([[*prefix, *(token for block in blocks for token in block)]], dtype=torch.long)
    cache = DynamicCache(config=network.network.config)
    if parts:
        joined = assemble(parts, network.rope, network.kv_storage(ids.shape[1]))
        for number, layer in enumerate(joined.layers):
            cache.update(*layer.joined(), number)
    return cache, ids
