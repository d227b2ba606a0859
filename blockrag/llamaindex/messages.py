"""Splits LlamaIndex's chat messages into blocks and the conversation around them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llama_index.core.base.llms.types import ChatMessage, CitableBlock, CitationBlock, MessageRole, TextBlock

from blockrag.errors import ContentError
from blockrag.prompt import Message, Role

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
    """
    blocks = [block for message in messages for block in message.blocks if isinstance(block, CitableBlock)]
    for block in blocks:
        text_of(block)
    said = [Message(ROLES[message.role], "\n".join(_texts(message))) for message in messages]
    return Chat(tuple(blocks), tuple(message for message in said if message.text.strip()))


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
