"""Splits documents into nodes that are blocks, with their offsets."""

import asyncio
from collections.abc import Sequence
from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr, model_validator
from llama_index.core.node_parser import NodeParser
from llama_index.core.node_parser.node_utils import build_nodes_from_splits
from llama_index.core.schema import BaseNode, Document, MetadataMode, TextNode
from llama_index.core.utils import get_tqdm_iterable

import blockrag
from blockrag import arguments
from blockrag.documents import Document as BlockDocument
from blockrag.documents.document import without_surrogates
from blockrag.engine import Engine
from blockrag.llamaindex.embedding import fields_of
from blockrag.models import AUTO, DEFAULT_EMBEDDER, DEFAULT_MODEL, choose_model
from blockrag.models.load import load_tokenizer
from blockrag.retrieve.embedder import load_embedder
from blockrag.segment import (
    DEFAULT_GRANULARITY,
    DEFAULT_SEGMENTER,
    SEGMENTERS,
    Embed,
    HFTokenCounter,
    Segmentation,
    Segmenter,
    SizeBounds,
    TokenCounter,
    make_segmenter,
)

_NO_CHUNKS = "Blocks have min_tokens, max_tokens and a granularity; they do not overlap"


class SemanticBlockNodeParser(NodeParser):
    """Splits documents into semantic blocks. Nodes tile their document: their texts joined are its text.

    The fields below, and the version of this library, are part of the key of an ingestion cache.

    Attributes
    ----------
    segmenter : str
        A key of `blockrag.segment.SEGMENTERS`.
    granularity : float
        From 0 (coarsest) to 1 (finest); a finer one only adds boundaries.
    min_tokens, max_tokens : int
        Hard bounds on the size of a block.
    model : str
        Name of the model whose tokens are counted.
    embedder : str
        For segmenters that compare embeddings.

    Raises
    ------
    ArgumentError
        If a field has a value that is not allowed.
    SegmentationError
        If the bounds contradict each other.
    TypeError
        If an argument is unknown.
    """

    segmenter: str = Field(default=DEFAULT_SEGMENTER, description="Name of the segmenter.")
    granularity: float = Field(default=DEFAULT_GRANULARITY, ge=0, le=1, description="0 coarsest to 1 finest.")
    min_tokens: int = Field(default=SizeBounds().minimum, description="Fewest tokens of a block.")
    max_tokens: int = Field(default=SizeBounds().maximum, description="Most tokens of a block.")
    model: str = Field(default=DEFAULT_MODEL, description="The model whose tokens are counted.")
    embedder: str = Field(default=DEFAULT_EMBEDDER, description="For segmenters that compare embeddings.")
    version: str = Field(default=blockrag.__version__, description="Of the library.")
    _counter: TokenCounter | None = PrivateAttr(default=None)
    _embed: Embed | None = PrivateAttr(default=None)
    _scorer: Segmenter | None = PrivateAttr(default=None)

    def __init__(self, **settings: Any):
        _check_settings(settings)  # here, since pydantic replaces errors of validators
        super().__init__(**settings)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self).model_fields:
            _check_settings({name: value})
            self._scorer = None
        super().__setattr__(name, value)

    @classmethod
    def class_name(cls) -> str:
        """Name in serialised form, and in cache keys."""
        return "SemanticBlockNodeParser"

    @classmethod
    def from_defaults(cls, **settings: Any) -> "SemanticBlockNodeParser":
        """The parser with these fields, as other node parsers of LlamaIndex are made."""
        return cls(**settings)

    def split_text(self, text: str) -> list[str]:
        """The blocks of a text; joined they are the text."""
        return [node.text for node in self._blocks(TextNode(text=arguments.text("text", text)))]

    @classmethod
    def from_engine(cls, engine: Engine, **settings: Any) -> "SemanticBlockNodeParser":
        """Use the tokenizer and the embedder of an engine (for example ``llm.engine``) instead of loading them."""
        arguments.instance("engine", engine, Engine)
        allowed = cls.model_fields.keys() - {"model", "embedder"}
        arguments.known("SemanticBlockNodeParser.from_engine", settings, allowed, _NO_CHUNKS)
        parser = cls(model=engine.model.weights_id, embedder=engine.embedder.weights_id, **settings)
        parser._counter, parser._embed = engine.token_counter, engine.embedder.embed
        return parser

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the tokenizer and the embedder that it was given, for workers of an `IngestionPipeline`."""
        return _restore, (type(self), fields_of(self), self._counter, self._embed)

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, data: Any) -> Any:
        if isinstance(data, dict):
            arguments.known("SemanticBlockNodeParser", data, {*cls.model_fields, "class_name"}, _NO_CHUNKS)
        return data

    @model_validator(mode="after")
    def _check(self) -> "SemanticBlockNodeParser":
        SizeBounds(self.min_tokens, self.max_tokens)
        if self.model == AUTO:  # named, since caches of nodes are keyed by it and may move to another machine
            self.model = choose_model().name
        return self

    def _parse_nodes(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> list[BaseNode]:
        parsed: list[BaseNode] = []
        for node in get_tqdm_iterable(nodes, show_progress, "Cutting into blocks"):
            parsed += self._blocks(node)
        return parsed

    async def _aparse_nodes(
        self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any
    ) -> list[BaseNode]:
        return await asyncio.to_thread(self._parse_nodes, nodes, show_progress, **kwargs)

    def _postprocess_parsed_nodes(self, nodes: list[BaseNode], parent_doc_map: dict[str, Document]) -> list[BaseNode]:
        """Keep the exact offsets: LlamaIndex would search for the text, which may occur several times."""
        spans = [(node.start_char_idx, node.end_char_idx) for node in nodes if isinstance(node, TextNode)]
        nodes = super()._postprocess_parsed_nodes(nodes, parent_doc_map)
        for node, (start, end) in zip(nodes, spans, strict=True):
            node.start_char_idx, node.end_char_idx = start, end
        return nodes

    def _blocks(self, node: BaseNode) -> list[TextNode]:
        """The blocks of one document, or of a node, at offsets in the node's document."""
        text = without_surrogates(node.get_content(metadata_mode=MetadataMode.NONE))
        if not text.strip():
            return []
        document = BlockDocument(node.node_id, "text/plain", text)
        bounds = SizeBounds(self.min_tokens, self.max_tokens)
        counter, scorer = self._tools()
        blocks = Segmentation.create(document, scorer, counter, bounds).blocks(self.granularity)
        made = build_nodes_from_splits([text[b.start : b.end] for b in blocks], node, id_func=self.id_func)
        first = getattr(node, "start_char_idx", None) or 0
        for block, new in zip(blocks, made, strict=True):
            new.start_char_idx, new.end_char_idx = first + block.start, first + block.end
        return made

    def _tools(self) -> tuple[TokenCounter, Segmenter]:
        if self._counter is None:
            self._counter = HFTokenCounter(load_tokenizer(self.model))
        if self._scorer is None:
            self._scorer = make_segmenter(self.segmenter, counter=self._counter, embed=self._embed or self._embed_texts)
        return self._counter, self._scorer

    def _embed_texts(self, texts: Sequence[str]) -> Any:
        self._embed = load_embedder(self.embedder).embed
        return self._embed(texts)


def _check_settings(settings: dict[str, Any]) -> None:
    """Raise ArgumentError if a field has a value that is not allowed."""
    if "segmenter" in settings:
        arguments.one_of("segmenter", settings["segmenter"], SEGMENTERS)
    if "granularity" in settings:
        arguments.fraction("granularity", settings["granularity"])
    for name in settings.keys() & {"model", "embedder"}:
        arguments.filled(name, settings[name])
    for name in settings.keys() & {"min_tokens", "max_tokens"}:
        arguments.whole(name, settings[name])


def _restore(
    kind: type[SemanticBlockNodeParser], fields: dict[str, Any], counter: TokenCounter | None, embed: Embed | None
) -> SemanticBlockNodeParser:
    """Undo `SemanticBlockNodeParser.__reduce__`."""
    parser = kind(**fields)
    parser._counter, parser._embed = counter, embed
    return parser
