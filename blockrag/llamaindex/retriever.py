"""A LlamaIndex retriever over an index of this library."""

import asyncio
from inspect import signature
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode

from blockrag import arguments
from blockrag.events import Source
from blockrag.pipeline import DEFAULT_RETRIEVAL, Pipeline
from blockrag.rag import BlockRAG
from blockrag.retrieval import Retrieval


class BlockRAGRetriever(BaseRetriever):
    """Finds the blocks nearest to a question. Their KV was encoded when they were indexed.

    The nodes have the block's text and exact offsets; ids that are the same every time
    (``<id of the document>:<start>-<end>``); and as metadata ``file_name`` and, of documents with pages,
    ``page_label``, neither shown to an LLM unless taken from `excluded_llm_metadata_keys`.

    Parameters
    ----------
    rag : BlockRAG or Pipeline
    similarity_top_k : int
        Blocks to find.
    retrieval : Retrieval, optional
        How they are found: by vectors, words or both, with neighbours, in which documents.
    **kwargs
        See `BaseRetriever`.

    Raises
    ------
    ArgumentError
        If an argument has a value that is not allowed.
    IndexStoreError
        By `retrieve`, if the index is closed.
    """

    def __init__(
        self,
        rag: BlockRAG | Pipeline,
        similarity_top_k: int = 8,
        retrieval: Retrieval = DEFAULT_RETRIEVAL,
        **kwargs: Any,
    ):
        arguments.known("BlockRAGRetriever", kwargs, signature(BaseRetriever.__init__).parameters.keys() - {"self"})
        self._pipeline = rag.pipeline if isinstance(rag, BlockRAG) else arguments.instance("rag", rag, Pipeline)
        self.similarity_top_k = arguments.whole("similarity_top_k", similarity_top_k)
        self.retrieval = arguments.instance("retrieval", retrieval, Retrieval)
        super().__init__(**kwargs)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._pipeline.search(query_bundle.query_str, self.similarity_top_k, self.retrieval)
        return [_node(source) for source in found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _node(source: Source) -> NodeWithScore:
    metadata: dict[str, Any] = {"file_name": source.document}
    if source.page is not None:
        metadata["page_label"] = str(source.page)
    node = TextNode(
        id_=f"{source.document_id}:{source.start}-{source.end}",
        text=source.text,
        start_char_idx=source.start,
        end_char_idx=source.end,
        metadata=metadata,
        excluded_llm_metadata_keys=list(metadata),
        excluded_embed_metadata_keys=list(metadata),
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source.document_id)},
    )
    return NodeWithScore(node=node, score=source.score)
