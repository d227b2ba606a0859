"""Splits LlamaIndex's chat messages into blocks and the conversation around them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llama_index.core.base.llms.types import ChatMessage, CitableBlock, CitationBlock, MessageRole, TextBlock
from llama_index.core.prompts import BasePromptTemplate

from blockrag import arguments
from blockrag.errors import ArgumentError, ContentError
from blockrag.prompt import Message, Role

CONTEXT, QUERY = "\u2983context\u2984", "\u2983query\u2984"
"""Stand for the blocks and for the question while a template is checked or filled."""

ROLES: dict[MessageRole, Role] = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.TOOL: "user",
    MessageRole.FUNCTION: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
}
"""Results of tools count as the user's."""

UNSAID = {"cache", "thinking"}
"""Types of content that are no messages: a hint to a cache, an earlier thought (older versions have no class for
it)."""


@dataclass(frozen=True)
class Chat:
    """The input of `chat`.

    Attributes
    ----------
    blocks : tuple of CitableBlock
        The blocks of all messages, in order.
    messages : tuple of Message
        The text of each message that has any.
    """

    blocks: tuple[CitableBlock, ...]
    messages: tuple[Message, ...]

    @property
    def question(self) -> str:
        """The last message of the user."""
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def note(self) -> str:
        """The titles of the blocks, kept apart from them, so that a new title needs no new block KV."""
        numbers: dict[str, list[str]] = {}
        for number, block in enumerate(self.blocks, start=1):
            if block.title:
                numbers.setdefault("; ".join(block.title.split("\n")), []).append(str(number))
        return "\n".join(
            f"Document{'s' * (len(those) > 1)} {', '.join(those)}: {title}" for title, those in numbers.items()
        )


def read_chat(messages: Sequence[ChatMessage]) -> Chat:
    """Extract the blocks from the messages.

    Raises
    ------
    ContentError
        If a message holds content that is not text.
    ArgumentError
        If no message holds text beside the blocks.
    """
    blocks = [block for message in messages for block in message.blocks if isinstance(block, CitableBlock)]
    for block in blocks:
        text_of(block)
    said = [Message(ROLES[message.role], "\n".join(_texts(message))) for message in messages]
    said = [message for message in said if message.text.strip()]
    if not said:
        raise ArgumentError("the messages hold no text; give at least the user's question")
    return Chat(tuple(blocks), tuple(said))


def check_template(template: BasePromptTemplate) -> None:
    """Raise ArgumentError unless blocks can take the context's place in a template: it stands in the last message,
    before the question, and only system messages go before."""
    arguments.instance("template", template, BasePromptTemplate)
    rule = "a template for blocks needs {context_str} before {query_str}, both in its last message"
    if others := set(template.template_vars) - {"context_str", "query_str", *template.kwargs}:
        raise ArgumentError(f"the template needs values for {', '.join(sorted(others))}; {rule}")
    *before, last = template.format_messages(context_str=CONTEXT, query_str=QUERY)
    text = last.content or ""
    where = text.find(CONTEXT), text.find(QUERY)
    once = text.count(CONTEXT) == text.count(QUERY) == 1 and where[0] < where[1]
    elsewhere = any(CONTEXT in (m.content or "") or QUERY in (m.content or "") for m in before)
    if not once or elsewhere or any(ROLES[m.role] != "system" for m in before) or ROLES[last.role] != "user":
        raise ArgumentError(f"{rule}, with nothing but system messages before it. It is {template.get_template()!r}")


def fill_template(template: BasePromptTemplate, query: str) -> tuple[list[ChatMessage], str]:
    """The text before the blocks, as system messages, and the text after them."""
    *before, last = template.format_messages(context_str=CONTEXT, query_str=query)
    lead, _, after = (last.content or "").partition(CONTEXT)
    if lead.strip():
        before.append(ChatMessage(role=MessageRole.SYSTEM, content=lead.strip()))
    return before, after.strip()


def text_of(block: CitableBlock) -> str:
    """The text of one block, which is encoded.

    Raises
    ------
    ContentError
        If it holds content that is not text.
    """
    parts = []
    for part in block.content:
        if not isinstance(part, TextBlock):
            raise _unreadable(part)
        parts.append(part.text)
    return "\n\n".join(parts)


def _texts(message: ChatMessage) -> Iterator[str]:
    for block in message.blocks:
        if isinstance(block, TextBlock):
            yield block.text
        elif isinstance(block, CitationBlock) and isinstance(block.cited_content, TextBlock):
            yield block.cited_content.text
        elif not isinstance(block, CitableBlock) and block.block_type not in UNSAID:
            raise _unreadable(block)


def _unreadable(block: object) -> ContentError:
    return ContentError(
        f"a message holds a {type(block).__name__}; this model reads TextBlock, and CitableBlock of text. Convert "
        "it to text first."
    )
