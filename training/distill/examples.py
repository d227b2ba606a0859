"""Examples as token ids, exactly as serving makes them, and the file that keeps them. Knows no network.

The file is one safetensors file: all tokens behind one another, and how long each part is.
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
from training.distill.sources import Draft, Drafter
from training.distill.tasks import Asked
from training.qa import QARow

Ids = np.ndarray
"""int32 ``(tokens,)``."""

_ANSWER, _QUESTION = "\u2983answer\u2984", "\u2983question\u2984"


@dataclass(frozen=True, eq=False)
class Example:
    """One prompt with its answers.

    Attributes
    ----------
    blocks : list of Ids
        Without sinks.
    turns : list of (Ids, Ids)
        Questions, each with the header of its answer, and answers, each with the token that ends it.
    """

    blocks: list[Ids]
    turns: list[tuple[Ids, Ids]]

    @property
    def n_tokens(self) -> int:
        """Of blocks and turns."""
        return sum(map(len, self.blocks)) + sum(len(q) + len(a) for q, a in self.turns)


@dataclass(frozen=True, eq=False)
class Examples:
    """What a run learns from.

    Attributes
    ----------
    prefix : Ids
        Of every prompt.
    items : list of Example
    made_of : dict
        Settings, and how many examples came of which source and task.
    """

    prefix: Ids
    items: list[Example]
    made_of: dict


class Tokeniser:
    """Drafts -> examples, by the prompt that serving uses.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
    config : DataConfig
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: DataConfig):
        self.prompt = Prompt(tokenizer)
        self.prefix = _ids(self.prompt.prefix_ids)
        self._tokenizer, self._most = tokenizer, config.answer_tokens

    def example(self, draft: Draft) -> Example:
        """As token ids."""
        blocks = [_ids(self.prompt.block_ids(text)) for text in draft.blocks]
        turns = []
        for number, asked in enumerate(draft.turns):
            question = next_ids(self.prompt, asked.question) if number else self.prompt.final_ids(asked.question)
            turns.append((_ids(question), self.answer(asked.answer, complete=asked.complete)))
        return Example(blocks, turns)

    def answer(self, text: str, *, complete: bool = True) -> Ids:
        """The answer's tokens, cut where there are too many, and the token that ends a `complete` answer."""
        ids = self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids[: self._most]
        return _ids([*ids, self._tokenizer.eos_token_id] if complete else ids)


def next_ids(prompt: Prompt, question: str) -> list[int]:
    """Token ids of a further question of a conversation, after an answer and the token that ended it.

    Raises
    ------
    UnsupportedModelError
        If the chat template loses or doubles a turn.
    """
    turns = [("user", "?"), ("assistant", _ANSWER), ("user", f"Question: {_QUESTION}")]
    pieces = re.split(f"{_ANSWER}|{_QUESTION}", prompt.rendered(None, turns))
    if len(pieces) != 3:
        raise UnsupportedModelError(f"the chat template of {prompt.tokenizer.name_or_path} loses or doubles a turn")
    _, before, after = pieces
    end = prompt.tokenizer.eos_token
    if end and before.lstrip().startswith(end):
        before = before.lstrip().removeprefix(end)  # an answer has it already
    return [*prompt.own_ids(before), *prompt.user_ids(question.strip()), *prompt.own_ids(after)]


@dataclass(frozen=True)
class Job:
    """What one process makes: `n` examples of `questions` and `texts`, and one of each line of `made`.

    All chance comes from `number` and the seed."""

    number: int
    n: int
    questions: Sequence[QARow]
    texts: Sequence[Row]
    made: Sequence[dict[str, Any]] = ()


def make(job: Job, tokenizer: PreTrainedTokenizerBase, config: DataConfig) -> tuple[list[Example], Counter[str]]:
    """The job's examples, and how many of which source and task."""
    draw = random.Random(f"{config.seed}/{job.number}")
    drafter, tokeniser = Drafter(HFTokenCounter(tokenizer), config), Tokeniser(tokenizer, config)
    examples: list[Example] = []
    counts: Counter[str] = Counter()
    for line in job.made:
        conversation = _made_draft(line)
        examples.append(tokeniser.example(conversation))
        counts.update([f"made: {conversation.source}", *(f"made: {asked.task}" for asked in conversation.turns)])
    questions = _endless(job.questions, draw)
    while len(examples) < job.n + len(job.made):
        if job.texts and (draw.random() < config.built or not job.questions):
            draft = drafter.of_text(_draw_text(job.texts, draw), _draw_text(job.texts, draw), draw)
        else:
            draft = drafter.of_question(next(questions), draw)
        if draft is not None:
            examples.append(tokeniser.example(draft))
            counts.update([draft.source, *(f"task: {asked.task}" for asked in draft.turns)])
    return examples, counts


def _made_draft(line: dict[str, Any]) -> Draft:
    """A conversation of `selfmade`."""
    turns = [Asked(turn["question"], turn["answer"], turn["kind"], turn["complete"]) for turn in line["turns"]]
    return Draft(line["blocks"], turns, line["source"])


def _draw_text(texts: Sequence[Row], draw: random.Random) -> Row:
    """From each source as often as from any other."""
    dataset = draw.choice(sorted({row["dataset"] for row in texts}))
    return draw.choice([row for row in texts if row["dataset"] == dataset])


def _endless(rows: Sequence[QARow], draw: random.Random) -> Iterator[QARow]:
    """All rows in one order, then in another."""
    while True:
        yield from draw.sample(rows, len(rows))


def save(examples: Examples, path: Path) -> None:
    """Write the file."""
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
    save_file(tensors, path, {"made_of": json.dumps(examples.made_of)})


def load(path: Path) -> Examples:
    """Read the file."""
    with safe_open(path, "numpy") as file:
        tensors = {name: file.get_tensor(name).astype(np.int32) for name in file.keys()}
        made_of = json.loads(file.metadata()["made_of"])
    parts = iter(np.split(tensors["tokens"], np.cumsum(tensors["lengths"])[:-1]))
    items = []
    for n_blocks, n_turns in zip(tensors["n_blocks"], tensors["n_turns"], strict=True):
        blocks = [next(parts) for _ in range(n_blocks)]
        items.append(Example(blocks, [(next(parts), next(parts)) for _ in range(n_turns)]))
    return Examples(tensors["prefix"], items, made_of)


def load_all(paths: Sequence[Path]) -> Examples:
    """Read several files as one.

    Raises
    ------
    ValueError
        If their prompts begin differently: they were prepared for other models or releases.
    """
    first, *others = map(load, paths)
    if any(not np.array_equal(first.prefix, other.prefix) for other in others):
        raise ValueError("these files have different prefixes; prepare them all for one model and release.")
    if not others:
        return first
    items = [item for each in (first, *others) for item in each.items]
    return Examples(first.prefix, items, {"files": [each.made_of for each in (first, *others)]})


def collect(made: Iterable[tuple[list[Example], Counter[str]]], prefix: Ids, config: DataConfig, base: str) -> Examples:
    """All jobs' examples, shuffled."""
    items: list[Example] = []
    counts: Counter[str] = Counter()
    for some, counted in made:
        items += some
        counts += counted
    random.Random(config.seed).shuffle(items)
    return Examples(prefix, items, {"base": base, "settings": asdict(config), "counts": dict(counts.most_common())})


def _ids(ids: Iterable[int]) -> Ids:
    return np.fromiter(ids, np.int32)
