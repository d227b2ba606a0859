"""``sync``: bring an index in step with a folder."""

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING

from blockrag.cli import options
from blockrag.cli.index import add_document
from blockrag.documents import Document

if TYPE_CHECKING:
    from blockrag.index import DocumentRecord

HELP = "Bring an index in step with a folder: add new files, replace changed ones, delete what is gone."
EPILOG = "Example: python -m blockrag sync papers/ --store S"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folder", help="folder of documents; folders below it are included")
    options.add_indexing_options(parser)


def run(args: argparse.Namespace) -> int:
    """Go through the folder. Files that cannot be read are reported, and what the index holds of them stays."""
    from blockrag.sync import sync

    pipeline = options.open_store(args)

    def add(document: Document) -> "DocumentRecord":
        return add_document(pipeline, document, args)[0]

    steps = []
    for step in sync(pipeline, args.folder, add, encoding=args.encoding, ocr=args.ocr):
        steps.append({"kind": step.kind, "source": step.source, "notes": step.notes})
        if step.kind != "unchanged":
            print(f"blockrag: {step.kind}: {step.source}", *step.notes, sep="\n  ", file=sys.stderr)
    counts = Counter(step["kind"] for step in steps)
    if args.json:
        options.print_json(
            {"store": str(args.store), "steps": steps, "counts": dict(counts), "n_blocks": len(pipeline.index)}
        )
    else:
        print(", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())) or "The folder is empty.")
    return 3 if counts["failed"] else 0
