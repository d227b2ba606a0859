"""``python -m training.distill questions``: some rows of each file of questions, as plain lines for another machine."""

import argparse
import json
from pathlib import Path
from typing import Any

from training.corpus import first_of_each
from training.qa import read_questions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--qa", nargs="+", required=True, help="files of questions, in the schema of training/qa.py")
    parser.add_argument("--splits", nargs="+", default=["dev", "test"], help="which rows (default: dev test)")
    parser.add_argument("--most", type=int, default=250, help="rows of a split of a file (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the .jsonl files")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write them; tells how many."""
    args.out.mkdir(parents=True, exist_ok=True)
    counts = {}
    for path in map(Path, args.qa):
        rows = [
            row for split in args.splits for row in first_of_each(read_questions([path], split), args.most, "split")
        ]
        name = path.name.split(".")[0]
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (args.out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        counts[name] = len(rows)
    return counts
