"""``python -m training.distill``: prepare examples, train teacher and student, inspect runs. The last line is JSON."""

import argparse
import json
from collections.abc import Sequence

import torch

from training.distill import adapt, convert, log, prepare, selfmade, stages, timing

COMMANDS = {
    "adapt": ("train an adapter for your own model from your own documents", adapt.add_arguments, adapt.run),
    "selfmade": ("let a model write questions and answers about documents", selfmade.add_arguments, selfmade.run),
    "prepare": ("build a file of training examples", prepare.add_arguments, prepare.run),
    "questions": ("copy rows of question files to .jsonl", prepare.add_question_arguments, prepare.run_questions),
    "teacher": ("train the teacher (full mode)", stages.add_teacher_arguments, stages.run_teacher),
    "student": (
        "train block mode on top of the teacher or the published model",
        stages.add_student_arguments,
        stages.run_student,
    ),
    "shrink": ("convert an adapter to 8 bits, as it ships", convert.add_shrink_arguments, convert.run_shrink),
    "import": ("read PEFT's LoRA as an adapter", convert.add_import_arguments, convert.run_import),
    "timing": ("time training steps of a model shape with random weights", timing.add_arguments, timing.run),
    "plot": ("plot the logs of runs", log.add_arguments, log.run),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags and run the command."""
    parser = argparse.ArgumentParser(prog="python -m training.distill", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, (summary, add_arguments, run) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        add_arguments(command)
        command.set_defaults(run=run)
    args = parser.parse_args(argv)
    torch.set_float32_matmul_precision("high")  # TF32 is exact for 16-bit inputs
    print(json.dumps(args.run(args)))


if __name__ == "__main__":
    main()
