"""Prefill and decode over a cache, and text from streamed tokens."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from blockrag.attention.gqa import UNMASKED, Attend, attend_past_and_own
from blockrag.attention.kv_cache import PreallocatedCache
from blockrag.models.answer_model import AnswerModel


def prefill(
    model: AnswerModel, token_ids: Sequence[int], cache: PreallocatedCache, attend: Attend | None = None
) -> torch.Tensor:
    """Run `token_ids` after the tokens in `cache`, with causal attention over both. One token is a decoding step.

    `attend`, if given, computes the attention.

    Returns
    -------
    torch.Tensor
        Logits of the last token, shape ``(vocab_size,)``, on the device.
    """
    return last_logits(model, token_ids, cache, 1, attend)[0]


@torch.inference_mode()
def last_logits(
    model: AnswerModel, token_ids: Sequence[int], cache: PreallocatedCache, n: int, attend: Attend | None = None
) -> torch.Tensor:
    """Like `prefill`, but the logits of the last `n` tokens, shape ``(n, vocab_size)``."""
    start = cache.n_tokens
    if attend is None and start > 0 and len(token_ids) > 1 and model.device.type == "cpu":
        attend = attend_past_and_own
    output = model.network(
        input_ids=torch.tensor([list(token_ids)], device=model.device),
        position_ids=torch.arange(start, start + len(token_ids), device=model.device)[None],
        attention_mask=UNMASKED if attend else None,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=n,
        attend=attend,
    )
    return output.logits[0]


def end_tokens(model: AnswerModel) -> frozenset[int]:
    """Tokens that end an answer, by the model's generation settings."""
    ends = model.network.generation_config.eos_token_id
    if ends is None:
        ends = model.tokenizer.eos_token_id
    return frozenset([ends] if isinstance(ends, int) else ends or ())


class TextStream:
    """Turns token ids into text piece by piece; holds back incomplete characters."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._token_ids: list[int] = []
        self._n_shown = 0

    def push(self, token_id: int) -> str:
        """Text that `token_id` completes; often a word, sometimes nothing."""
        self._token_ids.append(token_id)
        text = self._text()
        if text.endswith("\ufffd"):
            return ""
        return self._show(text)

    def flush(self) -> str:
        """Text that is still held back."""
        return self._show(self._text())

    def _text(self) -> str:
        return self._tokenizer.decode(self._token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _show(self, text: str) -> str:
        piece, self._n_shown = text[self._n_shown :], max(self._n_shown, len(text))
        return piece
