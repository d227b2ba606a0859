"""The answering model: a `transformers` network, its tokenizer, and what block attention must know of them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blockrag.attention.format import PLAIN, BlockFormat
from blockrag.attention.rope import Rope, use_exact_angles
from blockrag.errors import UnsupportedModelError
from blockrag.models.families import check_supported, family_of, rotated_layers


@dataclass(frozen=True)
class AnswerModel:
    """A network ready for block attention. It takes the network over: eval mode, exact rotary angles.

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
        What full mode runs where an adapter gives block mode weights of its own; by default this model.

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
        use_exact_angles(self._rotary)

    @cached_property
    def rope(self) -> Rope:
        """The rotary positions of all layers."""
        config = self.network.config
        inv_freq = self._rotary.inv_freq.detach().double().cpu()
        return Rope(inv_freq, rotated_layers(config), family_of(config).interleaved)

    @property
    def _rotary(self) -> Any:
        """The one module that computes all layers' angles."""
        rotary = getattr(getattr(self.network, "model", None), "rotary_emb", None)
        if rotary is None:
            raise UnsupportedModelError(
                f"{type(self.network).__name__}: no module model.rotary_emb computes the rotary angles of all layers, "
                "as expected; use a model of a verified family."
            )
        return rotary

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of weights, and of every block KV."""
        return self.network.dtype

    @property
    def n_layers(self) -> int:
        """Decoder layers."""
        return self.network.config.num_hidden_layers

    @property
    def n_kv_heads(self) -> int:
        """Key/value heads; fewer than query heads under grouped-query attention."""
        return self.network.config.num_key_value_heads

    @cached_property
    def head_dim(self) -> int:
        """Components of one head."""
        return self.network.model.layers[0].self_attn.head_dim

    @property
    def max_tokens(self) -> int:
        """Longest prompt and answer together that the model was made for."""
        return self.network.config.max_position_embeddings

    @property
    def kv_nbytes_per_token(self) -> int:
        """Bytes of keys and values of one token over all layers."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * self.dtype.itemsize

    def kv_storage(self, n_tokens: int, batch: int = 1) -> torch.Tensor:
        """Uninitialised room for KV, shape ``(2, layers, batch, kv_heads, n_tokens, head_dim)``, on the device."""
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
