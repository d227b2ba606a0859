"""Attention of a question over blocks where they lie, on a CPU. Knows tensors and places, not texts.

No key is moved and nothing is copied: the queries are turned back by a block's offset before they meet its keys, which
keep their local positions, q R(offset) k = (R(-offset) q) k, and the results over the blocks are joined by the
logarithms of their weights (FlashAttention-2, arXiv 2307.08691, section 3.1). Of queries there are few; where they are
many, or the blocks short, joining costs less (`pays`).
"""

from collections.abc import Sequence
from typing import Any

import torch

from blockrag.attention.gqa import flash
from blockrag.attention.rope import Rope
from blockrag.kv.block_kv import BlockKV


def pays(parts: Sequence[BlockKV], n_rows: int) -> bool:
    """Whether this is faster than joining `parts`, for `n_rows` queries over each key/value head.

    Turning the queries and joining the results are done once a block, and cost about what moving as many keys does.
    """
    return sum(part.n_tokens for part in parts) >= n_rows * len(parts) > 0


class InPlace:
    """What a network is run with as `attend`, and a cache that hands out the newest tokens alone.

    Parameters
    ----------
    parts : sequence of BlockKV
        Prefix first, then the blocks, in prompt order; on a CPU. They are read, never written (rule 5), each layer
        once it is there.
    rope : Rope
    """

    def __init__(self, parts: Sequence[BlockKV], rope: Rope):
        self._parts, self._rope = parts, rope
        ends = torch.tensor([part.n_tokens for part in parts]).cumsum(0)
        places = [end - part.n_tokens for end, part in zip(ends.tolist(), parts, strict=True)]
        offsets = torch.tensor([place - part.first_position for place, part in zip(places, parts, strict=True)])
        angles = -offsets[:, None, None, None] * rope.inv_freq
        self._turns = angles.cos().float(), angles.sin().float()  # (parts, 1, 1, rotary_dim / 2)

    def __call__(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Attention over all parts and, causally, over the newest tokens' own `key` and `value`; shapes as in
        `packed_attention`, for batches of one."""
        _, heads, n_queries, head_dim = query.shape
        kv_heads = key.shape[1]
        group, layer = heads // kv_heads, module.layer_idx
        own_key, own_value = (t.repeat_interleave(group, 1) for t in (key, value))
        own, own_weight = flash(query, own_key, own_value, is_causal=True, scale=scaling)
        rows = 1, kv_heads, group * n_queries
        results, weights = [own.reshape(*rows, head_dim)], [own_weight.reshape(rows)]
        for part, turned in zip(self._parts, self._turned(query, layer), strict=True):
            part.await_layer(layer)
            past = part.keys[layer][None], part.values[layer][None]
            result, weight = flash(turned.reshape(*rows, head_dim), *past, scale=scaling)
            results.append(result)
            weights.append(weight)
        return _merge(results, weights).reshape(query.shape).transpose(1, 2)

    def _turned(self, query: torch.Tensor, layer: int) -> torch.Tensor:
        """The queries as each part is to meet them, shape ``(parts, heads, n_queries, head_dim)``."""
        if not self._rope.rotates(layer):
            return query.expand(len(self._parts), -1, -1, -1)
        turned = query.new_empty(len(self._parts), *query.shape[1:])
        self._rope.rotate(query, self._turns, out=turned)
        return turned


def _merge(results: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """One result of several ``(..., rows, head_dim)``, each with the logarithms of its weights ``(..., rows)``."""
    shares = torch.stack(list(weights)).softmax(0)[..., None]
    merged = results[0] * shares[0]
    for result, share in zip(results[1:], shares[1:], strict=True):
        merged.addcmul_(result, share)
    return merged
