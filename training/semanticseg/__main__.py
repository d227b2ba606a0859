"""Command line: ``python -m training.semanticseg build --config FILE --out DIR``, and ``agreement``."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from training.corpus import read_rows
from training.semanticseg.agreement import agreement
from training.semanticseg.annotators import ANNOTATE
from training.semanticseg.build import build
from training.semanticseg.config import load_config


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; the last line is JSON."""
    parser = argparse.ArgumentParser(prog="python -m training.semanticseg", description=__doc__)
    commands = parser.add_subparsers(required=True)
    builder = commands.add_parser("build", help="build the data set of a configuration")
    builder.add_argument("--config", type=Path, required=True, help="a TOML file, as in training/recipes")
    builder.add_argument("--out", type=Path, required=True, help="output folder; an interrupted build there resumes")
    builder.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    builder.set_defaults(run=_build)
    comparer = commands.add_parser("agreement", help="measure the agreement of annotators on texts with boundaries")
    comparer.add_argument("--config", type=Path, required=True, help="names the language model")
    comparer.add_argument("--data", nargs="+", required=True, help="files in the schema of training/corpus.py")
    comparer.add_argument("--annotators", nargs="+", choices=sorted(ANNOTATE), default=["given", "structure"])
    comparer.add_argument("--split", default="dev")
    comparer.add_argument("--limit", type=int, default=20, help="number of texts")
    comparer.set_defaults(run=_agreement)
    args = parser.parse_args(argv)
    print(json.dumps(args.run(args)))


def _build(args: argparse.Namespace) -> dict:
    args.out.mkdir(parents=True, exist_ok=True)
    return {"out": str(args.out), "instances": build(load_config(args.config), args.out, args.workers)}


def _agreement(args: argparse.Namespace) -> dict:
    settings = load_config(args.config).language_model
    rows = [row for row in read_rows(args.data) if row["split"] == args.split][: args.limit]
    bare = [{**row, "boundaries": []} for row in rows]
    annotated = {
        name: [ANNOTATE[name](row, settings) for row in (rows if name == "given" else bare)] for name in args.annotators
    }
    return {"n_texts": len(rows), "levels": {level: agreement(annotated, level) for level in (1, 2, 3)}}


if __name__ == "__main__":
    main()
