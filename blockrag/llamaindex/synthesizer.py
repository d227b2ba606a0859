"""A response synthesizer that sends each node to the LLM as one block and never packs texts together."""

import os
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CitableBlock, MessageRole, TextBlock
from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.synthesis import GetResponseEndEvent, GetResponseStartEvent
from llama_index.core.llms import LLM
from llama_index.core.response_synthesizers import BaseSynthesizer
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryType
from llama_index.core.types import RESPONSE_TEXT_TYPE

from blockrag.llamaindex.llm import BlockAttentionLLM
from blockrag.llamaindex.responses import REPORT
from blockrag.models import DEFAULT_MODEL

_DISPATCHER = get_dispatcher(__name__)


class BlockSynthesizer(BaseSynthesizer):
    """Answers from nodes, each as one block.

    A block is the text of a node alone, so that its KV is found again whatever metadata the node has; the metadata that
    LlamaIndex shows to an LLM follows the blocks. The response's metadata holds the report of its cost under
    ``blockrag`` (see `BlockAttentionLLM`); a streamed response has it when its stream has ended.

    Parameters
    ----------
    llm : LLM
        A `BlockAttentionLLM`; other chat models that read `CitableBlock` work too, without a report.
    streaming : bool
        Whether responses are streams.
    system_prompt : str, optional
        Replaces the prompt's own.
    chat_history : sequence of ChatMessage
        Earlier messages.
    callback_manager, empty_response
        See `BaseSynthesizer`.
    """

    def __init__(
        self,
        llm: LLM,
        *,
        streaming: bool = False,
        system_prompt: str | None = None,
        chat_history: Sequence[ChatMessage] = (),
        callback_manager: CallbackManager | None = None,
        empty_response: str | None = None,
    ):
        super().__init__(llm=llm, callback_manager=callback_manager, streaming=streaming, empty_response=empty_response)
        system_prompt = system_prompt or llm.system_prompt
        system = [ChatMessage(role=MessageRole.SYSTEM, content=system_prompt)] if system_prompt else []
        self._before = [*system, *chat_history]

    @classmethod
    def from_pretrained(
        cls,
        model: str = DEFAULT_MODEL,
        *,
        kv_dir: str | os.PathLike[str] | None = None,
        streaming: bool = False,
        **settings: Any,
    ) -> "BlockSynthesizer":
        """Create a `BlockAttentionLLM` and a synthesizer for it; see its `from_pretrained`."""
        llm = BlockAttentionLLM.from_pretrained(model, kv_dir=kv_dir, **settings)
        return cls(llm, streaming=streaming)

    @property
    def llm(self) -> LLM:
        """The LLM that answers."""
        return self._llm

    def synthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """Answer from `nodes`, in their order.

        Parameters
        ----------
        query : str or QueryBundle
        nodes : list of NodeWithScore
            Nodes that do not fit the model's context are left out; ``left_out`` of the report has their ids.
        additional_source_nodes : sequence of NodeWithScore, optional
            Listed as sources only.

        Returns
        -------
        Response or StreamingResponse
        """
        report: dict[str, Any] = {}
        response = super().synthesize(
            query, nodes, additional_source_nodes, nodes_in_blocks=nodes, report=report, **response_kwargs
        )
        return _with_report(response, report)

    async def asynthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """See `synthesize`."""
        report: dict[str, Any] = {}
        response = await super().asynthesize(
            query, nodes, additional_source_nodes, nodes_in_blocks=nodes, report=report, **response_kwargs
        )
        return _with_report(response, report)

    def get_response(
        self,
        query_str: str,
        text_chunks: Sequence[str],
        *,
        nodes_in_blocks: Sequence[NodeWithScore] = (),
        report: dict[str, Any] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TEXT_TYPE:
        """Answer from nodes, or, without nodes, from texts.

        Parameters
        ----------
        query_str : str
        text_chunks : sequence of str
            One block each.
        nodes_in_blocks : sequence of NodeWithScore
            Replaces `text_chunks`.
        report : dict, optional
            The report of the cost is added to it.
        **response_kwargs
            For the LLM.

        Returns
        -------
        str or generator of str
        """
        messages, report = self._messages(query_str, text_chunks, nodes_in_blocks), {} if report is None else report
        _DISPATCHER.event(GetResponseStartEvent(query_str=query_str, text_chunks=list(text_chunks)))
        if self._streaming:
            response: RESPONSE_TEXT_TYPE = _deltas(self._llm.stream_chat(messages, **response_kwargs), report)
        else:
            response = _take_report(self._llm.chat(messages, **response_kwargs), report)
        _DISPATCHER.event(GetResponseEndEvent())
        return response

    async def aget_response(
        self,
        query_str: str,
        text_chunks: Sequence[str],
        *,
        nodes_in_blocks: Sequence[NodeWithScore] = (),
        report: dict[str, Any] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TEXT_TYPE:
        """See `get_response`."""
        messages, report = self._messages(query_str, text_chunks, nodes_in_blocks), {} if report is None else report
        _DISPATCHER.event(GetResponseStartEvent(query_str=query_str, text_chunks=list(text_chunks)))
        if self._streaming:
            stream = await self._llm.astream_chat(messages, **response_kwargs)
            response: RESPONSE_TEXT_TYPE = _adeltas(stream, report)
        else:
            response = _take_report(await self._llm.achat(messages, **response_kwargs), report)
        _DISPATCHER.event(GetResponseEndEvent())
        return response

    def _messages(
        self, query_str: str, text_chunks: Sequence[str], nodes: Sequence[NodeWithScore]
    ) -> list[ChatMessage]:
        if nodes:
            blocks = [_block(node) for node in nodes]
        else:
            blocks = [CitableBlock(title="", source=str(n), content=t) for n, t in enumerate(text_chunks, start=1)]
        return [*self._before, ChatMessage(role=MessageRole.USER, blocks=[*blocks, TextBlock(text=query_str)])]

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: dict[str, Any]) -> None:
        """Nothing to update: the prompt is the model's (`blockrag.prompt`)."""


def _block(found: NodeWithScore) -> CitableBlock:
    node = found.node
    return CitableBlock(
        title=node.get_metadata_str(mode=MetadataMode.LLM),
        source=node.node_id,
        content=node.get_content(metadata_mode=MetadataMode.NONE),
    )


def _with_report(response: RESPONSE_TYPE, report: dict[str, Any]) -> RESPONSE_TYPE:
    if response.source_nodes:
        response.metadata = {**(response.metadata or {}), REPORT: report}
    return response


def _take_report(response: ChatResponse, report: dict[str, Any]) -> str:
    """The text; adds the report of the cost to `report`."""
    if isinstance(response.raw, dict):
        report.update(response.raw.get(REPORT, {}))
    return response.message.content or ""


def _deltas(stream: Any, report: dict[str, Any]) -> Generator[str, None, None]:
    for response in stream:
        _take_report(response, report)
        if response.delta:
            yield response.delta


async def _adeltas(stream: Any, report: dict[str, Any]) -> AsyncGenerator[str, None]:
    async for response in stream:
        _take_report(response, report)
        if response.delta:
            yield response.delta
