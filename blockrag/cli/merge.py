"""``merge``: write a model with its adapter as an ordinary checkpoint, or the adapter as an ordinary LoRA."""

import argparse
from pathlib import Path

from blockrag.cli import options
from blockrag.models import DEFAULT_MODEL

HELP = "Write a model with its adapter as an ordinary checkpoint, for other engines."
EPILOG = "Example: python -m blockrag merge --out merged --mode block"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--model", default=DEFAULT_MODEL, help="base model (default: %(default)s)")
    parser.add_argument("--adapter", default="auto", help=options.ADAPTER_HELP)
    parser.add_argument(
        "--mode", choices=("full", "block"), default="block", help="mode whose weights are written (default: block)"
    )
    parser.add_argument(
        "--lora",
        action="store_true",
        help="write the adapter alone, as a LoRA in PEFT's format (see docs/guides/vllm.md)",
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder; must not exist")
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Write the checkpoint or the LoRA."""
    from blockrag.errors import WeightsError
    from blockrag.models.merge import merge
    from blockrag.models.peft_format import export_peft
    from blockrag.models.shipped import find_adapter

    model = options.pick_model(args.model, None).name
    adapter = find_adapter(args.adapter, model)
    if adapter is None:
        raise WeightsError(f"there is no adapter for {model}; give one with --adapter.")
    if args.lora:
        export_peft(adapter, args.out, args.mode)
    else:
        merge(model, adapter, args.mode, args.out)
    if args.json:
        options.print_json({"folder": str(args.out), "mode": args.mode, "model": model})
    else:
        print(args.out)
    return 0
