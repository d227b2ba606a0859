"""``python -m training.distill``: make examples, train teacher and student, look at runs. The last line is JSON."""

import argparse
import json
from collections.abc import Sequence

import torch

from training.distill import adapt, prepare, questions, selfmade, shrink, stages, timing

COMMANDS = {
    "adapt": ("an adapter for your own model from your own documents", adapt.add_arguments, adapt.run),
    "selfmade": ("a model's own questions and answers about documents", selfmade.add_arguments, selfmade.run),
    "prepare": ("rows of data sets -> a file of examples", prepare.add_arguments, prepare.run),
    "questions": ("rows of questions, as plain lines", questions.add_arguments, questions.run),
    "teacher": ("train a reader in full mode", stages.add_teacher_arguments, stages.run_teacher),
    "student": ("train block mode on top of it", stages.add_student_arguments, stages.run_student),
    "shrink": ("an adapter in 8 bits, as it is shipped", shrink.add_arguments, shrink.run),
    "timing": ("time steps of a well-known shape", timing.add_arguments, timing.run),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags and run."""
    parser = argparse.ArgumentParser(prog="python -m training.distill", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, (summary, add_arguments, run) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        add_arguments(command)
        command.set_defaults(run=run)
    args = parser.parse_args(argv)
    torch.set_float32_matmul_precision("high")  # TF32 where there is: inputs of 16 bits lose nothing by it
    print(json.dumps(args.run(args)))


if __name__ == "__main__":
    main()
