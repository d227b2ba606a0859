"""``delete``: remove documents from an index."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from blockrag.cli import options

if TYPE_CHECKING:
    from blockrag.index import DocumentRecord

HELP = "Remove documents from an index, with their blocks, vectors and KV."
EPILOG = "Example: python -m blockrag delete report.pdf --store S"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("documents", nargs="+", help="sources (paths) or ids, as `documents` lists them")
    options.add_store_options(parser)


def run(args: argparse.Namespace) -> int:
    """Remove each; one that the index does not hold is reported."""
    pipeline = options.open_store(args)
    deleted, unknown = [], []
    for given in args.documents:
        found = _find(pipeline.index.documents(), given)
        if len(found) == 1:
            pipeline.delete(found[0].id)
            deleted.append(found[0].source)
        else:
            reason = "the index holds no such document" if not found else "several documents match; give the whole id"
            print(f"blockrag: {given}: {reason}", file=sys.stderr)
            unknown.append(given)
    if args.json:
        options.print_json(
            {"store": str(args.store), "deleted": deleted, "unknown": unknown, "n_blocks": len(pipeline.index)}
        )
    else:
        print(f"{len(deleted)} documents deleted; the index holds {len(pipeline.index)} blocks.")
    if not unknown:
        return 0
    return 3 if deleted else 1


def _find(records: "list[DocumentRecord]", given: str) -> "list[DocumentRecord]":
    """Find the document of this source, or the documents whose id starts with it."""
    sources = {given, os.path.abspath(given)}
    exact = [record for record in records if record.source in sources]
    return exact or [record for record in records if len(given) >= 6 and record.id.startswith(given)]
