"""``python -m training.distill``: prepare examples, train teacher and student, draw curves. The last line is JSON."""

import argparse
import json
from collections.abc import Sequence

from training.distill import prepare

COMMANDS = {"prepare": prepare}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags and run."""
    parser = argparse.ArgumentParser(prog="python -m training.distill", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    print(json.dumps(args.run(args)))


if __name__ == "__main__":
    main()
