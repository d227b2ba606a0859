"""Wraps any LlamaIndex vector store, and keeps the block KV of its nodes in step."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.simple import DEFAULT_PERSIST_DIR, DEFAULT_PERSIST_FNAME
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from blockrag import arguments
from blockrag.llamaindex.ledger import Ledger
from blockrag.llamaindex.llm import BlockAttentionLLM

DEFAULT_PATH = os.path.join(DEFAULT_PERSIST_DIR, DEFAULT_PERSIST_FNAME)
"""LlamaIndex's own."""

LEDGER = "nodes.sqlite"
"""File in the LLM's `kv_dir`: which nodes use which KV."""


class BlockKVVectorStore(BasePydanticVectorStore):
    """Wraps a vector store: adding a node encodes its KV, deleting it deletes the KV that no other node uses.

    All deletions in LlamaIndex (`delete_ref_doc`, `delete_nodes`, upserts of an `IngestionPipeline`) call this class.

    Parameters
    ----------
    vector_store : BasePydanticVectorStore
        The store of text and vectors: LlamaIndex's own, Qdrant, PostgreSQL with pgvector.
    llm : BlockAttentionLLM
        The LLM that will answer. If it has a `kv_dir`, the uses of KV are recorded there, for all processes.
    encode_at : "ingestion" or "first use"
        When KV is computed. "first use" delays the first answer.
    collection : str
        Name that distinguishes the stores of one `kv_dir`.

    Raises
    ------
    ArgumentError
        If an argument has a value that is not allowed.
    IndexStoreError
        If the ledger in `kv_dir` is damaged.
    """

    stores_text: bool
    encode_at: Literal["ingestion", "first use"] = Field(default="ingestion")
    collection: str = Field(default="default")
    _store: BasePydanticVectorStore = PrivateAttr()
    _llm: BlockAttentionLLM = PrivateAttr()
    _ledger: Ledger = PrivateAttr()

    def __init__(
        self,
        vector_store: BasePydanticVectorStore,
        llm: BlockAttentionLLM,
        *,
        encode_at: Literal["ingestion", "first use"] = "ingestion",
        collection: str = "default",
    ):
        arguments.instance("vector_store", vector_store, BasePydanticVectorStore)
        arguments.instance("llm", llm, BlockAttentionLLM)
        arguments.one_of("encode_at", encode_at, ("ingestion", "first use"))
        arguments.filled("collection", collection)
        super().__init__(
            stores_text=vector_store.stores_text,
            is_embedding_query=vector_store.is_embedding_query,
            encode_at=encode_at,
            collection=collection,
        )
        self._store, self._llm = vector_store, llm
        self._ledger = Ledger(Path(llm.kv_dir) / LEDGER if llm.kv_dir else None)

    @classmethod
    def class_name(cls) -> str:
        """Name in serialised form."""
        return "BlockKVVectorStore"

    @property
    def client(self) -> Any:
        """See the wrapped store."""
        return self._store.client

    @property
    def vector_store(self) -> BasePydanticVectorStore:
        """The wrapped store."""
        return self._store

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Add nodes with their vectors, and encode their KV if that is done at ingestion.

        Raises
        ------
        DeviceMemoryError
            If the device's memory is too small; nothing is added then.
        """
        keys = self._encode(nodes)
        ids = self._store.add(list(nodes), **kwargs)
        self._enter(nodes, keys)
        return ids

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """See `add`; encodes in a thread."""
        keys = await asyncio.to_thread(self._encode, nodes)
        ids = await self._store.async_add(list(nodes), **kwargs)
        self._enter(nodes, keys)
        return ids

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes of a document, and their KV."""
        self._store.delete(ref_doc_id, **delete_kwargs)
        self._forget(self._ledger.remove_document(self.collection, ref_doc_id))

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """See `delete`."""
        await self._store.adelete(ref_doc_id, **delete_kwargs)
        self._forget(self._ledger.remove_document(self.collection, ref_doc_id))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete nodes, and their KV."""
        ids = self._ids(node_ids, filters)
        self._store.delete_nodes(node_ids, filters, **delete_kwargs)
        self._forget(self._ledger.remove_nodes(self.collection, ids))

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """See `delete_nodes`."""
        ids = await asyncio.to_thread(self._ids, node_ids, filters)
        await self._store.adelete_nodes(node_ids, filters, **delete_kwargs)
        self._forget(self._ledger.remove_nodes(self.collection, ids))

    def clear(self) -> None:
        """Delete all nodes, and their KV."""
        self._store.clear()
        self._forget(self._ledger.remove_all(self.collection))

    async def aclear(self) -> None:
        """See `clear`."""
        await self._store.aclear()
        self._forget(self._ledger.remove_all(self.collection))

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """See the wrapped store."""
        return self._store.query(query, **kwargs)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """See the wrapped store."""
        return await self._store.aquery(query, **kwargs)

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """See the wrapped store."""
        return self._store.get_nodes(node_ids, filters)

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """See the wrapped store."""
        return await self._store.aget_nodes(node_ids, filters)

    def get(self, text_id: str) -> list[float]:
        """The vector of a node. Raises AttributeError if the wrapped store has no such call."""
        return self._store.get(text_id)

    def persist(self, persist_path: str = DEFAULT_PATH, fs: Any = None) -> None:
        """See the wrapped store; block KV and ledger are on disk already."""
        self._store.persist(persist_path, fs)

    def _encode(self, nodes: Sequence[BaseNode]) -> list[str]:
        """Keys of the nodes' KV, which is encoded if that is done at ingestion."""
        engine = self._llm.engine
        blocks = [engine.prompt.block_ids(_text(node)) for node in nodes]
        keys = [engine.identity.key(token_ids) for token_ids in blocks]
        if self.encode_at == "ingestion":
            engine.warm_blocks(dict(zip(keys, blocks, strict=True)))
        return keys

    def _enter(self, nodes: Sequence[BaseNode], keys: Sequence[str]) -> None:
        uses = [(node.node_id, node.ref_doc_id, key) for node, key in zip(nodes, keys, strict=True)]
        self._forget(self._ledger.enter(self.collection, uses))

    def _ids(self, node_ids: list[str] | None, filters: MetadataFilters | None) -> list[str]:
        """Ids of the nodes that a deletion will remove."""
        if filters is None:
            return node_ids or []
        return [node.node_id for node in self._store.get_nodes(node_ids, filters)]

    def _forget(self, kv_keys: Sequence[str]) -> None:
        for key in kv_keys:
            self._llm.engine.kv.delete(key)


def _text(node: BaseNode) -> str:
    """The text of a node, as `BlockSynthesizer` sends it."""
    return node.get_content(metadata_mode=MetadataMode.NONE)
