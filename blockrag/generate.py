"""Prefill and decode over a cache, choice of the next token, and text from streamed tokens."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from blockrag.arguments import texts, whole
from blockrag.attention.gqa import UNMASKED, Attend, attend_past_and_own
from blockrag.attention.kv_cache import PreallocatedCache
from blockrag.errors import ArgumentError
from blockrag.models.answer_model import AnswerModel

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Sampling:
    """How the tokens of an answer are chosen; as it stands, greedily.

    Attributes
    ----------
    temperature : float
        Divides the logits before a token is drawn; 0 takes the most likely one.
    top_p : float
        Share of the probability that is drawn from, the most likely tokens first (nucleus sampling, arXiv 1904.09751).
    seed : int, optional
        Makes draws repeatable on the same device; without it each answer differs.
    stop : tuple of str
        The answer ends before the first of these that it would contain.
    repetition_penalty : float
        Above 1, tokens that the answer has already become less likely (CTRL, arXiv 1909.05858). Tokens of documents and
        question are exempt, since answers should use their words.

    Raises
    ------
    ArgumentError
        If a value is out of bounds.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        _number("temperature", self.temperature, "from 0 up", lambda n: 0 <= n < inf)
        _number("top_p", self.top_p, "above 0, up to 1", lambda n: 0 < n <= 1)
        _number("repetition_penalty", self.repetition_penalty, "above 0", lambda n: 0 < n < inf)
        if self.seed is not None:
            whole("seed", self.seed, 0, MAX_SEED)
        object.__setattr__(self, "stop", texts("stop", self.stop))
        if "" in self.stop:
            raise ArgumentError(f"stop is {self.stop!r}; give texts that are not empty")

    @property
    def is_greedy(self) -> bool:
        """Whether every token is the most likely one, by the logits as they are."""
        return self.temperature == 0 and self.repetition_penalty == 1


def _number(name: str, value: Any, bounds: str, allows: Callable[[float], bool]) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not allows(value):
        raise ArgumentError(f"{name} is {value!r}; give a number {bounds}")


GREEDY = Sampling()


def sampled(
    logits_of: Callable[[Sequence[int]], torch.Tensor], token_ids: Sequence[int], sampling: Sampling
) -> Iterator[int]:
    """Run `token_ids` with `logits_of`, then decode; yields tokens without end. Draws on the CPU."""
    generator = torch.Generator()
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)
    answer: list[int] = []
    while True:
        token = next_token(logits_of(answer[-1:] or token_ids).float().cpu(), answer, sampling, generator)
        answer.append(token)
        yield token


def next_token(logits: torch.Tensor, answer: Sequence[int], sampling: Sampling, generator: torch.Generator) -> int:
    """Choose a token by `logits` ``(vocab_size,)``, float32; `answer` are the tokens chosen before."""
    logits = penalized(logits, answer, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities = nucleus((logits / sampling.temperature).softmax(-1), sampling.top_p)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def penalized(logits: torch.Tensor, answer: Sequence[int], penalty: float) -> torch.Tensor:
    """Logits with those of the tokens in `answer` divided by `penalty` if positive, else multiplied."""
    if penalty == 1 or not answer:
        return logits
    ids = torch.tensor(sorted(set(answer)))
    found = logits[ids]
    return logits.index_put((ids,), torch.where(found > 0, found / penalty, found * penalty))


def nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """The most likely tokens that together reach `top_p`, the others at 0; not normalised."""
    if top_p == 1:
        return probabilities
    ordered, order = probabilities.sort(descending=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probabilities).scatter(-1, order, ordered.where(before < top_p, 0.0))


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
    if attend is None and start > 0 and len(token_ids) > 1 and model.device.type == "cpu" and model.has_plain_attention:
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


class StopStrings:
    """Ends streamed text before the first of some strings; holds back text that may be the beginning of one."""

    def __init__(self, stop: Sequence[str]):
        self._stop = stop
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """Text that can be shown."""
        text = self._held + piece
        starts = [text.find(stop) for stop in self._stop if stop in text]
        if starts:
            self._held, self.found = "", True
            return text[: min(starts)]
        n_held = max((n for stop in self._stop for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held]

    def flush(self) -> str:
        """Text that is still held back."""
        return self._held
