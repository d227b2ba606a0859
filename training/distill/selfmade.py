"""``python -m training.distill selfmade``: let a model write questions about documents and answer them in full mode.

This gives training text for any documents, with the answers that the teacher itself would give. Each line of the output
is one conversation: ``{index, source, blocks, turns: [{question, answer, kind, complete}]}``. An interrupted run
continues where it stopped.
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
from training.cli import add_flags, from_flags
from training.corpus import Row, read_rows
from training.distill.config import DataConfig, setting, within
from training.distill.drafts import Drafter
from training.distill.examples import follow_up_ids
from training.distill.generation import BatchDecoder, Request
from training.distill.stages import load_frozen
from training.qa import QARow, read_questions

MAX_MIXED = 20
"""Maximum documents of a mixed conversation."""

CHUNK = 256
"""Conversations generated and written together."""

INSTRUCTIONS = (
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
"""Request to the model by kind of question."""

GENERAL_QUESTIONS = (
    "Summarise the documents in three sentences.",
    "What are these documents about?",
    "List the main points.",
)
"""Questions about all blocks, not written by the model."""

_LABEL = re.compile(r"^\W*(question|request|q)\W*:\s*", re.I)
_VAGUE = re.compile(r"\b(this|the|these|both) (text|passage|excerpt|paragraph|article|document)s?\b", re.I)


@dataclass(frozen=True)
class SelfMadeConfig:
    """Settings of the conversations.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    n: int = setting(3200, "number of conversations")
    minutes: float = setting(0.0, "start no more conversations after this time; 0: no limit")
    asked: float = setting(0.3, "share of conversations about the documents of a row of --qa, including its question")
    mixed: float = setting(0.5, "share of the others about short passages of many documents, in random order")
    turns: tuple[int, int] = setting((3, 6), "minimum and maximum questions of a conversation")
    unanswerable: float = setting(0.06, "share of questions taken from another conversation")
    whole: float = setting(0.06, "share of questions about all blocks")
    both: float = setting(0.2, "share of questions about two blocks")
    answer_tokens: int = setting(96, "maximum tokens of an answer")
    sampled: float = setting(0.5, "share of conversations with sampled instead of greedy answers")
    temperature: float = setting(0.7, "temperature of questions and of sampled answers")
    max_tokens: int = setting(3584, "maximum tokens of a conversation's blocks")
    rows: int = setting(96, "conversations decoded at once")
    seed: int = setting(0, "random seed")

    def __post_init__(self) -> None:
        for name in ("asked", "mixed", "unanswerable", "whole", "both", "sampled"):
            within(name, getattr(self, name), 0, 1)
        for name in ("n", "answer_tokens", "max_tokens", "rows"):
            within(name, getattr(self, name), 1, 1 << 40)
        if not 1 <= self.turns[0] <= self.turns[1]:
            raise ValueError(f"turns is {self.turns[0]} to {self.turns[1]}; expected a range from 1.")


@dataclass
class Plan:
    """A planned conversation: its blocks, its questions, and requests for questions that the model has yet to write."""

    index: int
    source: str
    blocks: list[str]
    questions: list[tuple[str, str]] = field(default_factory=list)  # kind, text
    to_write: list[tuple[str, str]] = field(default_factory=list)  # kind, text of its blocks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``selfmade``."""
    parser.add_argument("--qa", nargs="*", default=[], help="files of questions (schema: training/qa.py)")
    parser.add_argument("--seg", nargs="*", default=[], help="files of documents (schema: training/corpus.py)")
    parser.add_argument("--split", default="train", help="split (default: train)")
    parser.add_argument("--out", type=Path, required=True, help="output file, .jsonl; existing lines are kept")
    parser.add_argument(
        "--model", default="smollm2", help="model that writes questions and answers (default: %(default)s)"
    )
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU if available)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that segment documents")
    add_flags(parser, SelfMadeConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the conversations; return their number, and how many were skipped.

    A conversation is skipped if no block fits into ``max_tokens``, or if the model wrote no usable question or answer.

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
        raise ValueError(f"these files have no rows of the split {args.split!r}; pass others by --qa and --seg.")
    model = load_frozen(args.model, Adapter(str(args.model), base_id(args.model), {}), device)
    writer = ConversationWriter(model, config)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("a", encoding="utf-8") as file:
        since = time.perf_counter()
        for plans in _plans(args, config, questions, texts, _n_written(args.out)):
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in writer.write(plans))
            file.flush()
            if config.minutes and time.perf_counter() - since > 60 * config.minutes:
                break
    rows = list(read_conversations(args.out))
    n_turns, last = sum(len(row["turns"]) for row in rows), max((row["index"] for row in rows), default=-1)
    return {"file": str(args.out), "n": len(rows), "skipped": last + 1 - len(rows), "turns": n_turns}


