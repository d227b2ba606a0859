"""``python -m training.distill selfmade``: a model's own questions about documents, and its own answers in full mode.

The teacher of block distillation is then asked about text that it wrote itself, for any documents: a step learns from
several full answers, and the answers are those that full mode would give. Each line of the output is one conversation:
``{index, source, blocks, turns: [{question, answer, kind, complete}]}``. A run goes on where another one stopped.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from blockrag.models.adapter import Adapter
from blockrag.models.answer_model import AnswerModel
from blockrag.models.load import load_tokenizer
from blockrag.models.store import base_id
from blockrag.prompt import Prompt
from blockrag.segment import HFTokenCounter
from training.corpus import Row, read_rows
from training.distill.config import DataConfig, setting, within
from training.distill.examples import next_ids
from training.distill.generation import BatchDecoder, Request
from training.distill.sources import Drafter
from training.distill.stages import load_frozen
from training.qa import QARow, read_questions
from training.settings import add_flags, from_flags

MOST_MIXED = 20
"""Most documents whose passages stand in one conversation."""

CHUNK = 256
"""Conversations that are made, and written, together."""

ASIDE = (
    "The question must be clear to someone who sees the text among many others: name what it is about, and do not "
    'write "the text" or "the passage". Reply with the question alone.'
)

KINDS = {
    "fact": "Write one short question that this text answers with a name, a number, a date or a few words.",
    "explain": "Write one question about a reason, a method or a consequence that this text explains.",
    "list": "Write one question whose answer names several things that this text lists.",
    "summary": "Write one request for a short summary of what this text says about its main subject; name the subject.",
    "both": "Write one question that can only be answered with both of these texts.",
}
"""What the model is asked to write, by kind of question."""

WHOLE = ("Summarise the documents in three sentences.", "What are these documents about?", "List the main points.")
"""Requests about all blocks, which need no model."""

_LABEL = re.compile(r"^\W*(question|request|q)\W*:\s*", re.I)
_VAGUE = re.compile(r"\b(this|the|these|both) (text|passage|excerpt|paragraph|article|document)s?\b", re.I)


@dataclass(frozen=True)
class SelfMadeConfig:
    """How conversations are made.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    n: int = setting(3200, "conversations")
    minutes: float = setting(0.0, "begin no further conversations after this time; 0: no limit")
    asked: float = setting(0.3, "share of them over the documents of a given question, which is asked too")
    mixed: float = setting(0.5, "share of the others over short passages of many documents, in any order")
    turns: tuple[int, int] = setting((3, 6), "fewest and most questions of a conversation")
    unsaid: float = setting(0.06, "share of the questions that are about another conversation's documents")
    whole: float = setting(0.06, "share of the questions that are about all blocks")
    both: float = setting(0.2, "share of the questions that are about two blocks")
    answer_tokens: int = setting(96, "longest answer")
    sampled: float = setting(0.5, "share of the conversations whose answers are drawn, not the most likely ones")
    temperature: float = setting(0.7, "at which questions, and answers that are drawn, are drawn")
    max_tokens: int = setting(3584, "most tokens of a conversation's blocks")
    rows: int = setting(96, "conversations that are decoded at once")
    seed: int = setting(0, "of everything random")

    def __post_init__(self) -> None:
        for name in ("asked", "mixed", "unsaid", "whole", "both", "sampled"):
            within(name, getattr(self, name), 0, 1)
        for name in ("n", "answer_tokens", "max_tokens", "rows"):
            within(name, getattr(self, name), 1, 1 << 40)
        if not 1 <= self.turns[0] <= self.turns[1]:
            raise ValueError(f"turns runs from {self.turns[0]} to {self.turns[1]}; expected is a range from 1.")


