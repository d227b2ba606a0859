"""``python -m training.evaluate``: one command a thing that is judged. The last line is JSON."""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

COMMANDS = {
    "segmentation": "segmenters against people's boundaries",
    "speed": "how long segmenters take",
    "examples": "good and bad cuts with the text around",
    "qa": "answers in full, naive block and block mode",
    "ruler": "make questions with needles and variables in long text",
    "perplexity": "long text in full, naive block and block mode",
    "curve": "what block sizes and segmenters cost: results of perplexity side by side",
}
"""What each module here judges; it is imported where it is asked for, with the libraries that it alone needs."""


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags and run."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name in argv[:1]:
            module = importlib.import_module(f"training.evaluate.{name}")
            command.description = module.__doc__
            module.add_flags(command)
            command.add_argument("--json", type=Path, help="also write the last line there")
    args = parser.parse_args(argv)
    result = module.run(args)
    print(module.table(result))
    line = json.dumps(result)
    if args.json:
        args.json.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
