"""Draft training examples as text: the blocks, and questions and answers about them."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from blockrag.documents.document import Document
from blockrag.segment import HFTokenCounter, Segmentation, SizeBounds, Structural
from training.corpus import Row
from training.distill.config import DataConfig
from training.distill.tasks import NO_ANSWER, Passage, QAPair, make_question, make_unanswerable
from training.qa import QARow, gold_answer, passage

CHARS_PER_TOKEN = 5
"""More than the data's characters per token, so that texts cropped by characters have enough tokens."""


@dataclass(frozen=True)
class Draft:
    """An example as text."""

    blocks: list[str]
    turns: list[QAPair]
    source: str


class Drafter:
    """Makes drafts from rows of questions and of documents.

    Parameters
    ----------
    counter : HFTokenCounter
        Counts the model's tokens.
    config : DataConfig
    """

    def __init__(self, counter: HFTokenCounter, config: DataConfig):
        self._counter, self._config = counter, config

    def from_question(self, row: QARow, draw: random.Random) -> Draft | None:
        """Draft from a row of questions: its gold documents and a random number of the others, as far as they fit."""
        documents = row["documents"]
        gold = [i for i, document in enumerate(documents) if document["is_gold"]]
        others = [i for i in range(len(documents)) if i not in gold]
        draw.shuffle(others)
        answer, task = gold_answer(row), "question"
        if draw.random() < self._config.unanswerable and others and not row["meta"].get("long_form"):
            kept = [i for i in others if answer.casefold() not in documents[i]["text"].casefold()]
            others, gold, answer, task = kept, [], NO_ANSWER, "unanswerable"
        others = others[: draw.randint(min(2, len(others)), len(others))]
        passages = self._fitting((i, block) for i in gold + others for block in self._split(documents[i], draw))
        if not passages:
            return None
        blocks = [text for _, text in self._ordered(passages, row, draw)]
        turns = self._add_turns([Passage(text) for text in blocks], [QAPair(row["question"], answer, task)], draw)
        return Draft(blocks, turns, row["dataset"])

    def from_document(self, row: Row, elsewhere: Row, draw: random.Random) -> Draft | None:
        """Draft synthetic questions about a part of a document."""
        passages = self.part(row, draw)
        pair = None
        if draw.random() < self._config.unanswerable:
            pair = make_unanswerable(passages, self.part(elsewhere, draw), draw)
        pair = pair or (make_question(passages, draw) if passages else None)
        if pair is None:
            return None
        return Draft([p.text for p in passages], self._add_turns(passages, [pair], draw), row["dataset"])

    def _add_turns(self, passages: Sequence[Passage], turns: list[QAPair], draw: random.Random) -> list[QAPair]:
        """Add synthetic questions to some examples, in random order."""
        n_most = self._config.most_turns - len(turns)
        if n_most > 0 and draw.random() < self._config.more_turns:
            found = [make_question(passages, draw) for _ in range(draw.randint(1, n_most))]
            turns = list({pair.question: pair for pair in [*turns, *filter(None, found)]}.values())
            draw.shuffle(turns)
        return turns

    def _ordered(self, passages: list[tuple[int, str]], row: QARow, draw: random.Random) -> list[tuple[int, str]]:
        """Shuffle passages of one block each; keep the order of a long document's blocks."""
        if row["meta"].get("long_form") or len({i for i, _ in passages}) < len(passages):
            return sorted(passages, key=lambda each: each[0])
        draw.shuffle(passages)
        return passages

    def _fitting(self, passages: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
        """The first passages, as many as fit."""
        room, kept = self._config.max_tokens, []
        for number, text in passages:
            room -= self._counter.count(text)
            if room < 0:
                break
            kept.append((number, text))
        return kept

    def _split(self, document: dict, draw: random.Random) -> list[str]:
        """A passage is one block; a longer text is segmented."""
        text = passage(document)
        maximum = self._config.block_tokens[1]
        if not text.strip():
            return []
        if len(text) <= 2 * maximum and self._counter.count(text) <= maximum:
            return [text]
        return [text[start:end] for start, end in self._spans(text[: CHARS_PER_TOKEN * self._config.max_tokens], draw)]

    def part(self, row: Row, draw: random.Random) -> list[Passage]:
        """Consecutive blocks of a document from a random boundary on, as many as fit."""
        starts = [b["char"] for b in row["boundaries"] if b["level"] <= 2] or [0]
        room = draw.randint(self._config.max_tokens // 4, self._config.max_tokens)
        begin = draw.choice([start for start in starts if start <= max(0, len(row["text"]) - 3 * room)] or [0])
        text = row["text"][begin : begin + CHARS_PER_TOKEN * room]
        headings = {start - begin: row["text"][start:end] for start, end in row["headings"] if start >= begin}
        kept: list[Passage] = []
        for start, end in self._spans(text, draw) if text.strip() else ():
            room -= self._counter.count(text[start:end])
            if room < 0:
                break
            heading = next((words for char, words in headings.items() if start <= char < start + 3), "")
            kept.append(Passage(text[start:end], heading))
        return kept

    def _spans(self, text: str, draw: random.Random) -> Iterator[tuple[int, int]]:
        document = Document("text", "text/plain", text)
        bounds = SizeBounds(*self._config.block_tokens)
        segmentation = Segmentation.create(document, Structural(), self._counter, bounds)
        for block in segmentation.blocks(draw.uniform(*self._config.granularity)):
            yield block.start, block.end
