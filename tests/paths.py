"""Encode, assemble and prefill in one call, to compare with the reference."""

from collections.abc import Sequence

import torch

from blockrag.attention.assemble import assemble
from blockrag.attention.encode import encode_blocks, encode_prefix
from blockrag.kv.block_kv import BlockKV
from blockrag.models.answer_model import AnswerModel


def encode_all(model: AnswerModel, blocks: Sequence[Sequence[int]], prefix: BlockKV | None = None) -> list[BlockKV]:
    """KV of the blocks, in order."""
    return [e.kv for e in sorted(encode_blocks(model, blocks, prefix), key=lambda e: e.number)]


def cached_logits(
    model: AnswerModel, prefix: Sequence[int], blocks: Sequence[Sequence[int]], final: Sequence[int]
) -> torch.Tensor:
    """Logits of the final block by encode, assemble and prefill, shape ``(len(final), vocab_size)``."""
    prefix_kv = [encode_prefix(model, prefix)] if prefix else []
    return logits_over(model, prefix_kv + encode_all(model, blocks, *prefix_kv), final)


@torch.inference_mode()
def logits_over(model: AnswerModel, parts: Sequence[BlockKV], final: Sequence[int]) -> torch.Tensor:
    """`cached_logits` over encoded parts."""
    start = sum(part.n_tokens for part in parts)
    cache = assemble(parts, model.rope, model.kv_storage(start + len(final)))
    output = model.network(
        input_ids=torch.tensor([list(final)], device=model.device),
        position_ids=torch.arange(start, start + len(final), device=model.device)[None],
        past_key_values=cache,
        use_cache=True,
    )
    return output.logits[0]
