"""The reference: block attention as one dense forward pass under a mask. Slow, plain, and the specification.

Every other path must give these logits (rule 3). Nothing is cached and nothing is rotated twice here: the whole prompt,
sinks included, goes through the network once, at its joined positions.

Where blocks see the prefix, each was encoded directly after it, wherever it stands in the prompt. In one pass that is
a copy of the prefix before every block, at the positions just before it, which this block alone sees.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from blockrag.attention.mask import block_mask, strict_isolation
from blockrag.models.answer_model import AnswerModel


@torch.inference_mode()
def reference_logits(
    model: AnswerModel, prefix: Sequence[int], blocks: Sequence[Sequence[int]], final: Sequence[int]
) -> torch.Tensor:
    """Logits of the final block's tokens.

    Parameters
    ----------
    model : AnswerModel
        Its format decides sinks and prefix visibility.
    prefix, final : sequence of int
        Token ids; the prefix may be empty.
    blocks : sequence of token id sequences
        Without sinks.

    Returns
    -------
    torch.Tensor
        Shape ``(len(final), vocab_size)``.
    """
    parts, positions, sees = _lay_out(model, prefix, blocks, final)
    mask, places = block_mask([len(part) for part in parts], sees), torch.cat(positions)
    output = model.network(
        inputs_embeds=torch.cat(parts)[None],
        attention_mask=_by_layer(model, mask, places),
        position_ids=places.to(model.device)[None],
        use_cache=False,
    )
    return output.logits[0, -len(final) :]


def _by_layer(model: AnswerModel, mask: torch.Tensor, places: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
    """The mask as an additive one; for layers with a window, without what is too far back in the joined prompt."""

    def additive(window: int | None) -> torch.Tensor:
        seen = mask if window is None else mask & (places[:, None] - places < window)
        smallest = torch.finfo(model.dtype).min
        return torch.zeros(mask.shape, dtype=model.dtype).masked_fill(~seen, smallest).to(model.device)[None, None]

    windows = model.rope.windows or (None,)
    sliding = additive(next((window for window in windows if window is not None), None))
    if None not in windows or len(set(windows)) == 1:
        return sliding
    return {"full_attention": additive(None), "sliding_attention": sliding}


def _lay_out(
    model: AnswerModel, prefix: Sequence[int], blocks: Sequence[Sequence[int]], final: Sequence[int]
) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """Embeddings ``(tokens, hidden_size)`` and positions ``(tokens,)`` of each part, and which part sees which."""
    prefix_part, sinks = _embed(model, prefix), model.embed_sinks()
    parts, positions = [prefix_part], [torch.arange(len(prefix))]
    copies, start = [], len(prefix)
    for block in blocks:
        if model.format.prefix_visible:
            copies.append(len(parts))
            parts.append(prefix_part)
            positions.append(torch.arange(start - len(prefix), start))
        parts.append(torch.cat([sinks, _embed(model, block)]))
        positions.append(torch.arange(start, start + len(parts[-1])))
        start += len(parts[-1])
    parts.append(_embed(model, final))
    positions.append(torch.arange(start, start + len(final)))
    sees = strict_isolation(len(parts))
    for copy in copies:
        sees[copy + 1, copy], sees[-1, copy] = True, False
    return parts, positions, sees


def _embed(model: AnswerModel, token_ids: Sequence[int]) -> torch.Tensor:
    return model.embed(torch.tensor(list(token_ids), dtype=torch.long, device=model.device))


CLOSE = 2**-6
"""Relative difference of two ways to round the same sums in bfloat16: a few units of its last place."""


@torch.no_grad()
def agree(plain: Callable[..., Any], fast: Callable[..., Any], *args: torch.Tensor) -> bool:
    """Whether a faster function gives the same tensors, one or several, as the plain one, within `CLOSE`."""
    pairs = zip(*(r if isinstance(r, tuple) else (r,) for r in (plain(*args), fast(*args))), strict=True)
    return all(bool((a - b).abs().max() <= CLOSE * a.abs().max()) for a, b in pairs)
