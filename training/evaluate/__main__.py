"""``python -m training.evaluate``: one command a thing that is judged. The last line is JSON."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from training.evaluate import examples, perplexity, qa, segmentation, speed

COMMANDS = {"segmentation": segmentation, "speed": speed, "examples": examples, "qa": qa, "perplexity": perplexity}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags and run."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.__doc__)
        module.add_flags(command)
        command.add_argument("--json", type=Path, help="also write the last line there")
        command.set_defaults(module=module)
    args = parser.parse_args(argv)
    result = args.module.run(args)
    print(args.module.table(result))
    line = json.dumps(result)
    if args.json:
        args.json.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
