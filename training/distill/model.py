"""The trained network: frozen weights, low-rank changes (LoRA), learned sinks and link tokens."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from blockrag.models.adapter import Change
from blockrag.models.answer_model import AnswerModel
from training.distill.attention import attention_arguments
from training.distill.config import DistillConfig
from training.distill.fused import fuse
from training.distill.layout import BlockRules, Layout
from training.distill.lora import LoRA

SCALED_LOGITS = ("logit_scale", "logits_scaling", "final_logit_softcapping")
"""Configuration fields of models whose logits are not simply hidden states times the output matrix."""


class TrainableModel:
    """A frozen model with trainable low-rank changes, sinks and link tokens.

    Parameters
    ----------
    base : AnswerModel
        Modified in place: its linear layers are replaced.
    config : DistillConfig
    block_mode : bool
        Whether to add sinks and link tokens. Full mode has none.

    Raises
    ------
    ValueError
        If logits are not the product of hidden states and the output matrix.
    """

    def __init__(self, base: AnswerModel, config: DistillConfig, *, block_mode: bool):
        network = base.network
        scaled = [name for name in SCALED_LOGITS if getattr(network.config, name, None) not in (None, 1, 1.0)]
        if scaled or getattr(network.lm_head, "bias", None) is not None:
            raise ValueError(
                f"logits of {network.config.model_type} have {scaled or 'a bias'}; "
                "expected hidden states times the output matrix."
            )
        self.base, self.device = base, base.device
        if self.device.type == "cuda":
            fuse(network)
        self.lora = LoRA(network, config.rank, config.scale, config.merged, config.seed)
        self.head = network.lm_head.weight.detach().float()
        has_sinks = block_mode and config.sinks != "none"
        self.sink_ids = self._sink_ids(config) if has_sinks else ()
        self.sinks = None
        if has_sinks and config.sinks == "learned":
            self.sinks = torch.nn.Parameter(self._embed(torch.tensor(self.sink_ids)).detach().float())
        self.links = self._make_links(config) if block_mode and config.n_links else None
        self.rules = BlockRules(
            len(self.sink_ids), block_mode and config.prefix_visible, config.n_links if block_mode else 0
        )
        if config.checkpointing:
            _checkpoint_layers(network, config.checkpointing)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Trainable parameters by name."""
        embeddings = {"sinks": self.sinks, "links": self.links}
        return {**self.lora.parameters(), **{name: each for name, each in embeddings.items() if each is not None}}

    def hidden(self, layout: Layout, *, changed: bool = True) -> torch.Tensor:
        """Final hidden states ``(predicted, hidden_size)`` at `layout.rows`; see `states`."""
        return self.states(layout, every_layer=False, changed=changed)[0]

    def states(self, layout: Layout, *, every_layer: bool, changed: bool = True) -> torch.Tensor:
        """Hidden states ``(layers, predicted, hidden_size)`` at `layout.rows`.

        Parameters
        ----------
        layout : Layout
            On the model's device.
        every_layer : bool
            Return the output of every layer instead of the last one only.
        changed : bool
            False runs the teacher: without low-rank changes and without gradient.
        """
        attention = attention_arguments(layout, self.device, self.base.dtype)
        with nullcontext() if changed else self._as_teacher():
            output = self.base.network.model(
                inputs_embeds=self._embeddings(layout)[None],
                position_ids=layout.positions[None],
                use_cache=False,
                output_hidden_states=every_layer,
                **attention,
            )
            states = output.hidden_states[1:] if every_layer else (output.last_hidden_state,)  # without embeddings
            return torch.stack([each[0].index_select(0, layout.rows) for each in states])

    def changes(self) -> dict[str, Change]:
        """The low-rank changes in the adapter's format."""
        found = {}
        for name, layer in self.lora.layers.items():
            found[name] = Change((layer.up * layer.stack.scale).detach(), layer.down.detach())
        return found

    @contextmanager
    def _as_teacher(self) -> Iterator[None]:
        with torch.no_grad(), self.lora.disabled():
            yield

    def _embeddings(self, layout: Layout) -> torch.Tensor:
        embeddings = self._embed(layout.ids)
        if not self.sink_ids and self.links is None:
            return embeddings
        sinks = self._embed(torch.tensor(self.sink_ids, dtype=torch.long)) if self.sinks is None else self.sinks
        sinks = sinks if self.links is None else torch.cat([sinks.float(), self.links])
        chosen = layout.sinks[:, None] == torch.arange(len(sinks), device=self.device)
        placed = (chosen.to(sinks.dtype) @ sinks).to(embeddings.dtype)  # a product: the gradient of indexing is slow
        return torch.where((layout.sinks >= 0)[:, None], placed, embeddings)

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.base.embed(ids.to(self.device))

    def _make_links(self, config: DistillConfig) -> torch.nn.Parameter:
        """Initialise link tokens with the mean embedding plus noise of the embeddings' scale, so that they differ."""
        weights = self.base.network.get_input_embeddings().weight.detach().float()
        generator = torch.Generator().manual_seed(config.seed)
        noise = torch.randn(config.n_links, weights.shape[1], generator=generator).to(self.device)
        return torch.nn.Parameter(weights.mean(0) + noise * weights.std())

    def _sink_ids(self, config: DistillConfig) -> tuple[int, ...]:
        ids = self.base.tokenizer(config.sink_text, add_special_tokens=False).input_ids
        return tuple((ids * config.n_sinks)[: config.n_sinks])


def _checkpoint_layers(network: Any, share: float) -> None:
    """Recompute activations of the first `share` of the layers in the backward pass instead of keeping them."""
    network.gradient_checkpointing_enable({"use_reentrant": False})
    network.train()  # required by `transformers` for checkpointing; these model families have no dropout
    layers = network.model.layers
    for layer in layers[round(share * len(layers)) :]:
        layer.gradient_checkpointing = False
