"""Nodes are blocks: exact, related, the same through a pipeline and its cache."""

import asyncio
import pickle

import pytest
from llama_index.core import Document
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import MetadataMode, NodeRelationship

from blockrag.errors import SegmentationError
from blockrag.llamaindex import SemanticBlockNodeParser
from tests.llamaindex.cities import CITIES


def test_nodes_tile_the_document_at_their_offsets(nodes, documents):
    for document in documents:
        own = [node for node in nodes if node.ref_doc_id == document.id_]
        assert "".join(node.text for node in own) == document.text and len(own) > 1
        for node in own:
            assert document.text[node.start_char_idx : node.end_char_idx] == node.text
        assert [n.start_char_idx for n in own] == sorted({n.start_char_idx for n in own}), "repeated text, own place"


def test_nodes_know_their_neighbours_and_keep_metadata(nodes):
    first, second = nodes[0], nodes[1]
    assert first.relationships[NodeRelationship.NEXT].node_id == second.node_id
    assert second.relationships[NodeRelationship.PREVIOUS].node_id == first.node_id
    assert first.metadata == {"topic": "cities of the world"}
    assert "topic: cities" in first.get_content(metadata_mode=MetadataMode.LLM)


def test_finer_granularity_only_adds_boundaries(parser, documents):
    starts, parser.max_tokens = [], 400
    for granularity in (0.0, 0.5, 1.0):
        parser.granularity = granularity
        starts.append({n.start_char_idx for n in parser.get_nodes_from_documents(documents[:1])})
    assert starts[0] <= starts[1] <= starts[2] and len(starts[0]) < len(starts[2])


def test_blocks_of_a_part_stand_at_offsets_of_the_whole(parser, documents):
    parts = SentenceSplitter(chunk_size=60, chunk_overlap=0).get_nodes_from_documents(documents[:1])
    assert len(parts) > 1
    for node in parser(parts):
        assert documents[0].text[node.start_char_idx : node.end_char_idx] == node.text


def test_an_empty_document_has_no_nodes(parser):
    assert parser.get_nodes_from_documents([Document(text=""), Document(text=" \n\n ")]) == []


def test_ids_are_the_callers_choice(parser, documents):
    parser.id_func = lambda i, doc: f"{doc.node_id}-{i}"
    assert [n.node_id for n in parser.get_nodes_from_documents(documents[1:])][:2] == ["lima-0", "lima-1"]


def test_bounds_that_cannot_be_kept_are_refused():
    with pytest.raises(SegmentationError, match="are impossible"):
        SemanticBlockNodeParser(min_tokens=100, max_tokens=120)


class Counting(SemanticBlockNodeParser):
    """Counts how often it works."""

    calls: int = 0

    def _parse_nodes(self, nodes, show_progress=False, **kwargs):
        object.__setattr__(self, "_n", getattr(self, "_n", 0) + 1)
        return super()._parse_nodes(nodes, show_progress, **kwargs)


def test_a_pipeline_hits_its_cache_and_a_setting_misses_it(llm, documents):
    settings = {"segmenter": "structural", "min_tokens": 16, "max_tokens": 64}
    parser = Counting.from_engine(llm.engine, **settings)
    cache = IngestionCache()
    first = IngestionPipeline(transformations=[parser], cache=cache).run(documents=documents)
    again = IngestionPipeline(transformations=[parser], cache=cache).run(documents=documents)
    assert parser._n == 1 and [n.node_id for n in again] == [n.node_id for n in first]
    assert [(n.start_char_idx, n.end_char_idx) for n in again] == [(n.start_char_idx, n.end_char_idx) for n in first]
    other = Counting.from_engine(llm.engine, granularity=1.0, **settings)
    IngestionPipeline(transformations=[other], cache=cache).run(documents=documents)
    assert other._n == 1


def test_a_pipeline_and_its_cache_persist(parser, documents, tmp_path):
    pipeline = IngestionPipeline(transformations=[parser])
    nodes = pipeline.run(documents=documents)
    pipeline.persist(str(tmp_path / "pipeline"))
    again = IngestionPipeline(transformations=[parser])
    again.load(str(tmp_path / "pipeline"))
    assert [n.node_id for n in again.run(documents=documents)] == [n.node_id for n in nodes]


def test_async_gives_the_same(parser, documents):
    sync = [n.text for n in parser.get_nodes_from_documents(documents)]
    assert [n.text for n in asyncio.run(parser.aget_nodes_from_documents(documents))] == sync
    arun = IngestionPipeline(transformations=[parser]).arun(documents=documents)
    assert [n.text for n in asyncio.run(arun)] == sync


@pytest.mark.weights
def test_by_names_alone_with_real_weights_even_from_another_process(smollm2_path, minilm_path):
    parser = SemanticBlockNodeParser(model="smollm2", segmenter="similarity", min_tokens=16, max_tokens=64)
    again = pickle.loads(pickle.dumps(parser))
    nodes = again.get_nodes_from_documents([Document(text=CITIES)])
    assert "".join(n.text for n in nodes) == CITIES and len(nodes) > 1
    assert again.to_dict() == parser.to_dict()
