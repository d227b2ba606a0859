"""The command line: segment, index, sync, documents, delete, ask, models, merge.

Exit codes: 0 success; 1 error, explained on standard error; 2 wrong arguments; 3 some files of a batch failed, the
others were indexed; 130 interrupted. With ``--json`` the last line of standard output is one JSON object (see
``docs/guides/command-line.md``); progress and messages go to standard error.
"""

import argparse
import sys
from collections.abc import Sequence

from blockrag.cli import ask, delete, documents, index, merge, models, segment, sync
from blockrag.errors import BlockRAGError

COMMANDS = {
    "segment": segment,
    "index": index,
    "sync": sync,
    "documents": documents,
    "delete": delete,
    "ask": ask,
    "models": models,
    "merge": merge,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        return COMMANDS[args.command].run(args)
    except BlockRAGError as error:
        print(f"blockrag: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("blockrag: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m blockrag",
        description="Answer questions from documents that were read once, in advance.",
        epilog="Get started: `index paper.pdf --store S`, then `ask 'What is it about?' --store S`.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=module.HELP, description=module.HELP, epilog=module.EPILOG))
    return parser
