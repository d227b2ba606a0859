"""A chat over a folder of documents. Index, block KV and chat are saved.

    python examples/chat_over_collection.py docs README.md --store S --ask "What is a block?" "And a boundary?"

Without ``--ask`` it reads questions from standard input. A second run indexes only changed documents.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.vector_stores import SimpleVectorStore

from blockrag import DocumentError, load_many
from blockrag.llamaindex import (
    BlockAttentionLLM,
    BlockContextChatEngine,
    BlockKVVectorStore,
    BlockRAGEmbedding,
    SemanticBlockNodeParser,
)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", type=Path, help="files and folders")
    parser.add_argument("--store", type=Path, required=True, help="folder for index, block KV and chat")
    parser.add_argument("--ask", nargs="+", help="questions (default: read from standard input)")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--top-k", type=int, default=6)
    parser.add_argument("--max-tokens", type=int, default=64)
    return parser.parse_args()


def documents(sources: Iterable[Path]) -> list[Document]:
    """All readable files; the others are reported."""
    files = [
        f for source in sources for f in (sorted(source.rglob("*")) if source.is_dir() else [source]) if f.is_file()
    ]
    found = []
    for path, document in zip(files, load_many(files), strict=True):
        if isinstance(document, DocumentError):
            print(f"skipped: {document}", file=sys.stderr)
        else:
            found.append(Document(text=document.text, id_=str(path), metadata={"file_name": document.name}))
    return found


def open_index(store: Path, llm: BlockAttentionLLM) -> VectorStoreIndex:
    """The index in `store`, or a new one."""
    folder = str(store / "index")
    kept = (store / "index").exists()
    vectors = SimpleVectorStore.from_persist_dir(folder) if kept else SimpleVectorStore()
    context = StorageContext.from_defaults(
        vector_store=BlockKVVectorStore(vectors, llm), persist_dir=folder if kept else None
    )
    settings: Any = {
        "embed_model": BlockRAGEmbedding.from_engine(llm.engine),
        "transformations": [SemanticBlockNodeParser.from_engine(llm.engine)],
    }
    if kept:
        return load_index_from_storage(context, **settings)
    return VectorStoreIndex([], storage_context=context, **settings)


def bring_up_to_date(index: VectorStoreIndex, found: list[Document]) -> None:
    """Index new and changed documents; delete missing ones with their KV."""
    for gone in set(index.ref_doc_info) - {document.id_ for document in found}:
        index.delete_ref_doc(gone, delete_from_docstore=True)
    changed = index.refresh_ref_docs(found)
    print(f"{sum(changed)} of {len(found)} documents are new or changed")


def main() -> None:
    """Update the store, then answer."""
    args = arguments()
    llm = BlockAttentionLLM.from_pretrained(args.model, kv_dir=args.store / "kv", max_tokens=args.max_tokens)
    index = open_index(args.store, llm)
    bring_up_to_date(index, documents(args.sources))
    index.storage_context.persist(str(args.store / "index"))
    chat = BlockContextChatEngine.from_defaults(
        retriever=index.as_retriever(similarity_top_k=args.top_k), llm=llm, chat_history=read_chat(args.store)
    )
    for question in args.ask or (line.strip() for line in sys.stdin):
        if question:
            answer(chat, question)
            write_chat(args.store, chat.chat_history)


def read_chat(store: Path) -> list[ChatMessage]:
    """Messages of earlier runs."""
    kept = store / "chat.json"
    return [ChatMessage(**message) for message in json.loads(kept.read_text())] if kept.exists() else []


def write_chat(store: Path, messages: list[ChatMessage]) -> None:
    """Save the messages."""
    said = [{"role": message.role.value, "content": message.content} for message in messages]
    (store / "chat.json").write_text(json.dumps(said))


def answer(chat: BlockContextChatEngine, question: str) -> None:
    """Stream one answer, then print its sources and its cost."""
    print(f"\n> {question}")
    response = chat.stream_chat(question)
    for piece in response.response_gen:
        print(piece, end="", flush=True)
    for found in response.source_nodes:
        print(f"\n  {found.score:.2f} {found.node.metadata['file_name']}: {' '.join(found.text.split())[:70]}", end="")
    report = response.metadata["blockrag"]
    print(
        f"\n  first token after {report['ttft_ms']:.0f} ms; {report['n_tokens_saved']} of "
        f"{report['n_context_tokens']} tokens reused from cache"
    )


if __name__ == "__main__":
    main()
