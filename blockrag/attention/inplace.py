"""Attention of a question over blocks in place, on a CPU.

No key is moved and nothing is copied. Keys keep their local positions; the queries are rotated back by the block's
offset instead, q R(offset) k = (R(-offset) q) k, and the results over the blocks are combined by the logarithms of
their weights (FlashAttention-2, arXiv 2307.08691, section 3.1). With many queries or short blocks, joining the blocks
costs less (`pays`).
"""

from collections.abc import Sequence
from typing import Any

import torch

from blockrag.attention.gqa import flash
from blockrag.attention.rope import Rope
from blockrag.kv.block_kv import BlockKV


def pays(parts: Sequence[BlockKV], n_rows: int) -> bool:
    """Whether this is faster than joining `parts`, for `n_rows` queries over each key/value head.

    Rotating the queries and combining the results happen once a block, and cost about as much as moving as many keys.
    """
    return sum(part.n_tokens for part in parts) >= n_rows * len(parts) > 0


class InPlace:
    """An `attend` function for a network's pass, used with a cache that returns the newest tokens alone.

    Parameters
    ----------
    parts : sequence of BlockKV
        Prefix first, then the blocks, in prompt order; on a CPU. They are read, never written (rule 5), each layer
        once it is loaded.
    rope : Rope
    """

    def __init__(self, parts: Sequence[BlockKV], rope: Rope):
        self._parts, self._rope = parts, rope
        ends = torch.tensor([part.n_tokens for part in parts]).cumsum(0)
        starts = [end - part.n_tokens for end, part in zip(ends.tolist(), parts, strict=True)]
        offsets = torch.tensor([start - part.first_position for start, part in zip(starts, parts, strict=True)])
        angles = -offsets[:, None, None, None] * rope.inv_freq
        self._rotations = angles.cos().float(), angles.sin().float()  # (parts, 1, 1, rotary_dim / 2)

    def __call__(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Attention over all parts and, causally, over the newest tokens' own `key` and `value`; shapes as in
        `grouped_attention`, for batches of one."""
        _, heads, n_queries, head_dim = query.shape
        kv_heads = key.shape[1]
        group, layer = heads // kv_heads, module.layer_idx
        own_key, own_value = (t.repeat_interleave(group, 1) for t in (key, value))
        own, own_weight = flash(query, own_key, own_value, is_causal=True, scale=scaling)
        rows = 1, kv_heads, group * n_queries
        results, weights = [own.reshape(*rows, head_dim)], [own_weight.reshape(rows)]
        for part, rotated in zip(self._parts, self._rotated(query, layer), strict=True):
            part.await_layer(layer)
            past = part.keys[layer][None], part.values[layer][None]
            result, weight = flash(rotated.reshape(*rows, head_dim), *past, scale=scaling)
            results.append(result)
            weights.append(weight)
        return _merge(results, weights).to(query.dtype).reshape(query.shape).transpose(1, 2)

    def _rotated(self, query: torch.Tensor, layer: int) -> torch.Tensor:
        """The queries rotated for each part, shape ``(parts, heads, n_queries, head_dim)``."""
        if not self._rope.rotates(layer):
            return query.expand(len(self._parts), -1, -1, -1)
        rotated = query.new_empty(len(self._parts), *query.shape[1:])
        self._rope.rotate(query, self._rotations, out=rotated)
        return rotated


def _merge(results: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Combine results ``(..., rows, head_dim)`` by the logarithms of their weights ``(..., rows)``, in float32."""
    shares = torch.stack(list(weights)).softmax(0)[..., None]
    merged = results[0] * shares[0]
    for result, share in zip(results[1:], shares[1:], strict=True):
        merged.addcmul_(result, share)
    return merged
