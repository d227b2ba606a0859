"""``python -m training.distill prepare``: rows of the train splits -> a file of examples. Needs no GPU."""

import argparse
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from blockrag.models.load import load_tokenizer
from training.corpus import read_rows
from training.distill.config import DataConfig
from training.distill.examples import Examples, Job, Tokeniser, collect, make, save
from training.distill.selfmade import read_made
from training.qa import read_questions
from training.settings import add_flags, from_flags

PER_JOB = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--qa", nargs="*", default=[], help="files of questions, in the schema of training/qa.py")
    parser.add_argument("--seg", nargs="*", default=[], help="files of documents, in the schema of training/corpus.py")
    parser.add_argument("--made", nargs="*", type=Path, default=[], help="files of `selfmade`, taken whole besides")
    parser.add_argument("--split", default="train", help="which rows (default: train)")
    parser.add_argument("--out", type=Path, required=True, help="the file, .safetensors")
    parser.add_argument("--model", default="smollm2", help="whose tokens and prompt (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    add_flags(parser, DataConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Make the file; tells what is in it."""
    examples = prepare(args, from_flags(args, DataConfig))
    save(examples, args.out)
    n_tokens = sum(item.n_tokens for item in examples.items)
    return {"file": str(args.out), "n": len(examples.items), "n_tokens": n_tokens, **examples.made_of}


def prepare(args: argparse.Namespace, config: DataConfig) -> Examples:
    """Examples of all rows; the same for any number of processes."""
    tokenizer = load_tokenizer(args.model)
    jobs = list(_jobs(args, config))
    work = partial(make, tokenizer=tokenizer, config=config)
    prefix = Tokeniser(tokenizer, config).prefix
    if args.workers == 1:
        return collect(map(work, jobs), prefix, config, args.model)
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn")) as pool:
        return collect(pool.map(work, jobs), prefix, config, args.model)


def _jobs(args: argparse.Namespace, config: DataConfig) -> Iterator[Job]:
    """Rows are dealt out, so that no job needs them all."""
    questions = list(read_questions(args.qa, args.split))
    texts = [row for row in read_rows(args.seg) if row["split"] == args.split]
    made = [line for path in args.made for line in read_made(path)]
    for number, start in enumerate(range(0, len(made), PER_JOB)):
        yield Job(-1 - number, 0, [], [], made[start : start + PER_JOB])
    if not questions and not texts:
        if made:
            return
        if args.made:
            raise ValueError(
                "the files of --made hold no conversations: the model wrote no question that could be used."
            )
        raise ValueError(f"these files have no rows of the split {args.split!r}; give others by --qa and --seg.")
    n_jobs = -(-config.n // PER_JOB)
    for number in range(n_jobs):
        n = min(PER_JOB, config.n - number * PER_JOB)
        dealt = [rows[number % len(rows) :: n_jobs] if rows else [] for rows in (questions, texts)]
        yield Job(number, n, *dealt)