def _plans(
    args: argparse.Namespace, config: SelfMadeConfig, questions: Sequence[QARow], texts: Sequence[Row], first: int
) -> Iterator[list[Plan]]:
    """Plans in chunks; processes segment the next chunk's documents while the network works on this one."""
    chunks = [range(start, min(start + CHUNK, config.n)) for start in range(first, config.n, CHUNK)]
    with _pool(args) as begin:
        work = partial(_work, config=config)
        jobs = ([_job(index, questions, texts, config) for index in chunk] for chunk in chunks)
        coming = begin(work, next(jobs, []))
        for _ in tqdm(chunks, desc="conversations", unit=f"x{CHUNK}"):
            found = [plan for plan in coming if plan is not None]
            coming = begin(work, next(jobs, []))
            if found:
                yield found


@contextmanager
def _pool(args: argparse.Namespace) -> Iterator[Callable[..., Iterator[Plan | None]]]:
    """A function that maps work over jobs in `args.workers` processes; with one, lazily in this process."""
    if args.workers == 1:
        _begin_worker(args.model)
        yield lambda work, jobs: itertools.starmap(work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers, context, _begin_worker, (args.model,)) as pool:
        yield lambda work, jobs: pool.map(work, *zip(*jobs, strict=True), chunksize=8) if jobs else iter(())


def _shorten(blocks: list[str], room: int, counter: HFTokenCounter) -> None:
    """Remove blocks from the end until the rest fits."""
    while blocks and sum(map(counter.count, blocks)) > room:
        blocks.pop()


_TOKENIZER: list[PreTrainedTokenizerBase] = []
"""Tokenizer of a worker process, loaded once: it is too large to send with each job."""


def _begin_worker(model: str) -> None:
    _TOKENIZER[:] = [load_tokenizer(model)]


def _work(index: int, asked: QARow | None, texts: Sequence[Row], config: SelfMadeConfig) -> Plan | None:
    return make_plan(index, asked, texts, _TOKENIZER[0], config)


