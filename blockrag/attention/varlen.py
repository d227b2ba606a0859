"""Encodes concatenated blocks of any length in one pass without padding; no block sees another.

Variable-length attention (FlashAttention-2, arXiv 2307.08691) computes only each block's own triangle. A pack always
has the same number of tokens, so that matrix products have the same shape whatever the neighbours are (rule 4); free
room is filled up.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from blockrag.attention.gqa import UNMASKED
from blockrag.attention.kv_cache import PreallocatedCache
from blockrag.kv.block_kv import BlockKV
from blockrag.models.answer_model import AnswerModel

PACK_TOKENS = 4096
"""Tokens of a pack; larger packs are no faster. A longer block gets a pack of the next power of two."""


def has_packs(model: AnswerModel) -> bool:
    """Whether blocks of this model can be packed: on CUDA in 16 bits, for which there is variable-length attention; of
    dense layers with plain attention."""
    is_plain = model.has_plain_attention and not model.has_experts
    return is_plain and model.device.type == "cuda" and model.dtype.itemsize == 2 and model.head_dim in range(8, 257, 8)


def pack(lengths: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Indices of the blocks of each pack, in order, and the pack's tokens."""
    numbers: list[int] = []
    free = PACK_TOKENS
    for number, length in enumerate(lengths):
        if length > PACK_TOKENS:
            yield [number], 1 << (length - 1).bit_length()
            continue
        if length > free:
            yield numbers, PACK_TOKENS
            numbers, free = [], PACK_TOKENS
        numbers.append(number)
        free -= length
    if numbers:
        yield numbers, PACK_TOKENS


@torch.inference_mode()
def encode_pack(
    model: AnswerModel,
    parts: Sequence[Sequence[int]],
    sinks: torch.Tensor,
    prefix: BlockKV | None,
    n_tokens: int,
) -> list[BlockKV]:
    """KV of the blocks of one pack.

    Parameters
    ----------
    model : AnswerModel
    parts : sequence of token id sequences
        Without sinks; together with them at most `n_tokens`.
    sinks : torch.Tensor
        Shape ``(n_sinks, hidden_size)``; they precede every block.
    prefix : BlockKV, optional
        Where blocks see it.
    n_tokens : int
        Tokens of the pack.
    """
    from blockrag.attention.cuda.fused import fused  # noqa: PLC0415  (Triton, where there is a GPU)

    first = 0 if prefix is None else prefix.n_tokens
    lengths = [len(sinks) + len(part) for part in parts]
    n_free = n_tokens - sum(lengths)
    spans = [*lengths, n_free] if n_free else lengths
    flat = torch.tensor([token for part in parts for token in part] + [0] * n_free, device=model.device)
    rows = [row for part in model.embed(flat).split([len(part) for part in parts] + [n_free]) for row in (sinks, part)]
    embeddings = torch.cat(rows[:-2] + rows[-1:])[None]
    positions = torch.cat([torch.arange(first, first + n) for n in spans]).to(model.device)
    storage = model.kv_storage(n_tokens)
    with fused(model.network):
        model.network(
            inputs_embeds=embeddings,
            position_ids=positions[None],
            attention_mask=UNMASKED,
            past_key_values=PreallocatedCache(storage),
            use_cache=True,
            logits_to_keep=1,
            attend=_VarlenAttention(spans, prefix, n_tokens, model.device),
        )
    pieces = storage[:, :, 0].split(spans, dim=-2)[: len(parts)]
    return [BlockKV.cut(piece, first) for piece in pieces]


class _VarlenAttention:
    """Causal attention within each span of a pack, over the prefix where there is one."""

    def __init__(self, spans: Sequence[int], prefix: BlockKV | None, longest: int, device: torch.device):
        self._prefix, self._longest = prefix, longest
        self._n_prefix = 0 if prefix is None else prefix.n_tokens
        self._ends = _ends(spans).to(device)
        self._key_ends = _ends([self._n_prefix + n for n in spans]).to(device)
        self._key_rows = _key_rows(spans, self._n_prefix).to(device)

    def __call__(self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> Any:
        q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))  # (tokens, heads, head_dim)
        if self._prefix is not None:
            k, v = (
                torch.cat([before[module.layer_idx].transpose(0, 1), own])[self._key_rows]
                for before, own in ((self._prefix.keys, k), (self._prefix.values, v))
            )
        output, *_ = torch.ops.aten._flash_attention_forward(
            q, k, v, self._ends, self._key_ends, self._longest, self._longest + self._n_prefix, 0.0, True, False,
            scale=scaling,
        )  # fmt: skip
        return output[None]


def _ends(lengths: Sequence[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def _key_rows(spans: Sequence[int], n_prefix: int) -> torch.Tensor:
    """For each span, the rows of [prefix, pack] that are its keys: the prefix's, then its own."""
    rows, start = [], n_prefix
    for n in spans:
        rows += [torch.arange(n_prefix), torch.arange(start, start + n)]
        start += n
    return torch.cat(rows)
