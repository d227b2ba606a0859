"""A LlamaIndex LLM that reads blocks: each `CitableBlock` of a chat is one attention block."""

import os
import warnings
from collections.abc import Generator, Sequence
from contextlib import aclosing
from dataclasses import fields
from inspect import signature
from typing import Any, TypeVar, get_args

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from blockrag import arguments
from blockrag.admission import each_in_thread
from blockrag.answering import Request, queue_and_answer
from blockrag.engine import Engine
from blockrag.errors import ArgumentError
from blockrag.events import Mode, Source
from blockrag.generate import Sampling
from blockrag.llamaindex.messages import Chat, read_chat, text_of
from blockrag.llamaindex.responses import Run, chat_responses, completions, last
from blockrag.models import AUTO, DEFAULT_MODEL, choose_model
from blockrag.prompt import Framing, Message
from blockrag.stopwatch import Stopwatch

T = TypeVar("T")

SAMPLING = tuple(field.name for field in fields(Sampling))

ENGINE_SETTINGS = tuple(signature(Engine.from_pretrained).parameters)

LONG_TOKENS = 256
UNBLOCKED = (
    "a chat of {n_tokens} tokens had no blocks and was read in full, without block KV: texts are part of a message. "
    "Use BlockSynthesizer in a query engine, and BlockContextChatEngine instead of index.as_chat_engine()."
)
"""What a chat without blocks is told of from `LONG_TOKENS` on."""


