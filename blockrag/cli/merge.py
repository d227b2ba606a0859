"""``merge``: base and adapter as one ordinary checkpoint."""

import argparse
from pathlib import Path

from blockrag.cli import options
from blockrag.models import DEFAULT_MODEL

HELP = "Write a model with its adapter as an ordinary checkpoint, for other engines."
EPILOG = "Example: python -m blockrag merge --out merged --mode block"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--model", default=DEFAULT_MODEL, help="the base (default: %(default)s)")
    parser.add_argument("--adapter", default="auto", help=options.ADAPTER_HELP)
    parser.add_argument("--mode", choices=("full", "block"), default="block", help="whose weights (default: block)")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Merge."""
    from blockrag.errors import WeightsError
    from blockrag.models.merge import merge
    from blockrag.models.shipped import find_adapter

    adapter = find_adapter(args.adapter, args.model)
    if adapter is None:
        raise WeightsError(f"there is no adapter for {args.model} to merge; give a folder (--adapter).")
    merge(args.model, adapter, args.mode, args.out)
    if args.json:
        options.print_json({"folder": str(args.out), "mode": args.mode, "model": args.model})
    else:
        print(args.out)
    return 0
