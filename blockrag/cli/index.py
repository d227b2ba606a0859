"""``index``: put files into an index, with the KV of their blocks."""

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from blockrag.cli import options
from blockrag.cli.bars import Bars
from blockrag.documents import Document, load_many
from blockrag.errors import DocumentError
from blockrag.segment import SizeBounds

if TYPE_CHECKING:
    from blockrag.pipeline import Pipeline

HELP = "Add files to an index: cut them into blocks, embed each, encode its KV once."
EPILOG = "Example: python -m blockrag index report.pdf notes.md --store S"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("files", nargs="+", help="documents to add")
    options.add_store_option(parser)
    options.add_segment_options(parser)
    options.add_model_options(parser)
    options.add_kv_options(parser)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Index the files; those that cannot be read are told and passed over."""
    rag = options.open_store(args)
    added, errors = [], []
    for document in load_many(args.files):
        if isinstance(document, DocumentError):
            print(f"blockrag: {document}", file=sys.stderr)
            errors.append({"document": document.name, "reason": document.reason})
        else:
            added.append(_add(rag, document, args))
    if args.json:
        options.print_json({"store": str(args.store), "documents": added, "errors": errors, "n_blocks": len(rag.index)})
    else:
        print(f"{len(added)} documents added; the index holds {len(rag.index)} blocks.")
    if not errors:
        return 0
    return 3 if added else 1


def _add(rag: "Pipeline", document: Document, args: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()
    bounds, bars = SizeBounds(args.min_tokens, args.max_tokens), Bars(document.name)
    segmentation = rag.segment(document, args.segmenter, bounds, bars.show)
    rag.add(segmentation, args.granularity, bars.show)
    bars.close()
    blocks = segmentation.blocks(args.granularity)
    return {
        "document": document.name,
        "document_id": document.sha256,
        "n_blocks": len(blocks),
        "n_tokens": sum(block.n_tokens for block in blocks),
        "n_reused": bars.n_reused,
        "seconds": round(time.perf_counter() - started, 3),
    }