@dataclass
class Outline:
    """A conversation to be: its blocks, and its questions, given or still to be written about some of the blocks."""

    index: int
    source: str
    blocks: list[str]
    questions: list[tuple[str, str]] = field(default_factory=list)  # kind, text
    to_write: list[tuple[str, str]] = field(default_factory=list)  # kind, text of the blocks it is about


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--qa", nargs="*", default=[], help="files of questions, in the schema of training/qa.py")
    parser.add_argument("--seg", nargs="*", default=[], help="files of documents, in the schema of training/corpus.py")
    parser.add_argument("--split", default="train", help="which rows (default: train)")
    parser.add_argument("--out", type=Path, required=True, help="the file, .jsonl; what it holds already is kept")
    parser.add_argument("--model", default="smollm2", help="who asks and answers (default: %(default)s)")
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU where there is one)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that cut documents")
    add_flags(parser, SelfMadeConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Make the conversations; the result says how many there are.

    Raises
    ------
    ValueError
        If the files have no rows of the split.
    """
    config = from_flags(args, SelfMadeConfig)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    questions = list(read_questions(args.qa, args.split))
    texts = [row for row in read_rows(args.seg) if row["split"] == args.split]
    if not questions and not texts:
        raise ValueError(f"these files have no rows of the split {args.split!r}; give others by --qa and --seg.")
    model = load_frozen(args.model, Adapter(str(args.model), base_id(args.model), {}), device)
    maker = Maker(model, config)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("a", encoding="utf-8") as file:
        since = time.perf_counter()
        for outlines in _outlines(args, config, questions, texts, _n_made(args.out)):
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in maker.make(outlines))
            file.flush()
            if config.minutes and time.perf_counter() - since > 60 * config.minutes:
                break
    rows = list(read_made(args.out))
    n_turns = sum(len(row["turns"]) for row in rows)
    return {"file": str(args.out), "n": len(rows), "turns": n_turns}


def _outlines(
    args: argparse.Namespace, config: SelfMadeConfig, questions: Sequence[QARow], texts: Sequence[Row], first: int
) -> Iterator[list[Outline]]:
    """Outlines in chunks; processes cut the next chunk's documents while the network works on this one."""
    chunks = [range(start, min(start + CHUNK, config.n)) for start in range(first, config.n, CHUNK)]
    with _pool(args) as begin:
        work = partial(_work, config=config)
        jobs = ([_job(index, questions, texts, config) for index in chunk] for chunk in chunks)
        coming = begin(work, next(jobs, []))
        for _ in tqdm(chunks, desc="conversations", unit=f"x{CHUNK}"):
            found = [made for made in coming if made is not None]
            coming = begin(work, next(jobs, []))
            if found:
                yield found


@contextmanager
def _pool(args: argparse.Namespace) -> Iterator[Callable[..., Iterator[Outline | None]]]:
    """A function that begins work on several jobs in `args.workers` processes; with one, in this process when read."""
    if args.workers == 1:
        _begin_worker(args.model)
        yield lambda work, jobs: itertools.starmap(work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers, context, _begin_worker, (args.model,)) as pool:
        yield lambda work, jobs: pool.map(work, *zip(*jobs, strict=True), chunksize=8) if jobs else iter(())


def _shorten(blocks: list[str], room: int, counter: HFTokenCounter) -> None:
    """Remove the last blocks, as many as do not fit."""
    while blocks and sum(map(counter.count, blocks)) > room:
        blocks.pop()


_TOKENIZER: list[PreTrainedTokenizerBase] = []
"""A worker's tokenizer, loaded once: it is too large to travel with each outline."""


def _begin_worker(model: str) -> None:
    _TOKENIZER[:] = [load_tokenizer(model)]


def _work(index: int, asked: QARow | None, texts: Sequence[Row], config: SelfMadeConfig) -> Outline | None:
    return outline(index, asked, texts, _TOKENIZER[0], config)


def read_made(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a file of conversations."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _n_made(path: Path) -> int:
    """Where to go on: behind the last chunk that is there whole."""
    if not path.exists():
        return 0
    last = max((row["index"] for row in read_made(path)), default=-1)
    return -(-(last + 1) // CHUNK) * CHUNK


def _job(
    index: int, questions: Sequence[QARow], texts: Sequence[Row], config: SelfMadeConfig
) -> tuple[int, QARow | None, list[Row]]:
    """Rows to make the conversation of: a question, or one document, or several of one source or of all.

    Each source is drawn as often as any other.
    """
    draw = random.Random(f"{config.seed}/{index}")
    if questions and (not texts or draw.random() < config.asked):
        return index, draw.choice(questions), []
    source = draw.choice(sorted({row["dataset"] for row in texts}))
    of_source = [row for row in texts if row["dataset"] == source]
    if draw.random() >= config.mixed:
        return index, None, [draw.choice(of_source)]
    return index, None, draw.choices(of_source if draw.random() < 0.5 else texts, k=draw.randint(6, MOST_MIXED))


def outline(
    index: int, asked: QARow | None, texts: Sequence[Row], tokenizer: PreTrainedTokenizerBase, config: SelfMadeConfig
) -> Outline | None:
    """The blocks of a conversation and what its questions are about; None where the rows have no blocks."""
    draw, counter = random.Random(f"{config.seed}/{index}/outline"), HFTokenCounter(tokenizer)
    data = DataConfig(max_tokens=config.max_tokens, unsaid=0, more_turns=0, seed=config.seed)
    if asked is not None:
        draft = Drafter(counter, data).of_question(asked, draw)
        made = Outline(index, asked["dataset"], draft.blocks if draft else [], [("given", asked["question"])])
    else:
        made = Outline(index, texts[0]["dataset"] if len(texts) == 1 else "mixed", [])
        room = 2 * config.max_tokens // len(texts)
        short = replace(data, max_tokens=room, block_tokens=(16, max(32, room // 4)))  # at least one block fits
        parts = [Drafter(counter, short if len(texts) > 1 else data).part(text, draw) for text in texts]
        made.blocks = [passage.text for part in parts for passage in (part if len(parts) == 1 else part[:1])]
        _shorten(made.blocks, config.max_tokens, counter)
    if not made.blocks:
        return None
    for _ in range(draw.randint(*config.turns) - len(made.questions)):
        chance = draw.random()
        if chance < config.whole:
            made.questions.append(("whole", draw.choice(WHOLE)))
        elif chance < config.whole + config.both and len(made.blocks) > 1:
            made.to_write.append(("both", "\n\n".join(block.strip() for block in draw.sample(made.blocks, 2))))
        else:
            kind = draw.choice([kind for kind in KINDS if kind != "both"])
            made.to_write.append((kind, draw.choice(made.blocks).strip()))
    return made


class Maker:
    """Writes questions and answers them.

    Parameters
    ----------
    model : AnswerModel
        In full mode.
    config : SelfMadeConfig
    """

    def __init__(self, model: AnswerModel, config: SelfMadeConfig):
        self._prompt, self._tokenizer, self._config = Prompt(model.tokenizer), model.tokenizer, config
        room = config.max_tokens + len(self._prompt.prefix_ids) + config.turns[1] * (config.answer_tokens + 96)
        self._decoder = BatchDecoder(model, config.rows, room, config.seed)

    def make(self, outlines: Sequence[Outline]) -> list[dict[str, Any]]:
        """One line for each outline with at least one answered question, in order."""
        self._write_questions(outlines)
        draw = random.Random(f"{self._config.seed}/{outlines[0].index}/make")
        for made, other in zip(outlines, [*outlines[1:], *outlines[:1]], strict=True):
            draw.shuffle(made.questions)
            if made.questions and other.questions and draw.random() < self._config.unsaid * len(made.questions):
                made.questions[draw.randrange(len(made.questions))] = ("unsaid", draw.choice(other.questions)[1])
        lines = {made.index: self._line(made) for made in outlines if made.questions}
        requests = [self._answer_request(made, draw) for made in outlines if made.questions]
        for completion in self._decoder.complete(requests):
            turns = lines[completion.key]["turns"]  # type: ignore[index]
            del turns[len(completion.answers) :]
            for turn, ids in zip(turns, completion.answers, strict=True):
                turn["answer"] = self._tokenizer.decode(ids, skip_special_tokens=True)
            turns[-1]["complete"] = completion.complete
        return [line for _, line in sorted(lines.items()) if all(turn["answer"].strip() for turn in line["turns"])]

    def _write_questions(self, outlines: Sequence[Outline]) -> None:
        by_key: dict[tuple[int, int], Outline] = {}
        requests = []
        for made in outlines:
            for number, (kind, text) in enumerate(made.to_write):
                by_key[made.index, number] = made
                asked = self._prompt.rendered(None, [("user", f"{text}\n\n{KINDS[kind]} {ASIDE}")])
                ids = self._prompt.own_ids(asked)
                requests.append(Request((made.index, number), ids, (), 80, self._config.temperature))
        for completion in self._decoder.complete(requests):
            made, number = by_key[completion.key], completion.key[1]  # type: ignore[index]
            question = clean(self._tokenizer.decode(completion.answers[0], skip_special_tokens=True))
            if completion.complete and question:
                made.questions.append((made.to_write[number][0], question))

    def _answer_request(self, made: Outline, draw: random.Random) -> Request:
        first, *further = [question for _, question in made.questions]
        prompt = self._prompt
        ids = [*prompt.prefix_ids, *(t for block in made.blocks for t in prompt.block_ids(block))]
        ids += prompt.final_ids(first)
        temperature = self._config.temperature if draw.random() < self._config.sampled else 0.0
        return Request(
            made.index, ids, [next_ids(prompt, each) for each in further], self._config.answer_tokens, temperature
        )

    @staticmethod
    def _line(made: Outline) -> dict[str, Any]:
        turns = [{"question": text, "answer": "", "kind": kind, "complete": True} for kind, text in made.questions]
        return {"index": made.index, "source": made.source, "blocks": made.blocks, "turns": turns}


def clean(said: str) -> str:
    """The question in what a model wrote, or nothing where it is none that stands alone."""
    line = next((line for line in said.splitlines() if line.strip()), "")
    question = _LABEL.sub("", line).strip().strip('"“”*').strip()
    return question if 8 <= len(question) <= 300 and not _VAGUE.search(question) else ""
