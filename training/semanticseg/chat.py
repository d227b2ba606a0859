"""Chat with a language model: an OpenAI-compatible service, or a model in this process."""

import os
from collections.abc import Callable
from functools import cache
from typing import TypedDict

from training.semanticseg.config import LanguageModel


class Message(TypedDict):
    """One chat message."""

    role: str
    content: str


Chat = Callable[[list[Message]], str]
"""(messages) -> next answer."""

_MOST_NEW_TOKENS = 4096
_RETRIES = 6
_SECONDS = 600


@cache
def make_chat(settings: LanguageModel) -> Chat:
    """The chat function for `settings`, created once per process."""
    return _service(settings) if settings.endpoint else _local(settings)


def _service(settings: LanguageModel) -> Chat:
    from openai import OpenAI  # noqa: PLC0415  # only if a service is configured

    key = os.environ.get(settings.key_variable, "none")
    client = OpenAI(base_url=settings.endpoint, api_key=key, max_retries=_RETRIES, timeout=_SECONDS)

    def chat(messages: list[Message]) -> str:
        made = client.chat.completions.create(model=settings.model, messages=messages, temperature=0)
        return made.choices[0].message.content or ""

    return chat


def _local(settings: LanguageModel) -> Chat:
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415  # in the process that asks

    from blockrag.models import local_path  # noqa: PLC0415

    folder = local_path(settings.model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder).to(device).eval()

    def chat(messages: list[Message]) -> str:
        given = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.generate(**given.to(device), max_new_tokens=_MOST_NEW_TOKENS, do_sample=False)
        return tokenizer.decode(made[0, given["input_ids"].shape[1] :], skip_special_tokens=True)

    return chat
