"""The network: BERT over windows, then a small transformer over the candidates of a whole text.

Candidates are marked in the text and read at the marks, with both sides visible, as the segmenter of arXiv 2605.15913
does with its ``<cut i>`` marks; the second stage compares candidates across the text, as the cross-segment models do
(Lukasik et al., EMNLP 2020).
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from blockrag.segment.neural.encoding import N_CASES

N_LEVELS = 3


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network.

    Attributes
    ----------
    bert : dict
        Arguments of `BertConfig`.
    n_layers : int
        Layers of the transformer over candidates.
    window, overlap : int
        Tokens of a window, and how many it shares with the next.
    reach : int
        Most candidates that see each other.
    one_sided : bool
        Whether a candidate sees only earlier text (for the ablation).
    """

    bert: dict
    n_layers: int = 3
    window: int = 512
    overlap: int = 128
    reach: int = 1024
    one_sided: bool = False


class SegmenterNetwork(nn.Module):
    """Tokens in windows -> three logits a candidate, of its level being at most 1, 2, 3.

    Parameters
    ----------
    config : NetworkConfig
        Its sizes.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        bert = BertConfig(**config.bert)
        width, self.n_heads = bert.hidden_size, bert.num_attention_heads // 2
        self.bert = BertModel(bert, add_pooling_layer=False)
        self.cases = nn.Embedding(N_CASES, width)
        self.layers = nn.ModuleList(Layer(width, self.n_heads) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, N_LEVELS)
        nn.init.zeros_(self.cases.weight)

    def read(
        self, ids: torch.Tensor, cases: torch.Tensor, positions: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Hidden states of windows at the given positions; the last layer computes little else.

        Parameters
        ----------
        ids, cases : torch.Tensor
            int64 ``(windows, size)``; id 0 is padding.
        positions : tuple[torch.Tensor, torch.Tensor]
            int64 ``(positions,)`` each: rows and columns.

        Returns
        -------
        torch.Tensor
            ``(positions, width)``.
        """
        states = self.bert.embeddings(inputs_embeds=self.bert.embeddings.word_embeddings(ids) + self.cases(cases))
        mask = self._mask(ids)
        *layers, last = self.bert.encoder.layer
        for layer in layers:
            states = layer(states, mask)
        seen, _ = last.attention.self(states, mask)
        return last.feed_forward_chunk(last.attention.output(seen[positions], states[positions]))

    def _mask(self, ids: torch.Tensor) -> torch.Tensor | None:
        """Which tokens each token sees, bool ``(windows, 1, 1 or size, size)``; None if all."""
        seen = (ids != 0)[:, None, None, :]
        if self.config.one_sided:
            return seen & torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
        return None if bool(seen.all()) else seen

    def logits(self, states: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of candidates.

        Parameters
        ----------
        states : torch.Tensor
            ``(texts, candidates, width)``, the states at the marks, in order.
        seen : torch.Tensor, optional
            bool ``(texts, candidates)``, False for padding.

        Returns
        -------
        torch.Tensor
            float32 ``(texts, candidates, 3)``, not decreasing: a boundary of a coarse level is one of the finer levels.
        """
        rotation = _rotation(states.shape[1], states.shape[2] // self.n_heads, states)
        mask = None if seen is None else seen[:, None, None, :]
        for layer in self.layers:
            states = layer(states, rotation, mask, self.config.one_sided)
        logits = self.head(self.norm(states)).float()
        return torch.cat((logits[..., :1], logits[..., :1] + F.softplus(logits[..., 1:]).cumsum(-1)), -1)


class Layer(nn.Module):
    """One pre-norm transformer layer with rotary positions."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.norm_in, self.norm_between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(
        self, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor | None, causal: bool
    ) -> torch.Tensor:
        """``(texts, candidates, width)`` to the same."""
        q, k, v = self.qkv(self.norm_in(x)).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = _rotate(q, rotation), _rotate(k, rotation)
        if causal:
            n = x.shape[1]
            before = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
            mask = before if mask is None else mask & before
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_between(x))))


def _rotation(n: int, head_dim: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of the rotary angles of `n` positions, ``(n, head_dim / 2)`` each."""
    rates = 1000.0 ** -(torch.arange(0, head_dim, 2, device=like.device) / head_dim)
    angles = torch.arange(n, device=like.device)[:, None] * rates
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def _rotate(x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    one, other = x.chunk(2, -1)
    cos, sin = rotation
    return torch.cat((one * cos - other * sin, other * cos + one * sin), -1)
