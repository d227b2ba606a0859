"""Training examples as token ids, identical to those of serving, and their file format.

The file is in safetensors format: all tokens concatenated, and the length of each part.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerBase

from blockrag.errors import UnsupportedModelError
from blockrag.prompt import Prompt
from blockrag.segment import HFTokenCounter
from training.corpus import Row
from training.distill.config import DataConfig
from training.distill.drafts import Draft, Drafter
from training.distill.tasks import QAPair
from training.qa import QARow

Ids = np.ndarray
"""int32 ``(tokens,)``."""

_ANSWER, _QUESTION = "\u2983answer\u2984", "\u2983question\u2984"


@dataclass(frozen=True, eq=False)
class Example:
    """A prompt with its answers.

    Attributes
    ----------
    blocks : list of Ids
        Token ids without sinks.
    turns : list of (Ids, Ids)
        Question with the answer's header, and answer with its end token.
    """

    blocks: list[Ids]
    turns: list[tuple[Ids, Ids]]

    @property
    def n_tokens(self) -> int:
        """Tokens of blocks and turns."""
        return sum(map(len, self.blocks)) + sum(len(q) + len(a) for q, a in self.turns)


@dataclass(frozen=True, eq=False)
class Examples:
    """Training examples of one model.

    Attributes
    ----------
    prefix : Ids
        Token ids of the prompt's prefix.
    items : list of Example
    provenance : dict
        Settings, and number of examples by source and task. Stored in the file as ``made_of``.
    """

    prefix: Ids
    items: list[Example]
    provenance: dict


class Tokeniser:
    """Converts drafts to examples, with the prompt of serving.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
    config : DataConfig
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: DataConfig):
        self.prompt = Prompt(tokenizer)
        self.prefix = _ids(self.prompt.prefix_ids)
        self._tokenizer, self._max_answer = tokenizer, config.answer_tokens

    def example(self, draft: Draft) -> Example:
        """Tokenise a draft."""
        blocks = [_ids(self.prompt.block_ids(text)) for text in draft.blocks]
        turns = []
        for number, pair in enumerate(draft.turns):
            question = follow_up_ids(self.prompt, pair.question) if number else self.prompt.final_ids(pair.question)
            turns.append((_ids(question), self.answer(pair.answer, complete=pair.complete)))
        return Example(blocks, turns)

    def answer(self, text: str, *, complete: bool = True) -> Ids:
        """Tokens of an answer, truncated to the maximum; a `complete` answer gets the end token."""
        ids = self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids[: self._max_answer]
        return _ids([*ids, self._tokenizer.eos_token_id] if complete else ids)


def follow_up_ids(prompt: Prompt, question: str) -> list[int]:
    """Token ids of a follow-up question, after an answer and its end token.

    Raises
    ------
    UnsupportedModelError
        If the chat template drops or repeats a turn.
    """
    turns = [("user", "?"), ("assistant", _ANSWER), ("user", f"Question: {_QUESTION}")]
    pieces = re.split(f"{_ANSWER}|{_QUESTION}", prompt.rendered(None, turns))
    if len(pieces) != 3:
        raise UnsupportedModelError(f"the chat template of {prompt.tokenizer.name_or_path} drops or repeats a turn")
    _, before, after = pieces
    end = prompt.tokenizer.eos_token
    if end and before.lstrip().startswith(end):
        before = before.lstrip().removeprefix(end)  # the answer already has it
    return [*prompt.own_ids(before), *prompt.user_ids(question.strip()), *prompt.own_ids(after)]


@dataclass(frozen=True)
class Job:
    """Work of one process: `n` examples from `questions` and `texts`, and one from each line of `selfmade`.

    The random generator is seeded by `number` and the seed.
    """

    number: int
    n: int
    questions: Sequence[QARow]
    texts: Sequence[Row]
    selfmade: Sequence[dict[str, Any]] = ()


