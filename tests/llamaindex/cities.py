"""A text with a passage that comes twice, a question to it, and what tests of LlamaIndex look at."""

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage, CitableBlock, MessageRole, TextBlock
from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores import SimpleVectorStore

from blockrag.llamaindex import BlockAttentionLLM, BlockKVVectorStore
from tests.tiny import tiny_engine

CITIES = (
    "# Paris\n\nThe river Seine flows through Paris, and the tower stands near it since 1889.\n\n"
    "# Rome\n\nThe river Tiber flows through Rome; the Colosseum was finished in the year 80.\n\n"
    "# Cairo\n\nThe river Nile flows through Cairo. The pyramids of Giza are close to the city.\n\n"
    "# Paris\n\nThe river Seine flows through Paris, and the tower stands near it since 1889.\n\n"
)
QUESTION = "Which river flows through Rome?"
TEXTS = ["The river Tiber flows through Rome.", "The river Nile flows through Cairo.", "Lima lies by the sea."]


def chat_of(texts=TEXTS, question=QUESTION, titles=("", "", ""), before=()):
    blocks = [
        CitableBlock(title=t, source=str(n), content=c) for n, (c, t) in enumerate(zip(texts, titles, strict=False))
    ]
    return [*before, ChatMessage(role=MessageRole.USER, blocks=[*blocks, TextBlock(text=question)])]


class Given(BaseRetriever):
    """Finds what it was given."""

    def __init__(self, nodes):
        self.found = [NodeWithScore(node=node, score=1 - 0.1 * n) for n, node in enumerate(nodes)]
        super().__init__()

    def _retrieve(self, query_bundle):
        return self.found


def report(response):
    """The report of an LLM's response, or of a query's."""
    return response.raw["blockrag"] if hasattr(response, "raw") else response.metadata["blockrag"]


def kv_files(llm):
    """Keys of the block KVs on disk."""
    return {path.stem for path in llm.engine.kv_dir.glob("*/*.safetensors")}


def count_and_delete(tell, kv_dir, kv_keys):
    """Another process: it tells how many of the block KVs are there, and deletes a document's."""
    llm = BlockAttentionLLM(tiny_engine(kv_dir), kv_dir=kv_dir)
    tell(sum(key in llm.engine.kv for key in kv_keys))
    BlockKVVectorStore(SimpleVectorStore(), llm).delete("cities")
