"""A response synthesizer that sends each node to the LLM as one block and never packs texts together."""

import os
import warnings
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CitableBlock, MessageRole, TextBlock
from llama_index.core.base.response.schema import RESPONSE_TYPE, AsyncStreamingResponse, StreamingResponse
from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.synthesis import GetResponseEndEvent, GetResponseStartEvent
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.response_synthesizers import BaseSynthesizer
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryType
from llama_index.core.types import RESPONSE_TEXT_TYPE

from blockrag import arguments
from blockrag.errors import ArgumentError
from blockrag.llamaindex.llm import LLM_SETTINGS, BlockAttentionLLM
from blockrag.llamaindex.messages import check_template, fill_template
from blockrag.llamaindex.responses import REPORT
from blockrag.models import DEFAULT_MODEL

_DISPATCHER = get_dispatcher(__name__)

TEMPLATE = "text_qa_template"

_ARGUMENTS = (
    "llm", "streaming", "system_prompt", "chat_history", TEMPLATE, "callback_manager", "empty_response",
)  # fmt: skip

_NO_REFINING = "Blocks are read in one pass, so that nothing is refined, and answers are text"


class BlockSynthesizer(BaseSynthesizer):
    """Answers from nodes, each as one block.

    A block is the text of a node alone, so that its KV is found again whatever metadata the node has; the metadata that
    LlamaIndex shows to an LLM follows the blocks. The response's metadata holds the report of its cost under
    ``blockrag`` (see `BlockAttentionLLM`); a streamed response has it when its stream has ended.

    Parameters
    ----------
    llm : LLM, optional
        A `BlockAttentionLLM`; other chat models that read `CitableBlock` work too, without a report. By default
        ``Settings.llm``.
    streaming : bool
        Whether responses are streams.
    system_prompt : str, optional
        Replaces the prompt's own.
    chat_history : sequence of ChatMessage
        Earlier messages.
    text_qa_template : BasePromptTemplate or str, optional
        Has ``{context_str}``, which the blocks replace, before ``{query_str}``. Text before it replaces the model's own
        instruction.
    callback_manager, empty_response
        See `BaseSynthesizer`.

    Raises
    ------
    ArgumentError
        If blocks cannot take the context's place in the template, or an argument has a value that is not allowed.
    TypeError
        If an argument is unknown. ``refine_template`` and ``response_mode`` do not exist: blocks are read in one
        pass. ``output_cls`` does not exist: answers are text.
    """

    def __init__(
        self,
        llm: LLM | None = None,
        *,
        streaming: bool = False,
        system_prompt: str | None = None,
        chat_history: Sequence[ChatMessage] = (),
        text_qa_template: BasePromptTemplate | str | None = None,
        callback_manager: CallbackManager | None = None,
        empty_response: str | None = None,
        **unknown: Any,
    ):
        arguments.known("BlockSynthesizer", unknown, _ARGUMENTS, _NO_REFINING)
        arguments.flag("streaming", streaming)
        if llm is not None:
            arguments.instance("llm", llm, LLM)
        for name, value in (("system_prompt", system_prompt), ("empty_response", empty_response)):
            if value is not None:
                arguments.text(name, value)
        if isinstance(chat_history, str) or not all(isinstance(said, ChatMessage) for said in chat_history):
            raise ArgumentError(f"chat_history is {chat_history!r}; give a list of ChatMessage")
        super().__init__(llm=llm, callback_manager=callback_manager, streaming=streaming, empty_response=empty_response)
        system_prompt = system_prompt or self._llm.system_prompt
        system = [ChatMessage(role=MessageRole.SYSTEM, content=system_prompt)] if system_prompt else []
        self._before = [*system, *chat_history]
        self._template: BasePromptTemplate | None = None
        if text_qa_template is not None:
            self._update_prompts({TEMPLATE: text_qa_template})

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
        arguments.known("BlockSynthesizer.from_pretrained", settings, LLM_SETTINGS, _NO_REFINING)
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
            Nodes that do not fit the model's context are left out, with a warning, and are no ``source_nodes``;
            ``left_out`` of the report has their ids. A stream knows it at its end.
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
        return self._finish(response, nodes, report)

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
        return self._finish(response, nodes, report)

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
        if not nodes_in_blocks and not text_chunks:
            return iter([self._empty_response]) if self._streaming else self._empty_response
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
        if not nodes_in_blocks and not text_chunks:
            return _once(self._empty_response) if self._streaming else self._empty_response
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
        system: list[ChatMessage] = []
        if self._template is not None:
            system, query_str = fill_template(self._template, query_str)
        last = ChatMessage(role=MessageRole.USER, blocks=[*blocks, TextBlock(text=query_str)])
        return [*system, *self._before, last]

    def _get_prompts(self) -> dict[str, Any]:
        return {} if self._template is None else {TEMPLATE: self._template}

    def _update_prompts(self, prompts: dict[str, Any]) -> None:
        """Set the template. Raises ArgumentError for other prompts: there is nothing that would use them."""
        if others := prompts.keys() - {TEMPLATE}:
            raise ArgumentError(f"BlockSynthesizer has no prompt {', '.join(sorted(others))}; it has {TEMPLATE}")
        if TEMPLATE in prompts:
            template = prompts[TEMPLATE]
            template = PromptTemplate(template) if isinstance(template, str) else template
            check_template(template)
            self._template = template

    def _source_lists(self, response: RESPONSE_TYPE, nodes: list[NodeWithScore]) -> list[list[NodeWithScore]]:
        """Lists of sources that hold only what was read."""
        return [response.source_nodes]

    def _finish(self, response: RESPONSE_TYPE, nodes: list[NodeWithScore], report: dict[str, Any]) -> RESPONSE_TYPE:
        """Add the report, and remove what was not read from the sources; of a stream, when it ends."""
        if not response.source_nodes:
            response.metadata = response.metadata or {}
            return response
        metadata = response.metadata = {**(response.metadata or {}), REPORT: report}
        drop = partial(_drop_unread, self._source_lists(response, nodes), metadata)
        if isinstance(response, StreamingResponse):
            response.response_gen = _then(response.response_gen, drop)
        elif isinstance(response, AsyncStreamingResponse):
            response.response_gen = _athen(response.response_gen, drop)
        else:
            drop()
        return response


def _block(found: NodeWithScore) -> CitableBlock:
    node = found.node
    return CitableBlock(
        title=node.get_metadata_str(mode=MetadataMode.LLM),
        source=node.node_id,
        content=node.get_content(metadata_mode=MetadataMode.NONE),
    )


def _drop_unread(lists: Sequence[list[NodeWithScore]], metadata: dict[str, Any]) -> None:
    unread = set(metadata[REPORT].get("left_out", ()))
    if not unread:
        return
    warnings.warn(
        f"{len(unread)} nodes do not fit the model's context and were not read: {', '.join(sorted(unread))}. Split "
        "them into smaller ones (SemanticBlockNodeParser), or retrieve fewer.",
        stacklevel=3,
    )
    for nodes in lists:
        nodes[:] = [node for node in nodes if node.node_id not in unread]
    for node_id in unread:
        metadata.pop(node_id, None)


def _then(pieces: Iterator[str], end: Callable[[], None]) -> Generator[str, None, None]:
    yield from pieces
    end()


async def _athen(pieces: AsyncGenerator[str, None], end: Callable[[], None]) -> AsyncGenerator[str, None]:
    async for piece in pieces:
        yield piece
    end()


async def _once(text: str) -> AsyncGenerator[str, None]:
    yield text


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