def read_conversations(path: Path) -> Iterator[dict[str, Any]]:
    """Read a file of conversations."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _n_written(path: Path) -> int:
    """Index from which to continue: the start of the chunk after the last written line."""
    if not path.exists():
        return 0
    last = max((row["index"] for row in read_conversations(path)), default=-1)
    return -(-(last + 1) // CHUNK) * CHUNK


def _job(
    index: int, questions: Sequence[QARow], texts: Sequence[Row], config: SelfMadeConfig
) -> tuple[int, QARow | None, list[Row]]:
    """Draw a row of questions, one document, or several documents of one or all sources; sources are equally likely."""
    draw = random.Random(f"{config.seed}/{index}")
    if questions and (not texts or draw.random() < config.asked):
        return index, draw.choice(questions), []
    source = draw.choice(sorted({row["dataset"] for row in texts}))
    of_source = [row for row in texts if row["dataset"] == source]
    if draw.random() >= config.mixed:
        return index, None, [draw.choice(of_source)]
    return index, None, draw.choices(of_source if draw.random() < 0.5 else texts, k=draw.randint(6, MAX_MIXED))


def make_plan(
    index: int, asked: QARow | None, texts: Sequence[Row], tokenizer: PreTrainedTokenizerBase, config: SelfMadeConfig
) -> Plan | None:
    """Choose the blocks and kinds of questions of a conversation; None if the rows have no blocks."""
    draw, counter = random.Random(f"{config.seed}/{index}/outline"), HFTokenCounter(tokenizer)
    data = DataConfig(max_tokens=config.max_tokens, unanswerable=0, more_turns=0, seed=config.seed)
    if asked is not None:
        draft = Drafter(counter, data).from_question(asked, draw)
        plan = Plan(index, asked["dataset"], draft.blocks if draft else [], [("given", asked["question"])])
    else:
        plan = Plan(index, texts[0]["dataset"] if len(texts) == 1 else "mixed", [])
        room = 2 * config.max_tokens // len(texts)
        short = replace(data, max_tokens=room, block_tokens=(16, max(32, room // 4)))  # so that at least one block fits
        parts = [Drafter(counter, short if len(texts) > 1 else data).part(text, draw) for text in texts]
        plan.blocks = [passage.text for part in parts for passage in (part if len(parts) == 1 else part[:1])]
        _shorten(plan.blocks, config.max_tokens, counter)
    if not plan.blocks:
        return None
    for _ in range(draw.randint(*config.turns) - len(plan.questions)):
        chance = draw.random()
        if chance < config.whole:
            plan.questions.append(("whole", draw.choice(GENERAL_QUESTIONS)))
        elif chance < config.whole + config.both and len(plan.blocks) > 1:
            plan.to_write.append(("both", "\n\n".join(block.strip() for block in draw.sample(plan.blocks, 2))))
        else:
            kind = draw.choice([kind for kind in KINDS if kind != "both"])
            plan.to_write.append((kind, draw.choice(plan.blocks).strip()))
    return plan


class ConversationWriter:
    """Lets a model write questions and answer them.

    Parameters
    ----------
    model : AnswerModel
        Runs in full mode.
    config : SelfMadeConfig
    """

    def __init__(self, model: AnswerModel, config: SelfMadeConfig):
        self._prompt, self._tokenizer, self._config = Prompt(model.tokenizer), model.tokenizer, config
        room = config.max_tokens + len(self._prompt.prefix_ids) + config.turns[1] * (config.answer_tokens + 96)
        self._decoder = BatchDecoder(model, config.rows, room, config.seed)

    def write(self, plans: Sequence[Plan]) -> list[dict[str, Any]]:
        """One line for each plan with at least one answered question, in order."""
        self._write_questions(plans)
        draw = random.Random(f"{self._config.seed}/{plans[0].index}/make")
        for plan, other in zip(plans, [*plans[1:], *plans[:1]], strict=True):
            draw.shuffle(plan.questions)
            if plan.questions and other.questions and draw.random() < self._config.unanswerable * len(plan.questions):
                plan.questions[draw.randrange(len(plan.questions))] = ("unanswerable", draw.choice(other.questions)[1])
        lines = {plan.index: self._line(plan) for plan in plans if plan.questions}
        requests = [self._answer_request(plan, draw) for plan in plans if plan.questions]
        for completion in self._decoder.complete(requests):
            turns = lines[completion.key]["turns"]  # type: ignore[index]
            del turns[len(completion.answers) :]
            for turn, ids in zip(turns, completion.answers, strict=True):
                turn["answer"] = self._tokenizer.decode(ids, skip_special_tokens=True)
            turns[-1]["complete"] = completion.complete
        return [line for _, line in sorted(lines.items()) if all(turn["answer"].strip() for turn in line["turns"])]

    def _write_questions(self, plans: Sequence[Plan]) -> None:
        by_key: dict[tuple[int, int], Plan] = {}
        requests = []
        for plan in plans:
            for number, (kind, text) in enumerate(plan.to_write):
                by_key[plan.index, number] = plan
                request = self._prompt.rendered(None, [("user", f"{text}\n\n{KINDS[kind]} {INSTRUCTIONS}")])
                ids = self._prompt.own_ids(request)
                requests.append(Request((plan.index, number), ids, (), 80, self._config.temperature))
        for completion in self._decoder.complete(requests):
            plan, number = by_key[completion.key], completion.key[1]  # type: ignore[index]
            question = extract_question(self._tokenizer.decode(completion.answers[0], skip_special_tokens=True))
            if completion.complete and question:
                plan.questions.append((plan.to_write[number][0], question))

    def _answer_request(self, plan: Plan, draw: random.Random) -> Request:
        first, *follow_ups = [question for _, question in plan.questions]
        prompt = self._prompt
        ids = [*prompt.prefix_ids, *(t for block in plan.blocks for t in prompt.block_ids(block))]
        ids += prompt.final_ids(first)
        temperature = self._config.temperature if draw.random() < self._config.sampled else 0.0
        return Request(
            plan.index, ids, [follow_up_ids(prompt, q) for q in follow_ups], self._config.answer_tokens, temperature
        )

    @staticmethod
    def _line(plan: Plan) -> dict[str, Any]:
        turns = [{"question": text, "answer": "", "kind": kind, "complete": True} for kind, text in plan.questions]
        return {"index": plan.index, "source": plan.source, "blocks": plan.blocks, "turns": turns}


def extract_question(output: str) -> str:
    """The question in a model's output, or an empty string if it is unusable without its text."""
    line = next((line for line in output.splitlines() if line.strip()), "")
    question = _LABEL.sub("", line).strip().strip('"“”*').strip()
    return question if 8 <= len(question) <= 300 and not _VAGUE.search(question) else ""
