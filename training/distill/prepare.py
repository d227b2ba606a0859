"""``python -m training.distill prepare``: build a file of training examples. Needs no GPU.

``questions`` copies rows of question files to ``.jsonl``.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from blockrag.models.load import load_tokenizer
from training.cli import add_flags, from_flags
from training.corpus import first_of_each, read_rows
from training.distill.config import DataConfig
from training.distill.examples import Examples, Job, Tokeniser, collect, make, save
from training.distill.selfmade import read_conversations
from training.qa import read_questions

PER_JOB = 100
"""Examples of a job."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``prepare``."""
    parser.add_argument("--qa", nargs="*", default=[], help="files of questions (schema: training/qa.py)")
    parser.add_argument("--seg", nargs="*", default=[], help="files of documents (schema: training/corpus.py)")
    parser.add_argument(
        "--made",
        nargs="*",
        type=Path,
        default=[],
        help="files from `selfmade`; all conversations are used, in addition to --n",
    )
    parser.add_argument("--split", default="train", help="split (default: train)")
    parser.add_argument("--out", type=Path, required=True, help="output file, .safetensors")
    parser.add_argument(
        "--model", default="smollm2", help="model whose tokenizer and prompt are used (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    add_flags(parser, DataConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the file; return a summary of its contents."""
    examples = prepare(args, from_flags(args, DataConfig))
    save(examples, args.out)
    n_tokens = sum(item.n_tokens for item in examples.items)
    return {"file": str(args.out), "n": len(examples.items), "n_tokens": n_tokens, **examples.provenance}


def prepare(args: argparse.Namespace, config: DataConfig) -> Examples:
    """Build the examples; the number of processes does not change them."""
    tokenizer = load_tokenizer(args.model)
    jobs = list(_jobs(args, config))
    work = partial(make, tokenizer=tokenizer, config=config)
    prefix = Tokeniser(tokenizer, config).prefix
    if args.workers == 1:
        return collect(map(work, jobs), prefix, config, args.model)
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn")) as pool:
        return collect(pool.map(work, jobs), prefix, config, args.model)


def _jobs(args: argparse.Namespace, config: DataConfig) -> Iterator[Job]:
    """Distribute the rows over jobs."""
    questions = list(read_questions(args.qa, args.split))
    texts = [row for row in read_rows(args.seg) if row["split"] == args.split]
    selfmade = [line for path in args.made for line in read_conversations(path)]
    for number, start in enumerate(range(0, len(selfmade), PER_JOB)):
        yield Job(-1 - number, 0, [], [], selfmade[start : start + PER_JOB])
    if not questions and not texts:
        if selfmade:
            return
        if args.made:
            raise ValueError("the files of --made contain no conversations: the model wrote no usable question.")
        raise ValueError(f"these files have no rows of the split {args.split!r}; pass others by --qa and --seg.")
    n_jobs = -(-config.n // PER_JOB)
    for number in range(n_jobs):
        n = min(PER_JOB, config.n - number * PER_JOB)
        dealt = [rows[number % len(rows) :: n_jobs] if rows else [] for rows in (questions, texts)]
        yield Job(number, n, *dealt)


def add_question_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``questions``."""
    parser.add_argument("--qa", nargs="+", required=True, help="files of questions (schema: training/qa.py)")
    parser.add_argument("--splits", nargs="+", default=["dev", "test"], help="splits (default: dev test)")
    parser.add_argument("--most", type=int, default=250, help="maximum rows per split and file (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the .jsonl files")


def run_questions(args: argparse.Namespace) -> dict[str, Any]:
    """Copy the first rows of each split to one ``.jsonl`` file per input; return the number of rows by file."""
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
