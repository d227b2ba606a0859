"""``index``: add files to an index, with the KV of their blocks."""

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from blockrag.cli import options
from blockrag.documents import Document, load_many
from blockrag.documents.folder import find_files
from blockrag.errors import DocumentError
from blockrag.progress import ProgressBars
from blockrag.segment import SizeBounds

if TYPE_CHECKING:
    from blockrag.index import DocumentRecord
    from blockrag.pipeline import Pipeline

HELP = "Add files to an index, or replace changed ones: split them into blocks, embed each and encode its KV."
EPILOG = "Example: python -m blockrag index report.pdf notes.md --store S"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("files", nargs="+", help="files, folders or patterns such as papers/**/*.pdf")
    options.add_indexing_options(parser)


def run(args: argparse.Namespace) -> int:
    """Index the files. Files that cannot be read are reported and skipped."""
    pipeline = options.open_store(args)
    added, errors = [], []
    for document in load_many(find_files(args.files), encoding=args.encoding, ocr=args.ocr):
        if isinstance(document, DocumentError):
            print(f"blockrag: {document}", file=sys.stderr)
            errors.append({"document": document.name, "reason": document.reason})
        else:
            added.append(add_document(pipeline, document, args)[1])
    if args.json:
        options.print_json(
            {"store": str(args.store), "documents": added, "errors": errors, "n_blocks": len(pipeline.index)}
        )
    else:
        print(f"{len(added)} documents added; the index holds {len(pipeline.index)} blocks.")
    if not errors:
        return 0
    return 3 if added else 1


def add_document(
    pipeline: "Pipeline", document: Document, args: argparse.Namespace
) -> tuple["DocumentRecord", dict[str, Any]]:
    """Index a document with progress bars; its record, and what ``--json`` says of it."""
    started = time.perf_counter()
    bounds, bars = SizeBounds(args.min_tokens, args.max_tokens), ProgressBars(document.name)
    segmentation = pipeline.segment(document, args.segmenter, bounds, bars)
    record = pipeline.add(segmentation, args.granularity, bars)
    bars.close()
    options.print_notes(segmentation.document)
    return record, {
        "document": record.name,
        "source": record.source,
        "document_id": record.id,
        "sha256": record.sha256,
        "encoding": document.encoding,
        "notes": record.notes,
        "n_blocks": record.n_blocks,
        "n_tokens": record.n_tokens,
        "n_reused": bars.n_reused,
        "seconds": round(time.perf_counter() - started, 3),
    }
