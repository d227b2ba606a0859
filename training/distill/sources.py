"""Rows -> the blocks of an example and what is asked about them, as texts. Knows chance and sizes, no network."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from blockrag.documents.document import Document
from blockrag.segment import HFTokenCounter, Segmentation, SizeBounds, Structural
from training.corpus import Row
from training.distill.config import DataConfig
from training.distill.tasks import UNSAID, Asked, Passage, ask, ask_unsaid
from training.qa import QARow, passage, said_answer

CHARS_PER_TOKEN = 5
"""Texts of these sources have fewer characters a token, so that what is cropped by characters is long enough."""


@dataclass(frozen=True)
class Draft:
    """Blocks and turns of an example before they are tokens."""

    blocks: list[str]
    turns: list[Asked]
    source: str


class Drafter:
    """Makes drafts of rows, each from its own chance.

    Parameters
    ----------
    counter : HFTokenCounter
        Counts as the model does.
    config : DataConfig
    """

    def __init__(self, counter: HFTokenCounter, config: DataConfig):
        self._counter, self._config = counter, config

    def of_question(self, row: QARow, draw: random.Random) -> Draft | None:
        """A question of a data set, over its gold documents and as many others as chance and room give it."""
        documents = row["documents"]
        gold = [i for i, document in enumerate(documents) if document["is_gold"]]
        others = [i for i in range(len(documents)) if i not in gold]
        draw.shuffle(others)
        answer, task = said_answer(row), "question"
        if draw.random() < self._config.unsaid and others and not row["meta"].get("long_form"):
            kept = [i for i in others if answer.casefold() not in documents[i]["text"].casefold()]
            others, gold, answer, task = kept, [], UNSAID, "unsaid"
        others = others[: draw.randint(min(2, len(others)), len(others))]
        passages = self._fitting((i, block) for i in gold + others for block in self._cut(documents[i], draw))
        if not passages:
            return None
        blocks = [text for _, text in self._arranged(passages, row, draw)]
        turns = self._more([Passage(text) for text in blocks], [Asked(row["question"], answer, task)], draw)
        return Draft(blocks, turns, row["dataset"])

    def of_text(self, row: Row, elsewhere: Row, draw: random.Random) -> Draft | None:
        """Questions built from a part of a document."""
        passages = self.part(row, draw)
        asked = None
        if draw.random() < self._config.unsaid:
            asked = ask_unsaid(passages, self.part(elsewhere, draw), draw)
        asked = asked or (ask(passages, draw) if passages else None)
        if asked is None:
            return None
        return Draft([p.text for p in passages], self._more(passages, [asked], draw), row["dataset"])

    def _more(self, passages: Sequence[Passage], turns: list[Asked], draw: random.Random) -> list[Asked]:
        """With further questions before or after, sometimes."""
        most = self._config.most_turns - len(turns)
        if most > 0 and draw.random() < self._config.more_turns:
            found = [ask(passages, draw) for _ in range(draw.randint(1, most))]
            turns = list({asked.question: asked for asked in [*turns, *filter(None, found)]}.values())
            draw.shuffle(turns)
        return turns

    def _arranged(self, passages: list[tuple[int, str]], row: QARow, draw: random.Random) -> list[tuple[int, str]]:
        """In any order; blocks of one long document in theirs."""
        if row["meta"].get("long_form") or len({i for i, _ in passages}) < len(passages):
            return sorted(passages, key=lambda each: each[0])
        draw.shuffle(passages)
        return passages

    def _fitting(self, passages: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
        """As many as there is room for; what lies behind them is not cut."""
        room, kept = self._config.max_tokens, []
        for number, text in passages:
            room -= self._counter.count(text)
            if room < 0:
                break
            kept.append((number, text))
        return kept

    def _cut(self, document: dict, draw: random.Random) -> list[str]:
        """A passage is one block; a long text is cut by the segmenter."""
        text = passage(document)
        most = self._config.block_tokens[1]
        if not text.strip():
            return []
        if len(text) <= 2 * most and self._counter.count(text) <= most:
            return [text]
        return [text[start:end] for start, end in self._spans(text[: CHARS_PER_TOKEN * self._config.max_tokens], draw)]

    def part(self, row: Row, draw: random.Random) -> list[Passage]:
        """Neighbouring blocks of a document that fit, from a boundary that chance chooses."""
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
