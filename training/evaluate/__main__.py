"""``python -m training.evaluate``: evaluate segmenters, answers and long text. The last line is JSON."""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

COMMANDS = {
    "segmentation": "compare segmenters with human boundaries",
    "public": "compare segmenters on public sets",
    "speed": "time segmenters",
    "errors": "count found and missed boundaries by their place in the layout",
    "examples": "show right and wrong boundaries in their context",
    "qa": "evaluate answers in full, naive and block mode",
    "ruler": "generate RULER questions: needles and variables in long text",
    "perplexity": "evaluate the prediction of long text in full, naive and block mode",
    "curve": "compare results of perplexity by block size and segmenter",
}
"""Modules of this package; only the chosen one is imported, with the libraries it needs."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags and run the command."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name in argv[:1]:
            module = importlib.import_module(f"training.evaluate.{name}")
            command.description = module.__doc__
            module.add_flags(command)
            command.add_argument("--json", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    result = module.run(args)
    print(module.table(result))
    line = json.dumps(result)
    if args.json:
        args.json.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
