"""What an index tells of its documents and of what a search found."""

from dataclasses import dataclass

from blockrag.documents import Document
from blockrag.segment import Block


@dataclass(frozen=True)
class DocumentRecord:
    """A document in the index: `id` is its sha256."""

    id: str
    name: str
    n_blocks: int
    n_tokens: int


@dataclass(frozen=True)
class Found:
    """A block that a search returned, its document, and the cosine similarity to the question."""

    document: Document
    block: Block
    similarity: float

    @property
    def text(self) -> str:
        """The block's text."""
        return self.document.text[self.block.start : self.block.end]
