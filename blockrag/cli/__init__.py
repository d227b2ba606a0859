"""The command line: read, segment, index, sync, documents, delete, ask, models, merge, serve.

Exit codes: 0 success; 1 error, explained on standard error; 2 wrong arguments; 3 some files of a batch failed, the
others were indexed; 130 interrupted. With ``--json`` the last line of standard output is one JSON object (see
``docs/guides/command-line.md``); progress and messages go to standard error.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from blockrag import __version__
from blockrag.cli import ask, delete, documents, index, merge, models, read, segment, serve, sync
from blockrag.errors import ArgumentError, BlockRAGError

COMMANDS = {
    "read": read,
    "segment": segment,
    "index": index,
    "sync": sync,
    "documents": documents,
    "delete": delete,
    "ask": ask,
    "models": models,
    "merge": merge,
    "serve": serve,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    args.rest = rest
    if rest and args.command != "serve":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return COMMANDS[args.command].run(args)
    except ArgumentError as error:
        print(f"blockrag: {error}", file=sys.stderr)
        return 2
    except BlockRAGError as error:
        print(f"blockrag: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("blockrag: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blockrag" if Path(sys.argv[0]).stem == "blockrag" else "python -m blockrag",
        description="Answer questions from documents that were read once, in advance.",
        epilog="Get started: `index paper.pdf --store S`, then `ask 'What is it about?' --store S`.",
    )
    parser.add_argument("--version", action="version", version=f"blockrag {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=module.HELP, description=module.HELP, epilog=module.EPILOG))
    return parser
