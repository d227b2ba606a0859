"""The library's sentence encoder as a LlamaIndex embedding."""

import asyncio
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import BaseModel, PrivateAttr

from blockrag import arguments
from blockrag.engine import Engine
from blockrag.errors import ArgumentError
from blockrag.models import DEFAULT_EMBEDDER
from blockrag.retrieve.embedder import Embedder, load_embedder


class BlockRAGEmbedding(BaseEmbedding):
    """Unit vectors of the encoder that the library's own index uses.

    Parameters
    ----------
    embedder : Embedder
        For example ``llm.engine.embedder``.
    """

    _embedder: Embedder = PrivateAttr()

    def __init__(self, embedder: Embedder, **kwargs: Any):
        arguments.known("BlockRAGEmbedding", kwargs, type(self).model_fields)
        if not hasattr(embedder, "embed_query"):
            told = f"embedder is {embedder!r}; give an Embedder, or call BlockRAGEmbedding.from_pretrained"
            raise ArgumentError(told)
        kwargs.setdefault("model_name", embedder.weights_id)
        super().__init__(**kwargs)
        self._embedder = embedder

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the encoder, whose weights another process loads again."""
        return _restore, (type(self), fields_of(self), self._embedder)

    @classmethod
    def from_pretrained(
        cls,
        embedder: str = DEFAULT_EMBEDDER,
        device: str | None = None,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
    ) -> "BlockRAGEmbedding":
        """Load an encoder by name (catalog, Hugging Face hub) or folder, downloading it if needed; see `load_embedder`.

        Raises
        ------
        ArgumentError, WeightsError
        """
        return cls(load_embedder(embedder, device, query_prefix, passage_prefix))

    @classmethod
    def from_engine(cls, engine: Engine) -> "BlockRAGEmbedding":
        """Use the encoder of an engine, for example ``llm.engine``."""
        return cls(arguments.instance("engine", engine, Engine).embedder)

    @classmethod
    def class_name(cls) -> str:
        """Name in serialised form, and in cache keys."""
        return "BlockRAGEmbedding"

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.embed([arguments.text("text", text) for text in texts]).tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embedder.embed_query(arguments.text("query", query)).tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


def fields_of(component: BaseModel) -> dict[str, Any]:
    """The fields of a component that are pickled: callbacks belong to their process."""
    return {name: getattr(component, name) for name in type(component).model_fields if name != "callback_manager"}


def _restore(kind: type[BlockRAGEmbedding], fields: dict[str, Any], embedder: Embedder) -> BlockRAGEmbedding:
    """Undo `BlockRAGEmbedding.__reduce__`."""
    return kind(embedder, **fields)
