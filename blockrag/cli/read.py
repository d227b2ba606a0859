"""``read``: print the text of files as it is read from them, before it is split."""

import argparse
import re
import sys
from dataclasses import asdict
from typing import Any

from blockrag.cli import options
from blockrag.documents import Document, load_many
from blockrag.documents.folder import find_files
from blockrag.errors import DocumentError

HELP = "Read files and print their text, with what was left out or guessed."
EPILOG = "Example: python -m blockrag read report.pdf --json"

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("files", nargs="+", help="files, folders or patterns such as papers/**/*.pdf")
    options.add_reading_options(parser)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print the text on standard output; type, encoding, pages and notes on standard error."""
    read, errors = list[dict[str, Any]](), list[dict[str, str]]()
    n_read = 0
    for document in load_many(find_files(args.files), encoding=args.encoding, ocr=args.ocr):
        if isinstance(document, DocumentError):
            print(f"blockrag: {document}", file=sys.stderr)
            errors.append({"document": document.name, "reason": document.reason})
            continue
        n_read += 1
        options.print_notes(document)
        if args.json:
            read.append(_entry(document))
        else:
            print(f"blockrag: {document.name}: {_kind(document)}", file=sys.stderr)
            text = document.text
            print(_CONTROL.sub("\ufffd", text) if sys.stdout.isatty() else text, end="" if text[-1:] == "\n" else "\n")
    if args.json:
        options.print_json({"documents": read, "errors": errors})
    if not errors:
        return 0
    return 3 if n_read else 1


def _kind(document: Document) -> str:
    pages = f"{document.n_pages} pages" if document.n_pages else ""
    return ", ".join(
        filter(None, (document.media_type, document.encoding, pages, f"{len(document.text):,} characters"))
    )


def _entry(document: Document) -> dict[str, Any]:
    """What ``--json`` tells of a document."""
    fields = asdict(document)
    names = ("source", "media_type", "encoding", "notes", "sha256", "text")
    return {"document": document.name, "n_pages": document.n_pages, **{name: fields[name] for name in names}}
