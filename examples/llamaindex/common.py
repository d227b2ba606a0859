"""What the programs share: the flags, and the models over one folder of block KV."""

import argparse
from pathlib import Path

from llama_index.core import Document, SimpleDirectoryReader

from blockrag.llamaindex import BlockAttentionLLM, BlockRAGEmbedding, SemanticBlockNodeParser


def flags(about: str) -> argparse.ArgumentParser:
    """``DOCUMENTS --store --model --max-tokens``."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("documents", type=Path, help="folder of documents")
    parser.add_argument("--store", type=Path, default=Path("store"), help="folder of block KV (default: %(default)s)")
    parser.add_argument("--model", default="auto", help="answering model (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=64, help="longest answer (default: %(default)s)")
    return parser


def read(folder: Path) -> list[Document]:
    """The documents of a folder; the path of a file is its id."""
    return SimpleDirectoryReader(str(folder), filename_as_id=True).load_data()


def models(args: argparse.Namespace) -> tuple[BlockAttentionLLM, BlockRAGEmbedding, SemanticBlockNodeParser]:
    """The LLM, the embedding and the node parser of one engine."""
    llm = BlockAttentionLLM.from_pretrained(args.model, kv_dir=args.store / "kv", max_tokens=args.max_tokens)
    return llm, BlockRAGEmbedding.from_engine(llm.engine), SemanticBlockNodeParser.from_engine(llm.engine)