def make(job: Job, tokenizer: PreTrainedTokenizerBase, config: DataConfig) -> tuple[list[Example], Counter[str]]:
    """Make the job's examples; also return their number by source and task."""
    draw = random.Random(f"{config.seed}/{job.number}")
    drafter, tokeniser = Drafter(HFTokenCounter(tokenizer), config), Tokeniser(tokenizer, config)
    examples: list[Example] = []
    counts: Counter[str] = Counter()
    for line in job.selfmade:
        conversation = _selfmade_draft(line)
        examples.append(tokeniser.example(conversation))
        counts.update([f"made: {conversation.source}", *(f"made: {pair.task}" for pair in conversation.turns)])
    questions = _endless(job.questions, draw)
    while len(examples) < job.n + len(job.selfmade):
        if job.texts and (draw.random() < config.built or not job.questions):
            draft = drafter.from_document(_draw_text(job.texts, draw), _draw_text(job.texts, draw), draw)
        else:
            draft = drafter.from_question(next(questions), draw)
        if draft is not None:
            examples.append(tokeniser.example(draft))
            counts.update([draft.source, *(f"task: {pair.task}" for pair in draft.turns)])
    return examples, counts


def _selfmade_draft(line: dict[str, Any]) -> Draft:
    """A conversation from `selfmade` as a draft."""
    turns = [QAPair(turn["question"], turn["answer"], turn["kind"], turn["complete"]) for turn in line["turns"]]
    return Draft(line["blocks"], turns, line["source"])


def _draw_text(texts: Sequence[Row], draw: random.Random) -> Row:
    """Draw a document; every source is equally likely."""
    dataset = draw.choice(sorted({row["dataset"] for row in texts}))
    return draw.choice([row for row in texts if row["dataset"] == dataset])


def _endless(rows: Sequence[QARow], draw: random.Random) -> Iterator[QARow]:
    """All rows in random order, again and again."""
    while True:
        yield from draw.sample(rows, len(rows))


def save(examples: Examples, path: Path) -> None:
    """Write examples to a file."""
    items = examples.items
    parts = [part for item in items for part in [*item.blocks, *(ids for turn in item.turns for ids in turn)]]
    tensors = {
        "prefix": examples.prefix,
        "tokens": np.concatenate(parts),
        "lengths": np.array([len(part) for part in parts], np.int32),
        "n_blocks": np.array([len(item.blocks) for item in items], np.int32),
        "n_turns": np.array([len(item.turns) for item in items], np.int32),
    }
    if max(int(tensors["tokens"].max()), int(examples.prefix.max())) < 1 << 16:
        tensors |= {name: tensors[name].astype(np.uint16) for name in ("tokens", "prefix")}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"made_of": json.dumps(examples.provenance)})


def load(path: Path) -> Examples:
    """Read a file of examples."""
    with safe_open(path, "numpy") as file:
        tensors = {name: file.get_tensor(name).astype(np.int32) for name in file.keys()}
        provenance = json.loads(file.metadata()["made_of"])
    parts = iter(np.split(tensors["tokens"], np.cumsum(tensors["lengths"])[:-1]))
    items = []
    for n_blocks, n_turns in zip(tensors["n_blocks"], tensors["n_turns"], strict=True):
        blocks = [next(parts) for _ in range(n_blocks)]
        items.append(Example(blocks, [(next(parts), next(parts)) for _ in range(n_turns)]))
    return Examples(tensors["prefix"], items, provenance)


def load_all(paths: Sequence[Path]) -> Examples:
    """Read several files as one.

    Raises
    ------
    ValueError
        If their prefixes differ: they were prepared for different models or releases.
    """
    first, *others = map(load, paths)
    if any(not np.array_equal(first.prefix, other.prefix) for other in others):
        raise ValueError("these files have different prefixes; prepare all of them with the same model and release.")
    if not others:
        return first
    items = [item for each in (first, *others) for item in each.items]
    return Examples(first.prefix, items, {"files": [each.provenance for each in (first, *others)]})


def collect(jobs: Iterable[tuple[list[Example], Counter[str]]], prefix: Ids, config: DataConfig, base: str) -> Examples:
    """Join the examples of all jobs and shuffle them."""
    items: list[Example] = []
    counts: Counter[str] = Counter()
    for some, counted in jobs:
        items += some
        counts += counted
    random.Random(config.seed).shuffle(items)
    return Examples(prefix, items, {"base": base, "settings": asdict(config), "counts": dict(counts.most_common())})


def _ids(ids: Iterable[int]) -> Ids:
    return np.fromiter(ids, np.int32)
