"""``index``: put files into an index, with the KV of their blocks."""

import argparse
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from blockrag.cli import options
from blockrag.documents import Document, load_many
from blockrag.errors import DocumentError
from blockrag.segment import SizeBounds

if TYPE_CHECKING:
    from blockrag.engine import Progress
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
    segmentation = rag.segment(document, args.segmenter, SizeBounds(args.min_tokens, args.max_tokens))
    last = _show(rag.add(segmentation, args.granularity), document.name)
    blocks = segmentation.blocks(args.granularity)
    return {
        "document": document.name,
        "document_id": document.sha256,
        "n_blocks": len(blocks),
        "n_tokens": sum(block.n_tokens for block in blocks),
        "n_reused": last.reused,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _show(steps: "Iterable[Progress]", name: str) -> "Progress":
    """Draw a bar for each stage; returns the last step."""
    bar: tqdm | None = None
    stage = ""
    for step in steps:
        if bar is None or step.stage != stage:
            if bar is not None:
                bar.close()
            stage = step.stage
            bar = tqdm(desc=f"{name}: {stage}", total=step.total, unit="block", file=sys.stderr)
        bar.update(step.done - bar.n)
    if bar is not None:
        bar.close()
    return step
