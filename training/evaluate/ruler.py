"""Generate questions that no training text contains: needles and variables in long text, as in RULER.

Four tasks of RULER (arXiv 2404.06654, section 3): one needle; one of several needles with other keys (multi-key); all
values of one key (multi-value); all names that a chain of assignments gives one value (variable tracking). The haystack
is text of documents; needles are inserted between its sentences, at random depths. Rows have the schema of
``training/qa.py``; with ``meta.all_answers``, `qa` scores the share of the answers that are found.
"""

import argparse
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockrag.models.load import load_tokenizer
from blockrag.segment import HFTokenCounter
from training.corpus import read_rows
from training.qa import QARow

N_KEYS = 4
"""Needles with different keys, in the multi-key task, and values of the key, in the multi-value task."""

N_HOPS = 4
"""Assignments that follow the first one, in variable tracking."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_NOUNS = "anchor basin candle dynamo ember ferry gantry harbour ingot jetty kiln lantern marble orchard pulley".split()
_ADJECTIVES = "amber brisk copper dusty early faint golden hollow idle jagged keen lunar mellow narrow olive".split()


@dataclass(frozen=True)
class Task:
    """Needles to insert, the question, and the answers, all of which are required."""

    needles: list[str]
    question: str
    answers: list[str]


def _numbers(draw: random.Random, n: int) -> list[str]:
    return [str(number) for number in draw.sample(range(1_000_000, 10_000_000), n)]


def _keys(draw: random.Random, n: int) -> list[str]:
    return draw.sample([f"{adjective}-{noun}" for adjective in _ADJECTIVES for noun in _NOUNS], n)


def _needle(key: str, value: str) -> str:
    return f"One of the special magic numbers for {key} is: {value}."


def _one_of(n_keys: int) -> Callable[[random.Random], Task]:
    def make(draw: random.Random) -> Task:
        keys, values = _keys(draw, n_keys), _numbers(draw, n_keys)
        needles = [_needle(*pair) for pair in zip(keys, values, strict=True)]
        return Task(needles, f"What is the special magic number for {keys[0]}?", values[:1])

    return make


def _all_values(draw: random.Random) -> Task:
    (key,), values = _keys(draw, 1), _numbers(draw, N_KEYS)
    needles = [_needle(key, value) for value in values]
    return Task(needles, f"What are all the special magic numbers for {key}?", values)


def _variables(draw: random.Random) -> Task:
    names = ["".join(draw.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=5)) for _ in range(N_HOPS + 1)]
    (value,) = _numbers(draw, 1)
    needles = [f"VAR {names[0]} = {value}."]
    needles += [f"VAR {name} = VAR {before}." for before, name in zip(names, names[1:], strict=False)]
    return Task(needles, f"Which variables have the value {value}? Name all of them.", names)


TASKS: dict[str, Callable[[random.Random], Task]] = {
    "needle": _one_of(1),
    "multi-key": _one_of(N_KEYS),
    "multi-value": _all_values,
    "variables": _variables,
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``ruler``."""
    parser.add_argument("--texts", nargs="+", required=True, help="files of documents for the haystack")
    parser.add_argument("--split", default="test", help="split (default: %(default)s)")
    parser.add_argument("--task", choices=TASKS, nargs="+", default=list(TASKS), help="default: all")
    parser.add_argument("--tokens", type=int, nargs="+", default=[4096, 8192, 16384], help="lengths of the haystack")
    parser.add_argument("--each", type=int, default=100, help="questions per task and length (default: %(default)s)")
    parser.add_argument("--passage", type=int, default=1200, help="characters of a document (default: %(default)s)")
    parser.add_argument("--model", default="smollm2", help="model whose tokenizer counts (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the .jsonl files, one per task and length")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the files; return the number of questions of each.

    Raises
    ------
    ValueError
        If the documents have too little text for the longest haystack.
    """
    counter = HFTokenCounter(load_tokenizer(args.model))
    texts = [row["text"] for row in read_rows(args.texts) if row["split"] == args.split]
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in args.task:
        for n_tokens in args.tokens:
            path = args.out / f"{name}-{n_tokens}.jsonl"
            found = [_row(name, n_tokens, i, texts, counter, args) for i in range(args.each)]
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found), encoding="utf-8")
            rows.append({"file": path.name, "n": len(found)})
    return {"rows": rows, "split": args.split, "seed": args.seed}


def _row(
    name: str, n_tokens: int, number: int, texts: Sequence[str], counter: HFTokenCounter, args: argparse.Namespace
) -> QARow:
    draw = random.Random(f"{args.seed}/{name}/{n_tokens}/{number}")
    task = TASKS[name](draw)
    sentences = list(_haystack(texts, n_tokens - counter.count(" ".join(task.needles)), counter, draw))
    for needle, place in zip(task.needles, sorted(draw.sample(range(len(sentences)), len(task.needles))), strict=True):
        sentences[place] = f"{sentences[place]} {needle}"
    documents = [
        {"title": "", "text": text, "is_gold": any(needle in text for needle in task.needles)}
        for text in _passages(sentences, args.passage)
    ]
    row = {"id": f"{name}-{n_tokens}-{number}", "question": task.question, "answers": task.answers}
    meta = {"all_answers": True, "hops": len(task.needles) if name == "variables" else 1}
    return {**row, "documents": documents, "source": "made", "licence": "", "split": args.split, "meta": meta}


def _haystack(texts: Sequence[str], room: int, counter: HFTokenCounter, draw: random.Random) -> Iterator[str]:
    """Sentences of documents in random order, up to `room` tokens."""
    for text in draw.sample(texts, len(texts)):
        for sentence in _SENTENCE_END.split(" ".join(text.split())):
            room -= counter.count(f"{sentence} ")
            if room < 0:
                return
            yield sentence
    raise ValueError(f"these documents have {room} tokens too few for a haystack of that length; pass more by --texts.")


def _passages(sentences: Sequence[str], n_chars: int) -> Iterator[str]:
    """Join sentences into passages of about `n_chars` characters."""
    passage = ""
    for sentence in sentences:
        passage = f"{passage} {sentence}".lstrip()
        if len(passage) >= n_chars:
            yield passage
            passage = ""
    if passage:
        yield passage


def table(result: dict[str, Any]) -> str:
    """The files as a Markdown table."""
    return "\n".join(["| file | questions |", "|---|---|", *(f"| {r['file']} | {r['n']} |" for r in result["rows"])])
