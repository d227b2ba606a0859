"""Ingest a folder again and again: only what changed is parsed, embedded and encoded, by two workers."""

from common import flags, models, read
from llama_index.core.ingestion import DocstoreStrategy, IngestionCache, IngestionPipeline
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore

from blockrag.llamaindex import BlockKVVectorStore

parser = flags("Ingest a folder with a cache, upserts and workers.")
parser.add_argument("--workers", type=int, default=2, help="processes that parse (default: %(default)s)")


def main() -> None:
    """Run the pipeline twice, the second time with one document changed."""
    args = parser.parse_args()
    llm, embed_model, node_parser = models(args)
    store = BlockKVVectorStore(SimpleVectorStore(), llm)
    pipeline = IngestionPipeline(
        transformations=[node_parser, embed_model],
        vector_store=store,
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS,
        cache=IngestionCache(),
    )
    documents = read(args.documents)
    first = pipeline.run(documents=documents, num_workers=args.workers)
    documents[0].set_content(documents[0].text + "\nOne more line.")
    second = pipeline.run(documents=documents)  # one document needs no workers
    print(f"{len(first)} nodes, then {len(second)} of the changed document")


if __name__ == "__main__":  # workers import this module
    main()
