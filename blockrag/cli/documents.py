"""``documents``: list the documents of an index."""

import argparse
from dataclasses import asdict

from blockrag.cli import options

HELP = "List the documents of an index."
EPILOG = "Example: python -m blockrag documents --store S"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_store_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line for each document, and below it what was left out or guessed."""
    records = options.open_store(args).index.documents()
    if args.json:
        options.print_json({"store": str(args.store), "documents": [asdict(record) for record in records]})
        return 0
    for record in records:
        read_as = ", ".join(filter(None, (f"{record.n_pages} pages" if record.n_pages else "", record.encoding)))
        print(
            f"{record.id[:12]}  {record.n_blocks:6} blocks  {record.n_tokens:8} tokens  {record.source}"
            f"{f' ({read_as})' if read_as else ''}"
        )
        for note in record.notes:
            print(f"{'':14}{note}")
    return 0
