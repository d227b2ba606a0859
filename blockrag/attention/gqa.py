"""Grouped-query attention without repeating keys and values.

Where a mask is needed, `transformers` repeats keys and values for each query head of a group, which for a short
question over a long context copies the context several times a layer. Here the query heads of a group are concatenated
as if they were more tokens, and share the keys as they are. Same sums, same results.

A caller of the network may pass its own attention for one pass, as the keyword argument `attend`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from blockrag.errors import UnsupportedModelError

NAME = "blockrag_gqa"
"""Value of a network's `attn_implementation`."""

Attend = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""(attention module, query, key, value, scaling) -> output ``(batch, queries, heads, head_dim)``."""

QUERIES_AT_ONCE = 256
"""Queries whose scores are held in memory together, where attention needs them."""

UNMASKED = torch.zeros(1, 1, 1, 1)
"""Passed as the mask where `attend` needs none, so that `transformers` builds none."""


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    attend: Attend | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of `query` ``(batch, heads, queries, head_dim)`` over `key` and `value` ``(batch, kv_heads, keys,
    head_dim)``.

    `attention_mask` is ``(batch, 1, queries, keys)``, or None for a plain causal or single-token pass, for which
    `transformers` repeats nothing. `softcap` bounds the scores (Gemma 2, arXiv 2408.00118); `s_aux` is a learned sink
    for each head, which takes part of the weight and has no value (gpt-oss). Returns
    ``(batch, queries, heads, head_dim)``.
    """
    if attend is not None:
        window = kwargs.get("sliding_window")
        if softcap or s_aux is not None or (window and key.shape[2] >= window):
            raise UnsupportedModelError(
                f"{type(module).__name__} has a window, capped scores or learned sinks, which are computed under a "
                "mask alone; adapters for such models cannot be trained here yet."
            )
        return attend(module, query, key, value, scaling or query.shape[-1] ** -0.5), None
    if softcap or s_aux is not None:
        return _scored(query, key, value, attention_mask, scaling or query.shape[-1] ** -0.5, softcap, s_aux), None
    if attention_mask is None:
        return sdpa_attention_forward(module, query, key, value, None, scaling=scaling, **kwargs)
    if attention_mask.shape[-1] != key.shape[2]:
        raise UnsupportedModelError(
            f"{type(module).__name__} has a mask for {attention_mask.shape[-1]} of {key.shape[2]} keys: its layers do "
            "not pass on the keyword arguments of attention; use a model of a verified family."
        )
    batch, heads, n_queries, head_dim = query.shape
    kv_heads = key.shape[1]
    group = heads // kv_heads
    grouped = query.reshape(batch, kv_heads, group * n_queries, head_dim)
    mask = attention_mask.repeat(1, 1, group, 1)
    output = scaled_dot_product_attention(grouped, key, value, attn_mask=mask, scale=scaling)
    return output.reshape(batch, heads, n_queries, -1).transpose(
        1, 2
    ).contiguous(), None  # values may have a size of their own


def _scored(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Attention with its scores at hand, `QUERIES_AT_ONCE` queries at a time; shapes as in `grouped_attention`."""
    batch, heads, n_queries, head_dim = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, n_queries, head_dim)
    keys, values = key[:, :, None], value[:, :, None]
    if mask is None and n_queries > 1:
        mask = torch.ones(n_queries, key.shape[2], dtype=torch.bool, device=query.device).tril()[None, None]
    output = torch.empty_like(grouped)
    for start in range(0, n_queries, QUERIES_AT_ONCE):
        span = slice(start, start + QUERIES_AT_ONCE)
        scores = (grouped[:, :, :, span] @ keys.mT).float() * scaling
        if softcap:
            scores = (scores / softcap).tanh_() * softcap
        if mask is not None:
            part = mask[:, :, None, span]
            scores = scores.masked_fill(~part, -torch.inf) if part.dtype == torch.bool else scores + part
        if sinks is not None:
            column = sinks.float().reshape(1, key.shape[1], -1, 1, 1).expand(*scores.shape[:-1], 1)
            scores = torch.cat([scores, column], dim=-1)
        weights = scores.softmax(-1).to(value.dtype)
        output[:, :, :, span] = weights[..., : key.shape[2]] @ values
    return output.reshape(query.shape).transpose(1, 2).contiguous()


def attend_past_and_own(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Attention of the newest tokens on a CPU: over all before them without a mask, over themselves causally.

    The two results are combined by the logarithms of their weights (FlashAttention-2, arXiv 2307.08691, section 3.1),
    so that no mask over the whole context is built. Shapes as in `grouped_attention`; `key` and `value` hold more
    tokens than `query`.
    """
    batch, heads, n_queries, head_dim = query.shape
    group, past = heads // key.shape[1], key.shape[2] - n_queries
    grouped = query.reshape(batch, key.shape[1], group * n_queries, head_dim)
    before, weight = flash(grouped, key[:, :, :past], value[:, :, :past], scale=scaling)
    own_key, own_value = (t[:, :, past:].repeat_interleave(group, 1) for t in (key, value))
    own, own_weight = flash(query, own_key, own_value, is_causal=True, scale=scaling)
    share = torch.sigmoid(own_weight - weight.reshape(own_weight.shape))
    mixed = torch.lerp(before.reshape(query.shape).float(), own.float(), share[..., None])
    return mixed.to(query.dtype).transpose(1, 2)


flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
"""(query, key, value, is_causal=, scale=) -> result, and the logarithm of the sum of exponentials of each row."""

AttentionInterface.register(NAME, grouped_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