class BlockAttentionLLM(CustomLLM):
    """Answers over blocks whose keys and values are cached; a prompt without blocks is answered as by any LLM.

    Greedy decoding, unless `sampling` or a call says otherwise. `raw` of a response (the last one of a stream) holds
    ``usage`` in tokens, and under ``blockrag`` all fields of `blockrag.Report`, ``stopped``, and ``left_out``: the
    sources of blocks that did not fit the context.

    Parameters
    ----------
    engine : Engine
        May be shared by many.
    max_tokens : int
        Longest answer; a call may set its own.
    mode : "block" or "full"
        Answer chats with block KV, or, for comparison, with ordinary attention over the same prompt.
    sampling : dict, optional
        Arguments of `blockrag.Sampling`, such as ``{"temperature": 0.7, "seed": 1}``.
    kv_dir : path, optional
        The engine's own folder of block KV, which is also what it is by default; see `BlockKVVectorStore`.
    **kwargs
        Fields of `LLM`, and arguments of `blockrag.Sampling`.

    Raises
    ------
    ArgumentError
        If `engine` is none or keeps its block KV elsewhere than in `kv_dir`, or an argument has a value that is not
        allowed.
    TypeError
        If an argument is unknown.
    """

    model: str = Field(description="Name or folder of the model.")
    context_window: int = Field(description="Most tokens of a prompt and its answer.")
    max_tokens: int = Field(default=256, gt=0, description="Most tokens of an answer.")
    mode: Mode = Field(default="block", description="How chats with blocks are answered.")
    kv_dir: str | None = Field(default=None, description="Where block KV is kept on disk.")
    sampling: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of Sampling; a call may override them."
    )
    _engine: Engine = PrivateAttr()
    _has_told: bool = PrivateAttr(default=False)

    def __init__(
        self,
        engine: Engine,
        *,
        max_tokens: int = 256,
        mode: Mode = "block",
        sampling: dict[str, Any] | None = None,
        kv_dir: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ):
        if not isinstance(engine, Engine):
            raise ArgumentError(f"engine is {engine!r}; give an Engine, or call BlockAttentionLLM.from_pretrained")
        arguments.known("BlockAttentionLLM", kwargs, {*type(self).model_fields, *SAMPLING})
        drawn = {name: kwargs.pop(name) for name in SAMPLING if name in kwargs}
        arguments.one_of("mode", mode, get_args(Mode))
        max_tokens = arguments.whole("max_tokens", max_tokens)
        arguments.instance("sampling", {} if sampling is None else sampling, dict)
        kwargs["sampling"] = {**(sampling or {}), **drawn}
        arguments.known("BlockAttentionLLM", kwargs["sampling"], SAMPLING)
        Sampling(**kwargs["sampling"])
        kwargs.setdefault("model", engine.model.tokenizer.name_or_path or engine.model.weights_id)
        most = engine.model.max_tokens
        kwargs["context_window"] = arguments.whole("context_window", kwargs.get("context_window", most), 1, most)
        super().__init__(max_tokens=max_tokens, mode=mode, kv_dir=_kv_dir(engine, kv_dir), **kwargs)
        self._engine = engine

    @classmethod
    def from_pretrained(
        cls,
        model: str = DEFAULT_MODEL,
        *,
        kv_dir: str | os.PathLike[str] | None = None,
        max_tokens: int = 256,
        mode: Mode = "block",
        **settings: Any,
    ) -> "BlockAttentionLLM":
        """Load a model by name (catalog, Hugging Face hub) or folder, downloading it if needed.

        Parameters
        ----------
        model : str
            See `blockrag.models.local_path`.
        kv_dir : path, optional
            Folder of block KV, for later and for other processes; without it, block KV is kept in memory.
        max_tokens, mode
            See the class.
        **settings
            Other arguments of the class and of `Engine.from_pretrained`.

        Raises
        ------
        WeightsError, UnsupportedModelError, KVTierError
        """
        arguments.known("BlockAttentionLLM.from_pretrained", settings, LLM_SETTINGS)
        of_llm = {name: settings.pop(name) for name in LLM_SETTINGS if name in settings and name not in ENGINE_SETTINGS}
        name = choose_model(settings.get("device")).name if model == AUTO else model
        engine = Engine.from_pretrained(name, kv_dir=kv_dir, **settings)
        return cls(engine, model=name, max_tokens=max_tokens, mode=mode, **of_llm)

    @classmethod
    def class_name(cls) -> str:
        """Name in serialised form."""
        return "BlockAttentionLLM"

    @property
    def engine(self) -> Engine:
        """The engine that answers."""
        return self._engine

    @property
    def metadata(self) -> LLMMetadata:
        """The model's limits and name, for LlamaIndex."""
        return LLMMetadata(
            context_window=self.context_window,
            num_output=self.max_tokens,
            is_chat_model=True,
            model_name=self.model,
        )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a chat.

        Parameters
        ----------
        messages : sequence of ChatMessage
            Each `CitableBlock` in them is one attention block. Its KV depends on its text alone; its title, if any,
            follows the blocks. All blocks precede the conversation.
        **kwargs
            ``max_tokens``: the longest answer of this call; and the arguments of `blockrag.Sampling`.

        Raises
        ------
        ContentError
            If a message holds content that is not text.
        PromptTooLongError, BusyError, DeviceMemoryError, UnsupportedModelError
        """
        return last(chat_responses(self._chat(messages, **kwargs)))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """See `chat`; the last response has no new text, but the report."""
        return chat_responses(self._chat(messages, **kwargs))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """See `chat`; runs in a thread, and stops when it is cancelled."""
        return await _last_in_thread(chat_responses(self._chat(messages, **kwargs)))

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """See `stream_chat`."""
        return each_in_thread(chat_responses(self._chat(messages, **kwargs)))

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a flat prompt with ordinary attention.

        Parameters
        ----------
        prompt : str
            The user's message; with `formatted`, the whole text that the model continues.
        formatted : bool
        **kwargs
            See `chat`.

        Raises
        ------
        PromptTooLongError, BusyError, DeviceMemoryError, UnsupportedModelError
        """
        return last(completions(self._complete(prompt, formatted, **kwargs)))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """See `complete`; the last response has no new text, but the report."""
        return completions(self._complete(prompt, formatted, **kwargs))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """See `complete`; runs in a thread, and stops when it is cancelled."""
        return await _last_in_thread(completions(self._complete(prompt, formatted, **kwargs)))

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """See `stream_complete`."""
        return each_in_thread(completions(self._complete(prompt, formatted, **kwargs)))

    def _chat(self, messages: Sequence[ChatMessage], max_tokens: int | None = None, **sampling: Any) -> Run:
        chat, engine = read_chat(messages), self._engine
        request = self._request(chat.question, self.mode if chat.blocks else "full", max_tokens, sampling)
        with request.watch.stage("assemble"):
            if chat.blocks:
                fixed = engine.model.format.prefix_visible
                request.framing = engine.prompt.around(chat.messages, chat.note, fixed_prefix=fixed)
            else:
                request.framing = engine.prompt.alone(chat.messages)
                self._tell_unblocked(request)
        return Run(request, queue_and_answer(engine, request, lambda: _sources(engine, chat)))

    def _tell_unblocked(self, request: Request) -> None:
        """Say that a long chat without blocks uses no block KV: in its report, and once in a warning."""
        assert request.framing is not None
        n_tokens = len(request.framing.prefix_ids) + len(request.framing.final_ids)
        if self.mode != "block" or n_tokens < LONG_TOKENS:
            return
        request.notes.append(UNBLOCKED.format(n_tokens=n_tokens))
        if not self._has_told:
            self._has_told = True
            warnings.warn(UNBLOCKED.format(n_tokens=n_tokens), stacklevel=2)

    def _complete(self, prompt: str, formatted: bool, max_tokens: int | None = None, **sampling: Any) -> Run:
        request = self._request(arguments.filled("prompt", prompt), "full", max_tokens, sampling)
        own = self._engine.prompt
        with request.watch.stage("assemble"):
            if formatted:
                request.framing = Framing((), tuple(own.own_ids(prompt)))
            elif own.tokenizer.chat_template is None:
                request.framing = Framing((), tuple(own.user_ids(prompt)))
            else:
                request.framing = own.alone([Message("user", prompt)])
        return Run(request, queue_and_answer(self._engine, request, tuple))

    def _request(self, question: str, mode: Mode, max_tokens: int | None, sampling: dict[str, Any]) -> Request:
        arguments.known("BlockAttentionLLM.chat", sampling, {"max_tokens", *SAMPLING})
        watch, chosen = Stopwatch(self._engine.model.device), Sampling(**{**self.sampling, **sampling})
        limit = self.max_tokens if max_tokens is None else arguments.whole("max_tokens", max_tokens)
        return Request(question, mode, limit, watch, sampling=chosen)


