"""The answering model: a `transformers` network, its tokenizer, and the properties that block attention needs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blockrag.attention.format import PLAIN, BlockFormat
from blockrag.attention.rope import Rope, fix_length, frequencies, layer_kinds, use_exact_angles
from blockrag.errors import UnsupportedModelError
from blockrag.models.families import (
    check_supported,
    family_of,
    has_plain_attention,
    latent_sizes,
    n_experts,
    rotated_layers,
    windows,
)


@dataclass(frozen=True)
class AnswerModel:
    """A network ready for block attention. The network is put in eval mode and computes exact rotary angles.

    Attributes
    ----------
    network : PreTrainedModel
        A causal language model in eval mode.
    tokenizer : PreTrainedTokenizerBase
        Its fast tokenizer.
    weights_id : str
        Hash of weights and configuration; part of every KV key (rule 6).
    format : BlockFormat
        Sinks and prefix visibility.
    allow_unverified : bool
        See `check_supported`.
    full : AnswerModel, optional
        The model of full mode, if an adapter gives block mode other weights; by default this model.

    Raises
    ------
    UnsupportedModelError
        If blocks of this model cannot be cached exactly.
    """

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    weights_id: str
    format: BlockFormat = PLAIN
    allow_unverified: bool = False
    full: "AnswerModel | None" = None

    def __post_init__(self) -> None:
        check_supported(self.network.config, allow_unverified=self.allow_unverified)
        self.network.eval()
        fix_length(self._rotary, self.max_tokens)
        use_exact_angles(self._rotary)

    @cached_property
    def rope(self) -> Rope:
        """Rotary positions and windows of all layers."""
        config = self.network.config
        found = {
            kind: frequencies(self._rotary, kind)[0].detach().double().cpu()
            for kind in layer_kinds(self._rotary) or ("",)
        }
        local = found.pop("sliding_attention", None)
        inv_freq = next(iter(found.values())) if found else local
        assert inv_freq is not None, "check_supported has seen to it"
        return Rope(
            inv_freq,
            rotated_layers(config),
            family_of(config).interleaved,
            windows(config),
            local,
            latent_sizes(config),
        )

    @cached_property
    def has_plain_attention(self) -> bool:
        """Whether fast paths compute this model's attention; see `families.has_plain_attention`."""
        return has_plain_attention(self.network.config)

    @cached_property
    def has_experts(self) -> bool:
        """Whether layers are mixtures of experts, whose products have shapes that depend on all tokens of a pass."""
        return n_experts(self.network.config) > 1

    @property
    def _rotary(self) -> Any:
        """The module that computes the angles of all layers."""
        rotary = getattr(getattr(self.network, "model", None), "rotary_emb", None)
        if rotary is None:
            raise UnsupportedModelError(
                f"{type(self.network).__name__}: no module model.rotary_emb computes the rotary angles of all layers, "
                "as expected; use a model of a verified family."
            )
        return rotary

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of activations and of every block KV."""
        return self.network.dtype

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return self.network.config.num_hidden_layers

    @property
    def n_kv_heads(self) -> int:
        """Key/value heads of block KV: fewer than query heads with grouped-query attention, one with latents."""
        return 1 if self.rope.latent_sizes else self.network.config.num_key_value_heads

    @cached_property
    def head_dim(self) -> int:
        """Size of a head; of latents, of the larger of a token's key and value."""
        if self.rope.latent_sizes:
            return max(self.rope.latent_sizes)
        return self.network.model.layers[0].self_attn.head_dim

    @property
    def max_tokens(self) -> int:
        """Longest context, prompt and answer together."""
        return self.network.config.max_position_embeddings

    @property
    def kv_nbytes_per_token(self) -> int:
        """Bytes of one token's keys and values over all layers."""
        sizes = self.rope.latent_sizes or (self.head_dim, self.head_dim)
        return sum(sizes) * self.n_layers * self.n_kv_heads * self.dtype.itemsize

    def kv_storage(self, n_tokens: int, batch: int = 1) -> torch.Tensor:
        """Return uninitialised KV, shape ``(2, layers, batch, kv_heads, n_tokens, head_dim)``, on the device."""
        shape = (2, self.n_layers, batch, self.n_kv_heads, n_tokens, self.head_dim)
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Input embeddings ``(..., hidden_size)`` of token ids ``(...)``."""
        return self.network.get_input_embeddings()(token_ids)

    def embed_sinks(self) -> torch.Tensor:
        """Input embeddings of the block sinks, shape ``(n_sinks, hidden_size)``."""
        if self.format.sink_embeddings is not None:
            return self.format.sink_embeddings.to(self.device, self.dtype)
        return self.embed(torch.tensor(self.format.sink_ids, dtype=torch.long, device=self.device))
