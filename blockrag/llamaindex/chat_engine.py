"""LlamaIndex's context chat engines, with a synthesizer that keeps nodes apart.

The stock engines paste the retrieved texts into the system message, which defeats caching of blocks. Everything else
(memory, retrieval, postprocessors, condensing, streaming) is theirs.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from inspect import signature
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.chat_engine.types import AgentChatResponse, StreamingAgentChatResponse
from llama_index.core.schema import NodeWithScore, QueryType

from blockrag import arguments
from blockrag.errors import ArgumentError
from blockrag.llamaindex.synthesizer import BlockSynthesizer

_METADATA: ContextVar[dict[str, Any]] = ContextVar("blockrag_metadata")
"""Metadata of the current response, which the stock engines do not pass on."""


_TEMPLATES = ("context_template", "context_refine_template", "context_prompt", "context_refine_prompt")


class _Synthesizer(BlockSynthesizer):
    """Stores the response's metadata for the chat response, whose sources are the list of nodes that it is given."""

    def _source_lists(self, response: Any, nodes: list[NodeWithScore]) -> list[list[NodeWithScore]]:
        return [response.source_nodes, nodes]

    def synthesize(self, query: QueryType, nodes: list[NodeWithScore], *args: Any, **kwargs: Any) -> Any:
        response = super().synthesize(query, nodes, *args, **kwargs)
        _METADATA.get().update(response.metadata or {})
        return response

    async def asynthesize(self, query: QueryType, nodes: list[NodeWithScore], *args: Any, **kwargs: Any) -> Any:
        response = await super().asynthesize(query, nodes, *args, **kwargs)
        _METADATA.get().update(response.metadata or {})
        return response


class _InBlocks:
    """The changes to both stock engines. Arguments that they would ignore are refused."""

    _llm: Any
    callback_manager: Any

    def __init__(self, *args: Any, **kwargs: Any):
        _refuse_templates(signature(super().__init__).bind(*args, **kwargs).arguments)
        super().__init__(*args, **kwargs)

    @classmethod
    def from_defaults(cls, *args: Any, **kwargs: Any) -> Any:
        """See the stock engine.

        Raises
        ------
        ArgumentError
            If a template for the context is given: blocks have no place in it. Use ``system_prompt``.
        TypeError
            If an argument is unknown.
        """
        stock = super().from_defaults  # type: ignore[misc]
        allowed = signature(stock).parameters.keys() - {"kwargs", *_TEMPLATES}
        _refuse_templates(kwargs)
        arguments.known(f"{cls.__name__}.from_defaults", kwargs.keys() - set(_TEMPLATES), allowed)
        return stock(*args, **kwargs)

    def _before(self) -> list[ChatMessage]:
        raise NotImplementedError

    def _get_response_synthesizer(self, chat_history: list[ChatMessage], streaming: bool = False) -> Any:
        return _Synthesizer(
            self._llm,
            streaming=streaming,
            chat_history=[*self._before(), *chat_history],
            callback_manager=self.callback_manager,
        )

    def chat(self, *args: Any, **kwargs: Any) -> AgentChatResponse:
        """See `BaseChatEngine`; ``metadata`` of the response holds the report of its cost under ``blockrag``."""
        return _with_metadata(super().chat, *args, **kwargs)  # type: ignore[misc]

    def stream_chat(self, *args: Any, **kwargs: Any) -> StreamingAgentChatResponse:
        """See `BaseChatEngine`; the report is there when the stream has ended."""
        return _with_metadata(super().stream_chat, *args, **kwargs)  # type: ignore[misc]

    async def achat(self, *args: Any, **kwargs: Any) -> AgentChatResponse:
        """See `chat`."""
        return await _awith_metadata(super().achat, *args, **kwargs)  # type: ignore[misc]

    async def astream_chat(self, *args: Any, **kwargs: Any) -> StreamingAgentChatResponse:
        """See `stream_chat`."""
        return await _awith_metadata(super().astream_chat, *args, **kwargs)  # type: ignore[misc]


class BlockContextChatEngine(_InBlocks, ContextChatEngine):
    """`ContextChatEngine` with each retrieved node as one block. There is no ``context_template``."""

    def _before(self) -> list[ChatMessage]:
        return self._prefix_messages


class BlockCondensePlusContextChatEngine(_InBlocks, CondensePlusContextChatEngine):
    """`CondensePlusContextChatEngine` with each node as one block. There is no ``context_prompt``."""

    def _before(self) -> list[ChatMessage]:
        prompt = self._system_prompt
        return [ChatMessage(role=self._llm.metadata.system_role, content=prompt)] if prompt else []


def _refuse_templates(given: Mapping[str, Any]) -> None:
    for name in _TEMPLATES:
        if given.get(name) is not None:
            raise ArgumentError(f"{name} has no place for blocks; say what you want in system_prompt")


def _check_message(message: Any = None, *_: Any, **__: Any) -> None:
    arguments.filled("message", message)


def _with_metadata(chat: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    _check_message(*args, **kwargs)
    token = _METADATA.set({})
    try:
        response = chat(*args, **kwargs)
        response.metadata = _METADATA.get()
        return response
    finally:
        _METADATA.reset(token)


async def _awith_metadata(chat: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
    _check_message(*args, **kwargs)
    token = _METADATA.set({})
    try:
        response = await chat(*args, **kwargs)
        response.metadata = _METADATA.get()
        return response
    finally:
        _METADATA.reset(token)