LLM_SETTINGS = {*BlockAttentionLLM.model_fields, *SAMPLING, *ENGINE_SETTINGS}
"""Arguments of `BlockAttentionLLM.from_pretrained`."""


def _kv_dir(engine: Engine, given: str | os.PathLike[str] | None) -> str | None:
    """The engine's folder of block KV. Raises ArgumentError if it is not the given one."""
    own = engine.kv_dir
    if given is not None:
        folder = arguments.folder("kv_dir", given)
        if own is None or folder.resolve() != own.resolve():
            kept = f"in {str(own)!r}" if own else "in memory"
            raise ArgumentError(f"kv_dir is {str(folder)!r}, but the engine keeps block KV {kept}; leave kv_dir out")
    return str(own) if own else None


def _sources(engine: Engine, chat: Chat) -> tuple[Source, ...]:
    sources = []
    for number, block in enumerate(chat.blocks, start=1):
        text = text_of(block)
        ids = engine.prompt.block_ids(text)
        key = engine.identity.key(ids)
        sources.append(Source(number, block.source, block.source, 0, len(text), text, 0.0, len(ids), kv_key=key))
    return tuple(sources)


async def _last_in_thread(responses: Generator[T, Any, Any]) -> T:
    """The last of `responses`, each computed in a thread."""
    async with aclosing(each_in_thread(responses)) as each:
        return last(iter([response async for response in each]))
