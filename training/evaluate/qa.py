"""Evaluate answers in full, naive and block mode: contains, exact, F1, likelihood, divergence from full mode."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from blockrag.kv.block_kv import BlockKV
from training.cli import commit
from training.corpus import first_of_each
from training.evaluate import blocks, readers
from training.evaluate.metrics import contains, contains_all, exact, f1, interval, ratio_interval
from training.evaluate.readers import BatchAnswerer, Reader, open_readers
from training.qa import QARow, gold_answer, passage, read_questions

METRICS = ("contains", "exact", "f1", "agreement", "nll", "kl")
POSITIONS = ("first third", "middle third", "last third")
MAX_GOLD_TOKENS = 64
"""Maximum tokens of the gold answer for likelihood and divergence."""

PROMPT_ROOM = 1024
"""Tokens reserved for prefix, sinks and question."""

_Scores = dict[str, float]


@dataclass(frozen=True)
class _Answered:
    """Answer and scores of a question in one mode; `about` describes its blocks."""

    row: QARow
    mode: str
    about: dict[str, Any]
    answer: str
    scores: _Scores


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``qa``."""
    parser.add_argument("--data", nargs="+", required=True, help="files of questions (schema: training/qa.py)")
    parser.add_argument("--modes", default="full,naive,block", help="comma-separated (default: %(default)s)")
    parser.add_argument("--split", default="test", help="split (default: test)")
    parser.add_argument("--limit", type=int, default=0, help="maximum questions per file (default: all)")
    parser.add_argument(
        "--passages", type=int, default=5, help="documents per question, gold ones first; 0: all (default: 5)"
    )
    parser.add_argument(
        "--places", action="store_true", help="ask each question with its gold document at every position"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=2048, help="maximum tokens of a question's blocks (default: 2048)"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=32, help="maximum tokens of an answer; four times as many if long-form"
    )
    parser.add_argument(
        "--show", type=int, default=0, help="also report the answers to the first questions of each file"
    )
    blocks.add_flags(parser)
    readers.add_flags(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate; see `summarise` for the result."""
    modes = args.modes.split(",")
    opened = open_readers(modes, args.model, args.adapter, args.device)
    rows = list(first_of_each(read_questions(args.data, args.split), args.limit, "dataset"))
    if not rows:
        raise ValueError(f"these files have no questions of the split {args.split!r}.")
    if args.places:
        rows = [moved for row in rows for moved in at_every_place(row, args.passages)]
    chooser = _BlockChooser(args, opened[modes[0]])
    asked: dict[tuple[int, str], tuple[dict[str, Any], _Scores]] = {}
    answers: dict[Hashable, str] = {}
    answerer = BatchAnswerer(args.rows, args.max_tokens + 4 * args.max_new_tokens + PROMPT_ROOM)
    for number, row in enumerate(tqdm(rows, desc="questions", file=sys.stderr)):
        chosen, about = chooser.choose(row)
        for mode, parts, final, scores in _score_gold_answers(opened, row, chosen):
            asked[number, mode] = about, scores
            n_most = _max_answer_tokens(row, args.max_new_tokens)
            answers |= dict(answerer.answer((number, mode), opened[mode], parts, final, n_most))
    answers |= dict(answerer.drain())
    measured = []
    for (number, mode), (about, scores) in asked.items():
        answer, row = answers[number, mode], rows[number]
        scores |= _answer_scores(answer, row, answers.get((number, "full")))
        measured.append(_Answered(row, mode, about, answer, scores))
    settings = {name: getattr(args, name) for name in ("split", "passages", "granularity", "segmenter", "device")}
    about_run = {"commit": commit(), **readers.about(args), **settings}
    return {**summarise(measured), "answers": _sample_answers(measured, args.show), **about_run}


def at_every_place(row: QARow, n_passages: int) -> Iterator[QARow]:
    """The question with its first gold document at every position among `n_passages` documents; 0: all of them.

    Raises
    ------
    ValueError
        If the row has no gold document.
    """
    gold = next((document for document in row["documents"] if document["is_gold"]), None)
    if gold is None:
        raise ValueError(f"question {row['id']} has no gold document to move.")
    others = [document for document in row["documents"] if not document["is_gold"]]
    others = others[: n_passages - 1] if n_passages else others
    for place in range(len(others) + 1):
        documents = [*others[:place], gold, *others[place:]]
        yield {**row, "id": f"{row['id']}@{place}", "documents": documents, "place": place}


class _BlockChooser:
    """Chooses the blocks of a question: as many as fit, gold documents first; returned in the row's order."""

    def __init__(self, args: argparse.Namespace, reader: Reader):
        self._args, self._prompt = args, reader.prompt
        self._segmenter = blocks.BlockSegmenter(args, reader.model.tokenizer)

    def choose(self, row: QARow) -> tuple[list[list[int]], dict[str, Any]]:
        """Token ids of the blocks, and the number of documents and position of the first gold block."""
        documents = row["documents"]
        gold_first = sorted(range(len(documents)), key=lambda i: not documents[i]["is_gold"])
        taken = gold_first[: self._args.passages or None]
        room, kept = self._args.max_tokens, []
        for number in taken:
            for place, text in enumerate(self._blocks(passage(documents[number]))):
                ids = self._prompt.block_ids(text)
                if len(ids) <= room:
                    room -= len(ids)
                    kept.append((number, place, ids))
        kept.sort(key=lambda each: each[:2])
        gold = [i for i, (number, _, _) in enumerate(kept) if documents[number]["is_gold"]]
        position = POSITIONS[min(2, 3 * gold[0] // len(kept))] if gold else None
        numbers = {number for number, _, _ in kept}
        n_gold = sum(bool(documents[number]["is_gold"]) for number in numbers)
        about = {"n_passages": len(numbers), "n_gold": n_gold, "position": position, "place": row.get("place")}
        return [ids for _, _, ids in kept], about

    def _blocks(self, text: str) -> Sequence[str]:
        """A short text is one block; a longer one is segmented."""
        is_short = self._segmenter.counter.count(text) <= self._segmenter.bounds.maximum
        return [text] if text.strip() and is_short else self._segmenter.blocks(text)


def _needs_all_answers(row: QARow) -> bool:
    """Whether all gold answers are required, instead of any of them."""
    return bool(row.get("meta", {}).get("all_answers"))


def _max_answer_tokens(row: QARow, max_new_tokens: int) -> int:
    """Maximum tokens of the answer: four times as many for a long-form question."""
    return 4 * max_new_tokens if row.get("meta", {}).get("long_form") else max_new_tokens


def _answer_scores(answer: str, row: QARow, full: str | None) -> _Scores:
    """Scores of an answer against the gold answers, and its F1 against full mode's answer if there is one."""
    scores = {name: function(answer, row["answers"]) for name, function in _ANSWER_METRICS.items()}
    if _needs_all_answers(row):
        scores["contains"] = contains_all(answer, row["answers"])
    return scores if full is None else scores | {"agreement": f1(answer, [full])}


def _score_gold_answers(
    opened: dict[str, Reader], row: QARow, chosen: Sequence[Sequence[int]]
) -> Iterator[tuple[str, list[BlockKV], list[int], _Scores]]:
    """For each mode: the KV of prefix and blocks, the final block's tokens, and scores of the gold answer.

    Scores are the mean negative log-likelihood and, if full mode is evaluated too, the divergence from it.
    """
    full: torch.Tensor | None = None
    for mode, reader in sorted(opened.items(), key=lambda item: item[0] != "full"):
        final = reader.prompt.final_ids(row["question"])
        gold = ", ".join(row["answers"]) if _needs_all_answers(row) else gold_answer(row)
        ids = reader.model.tokenizer(gold, add_special_tokens=False).input_ids[:MAX_GOLD_TOKENS]
        ids.append(reader.model.tokenizer.eos_token_id)
        parts = reader.read(chosen)
        found = reader.log_probabilities(parts, final, ids)
        nll = -found.gather(1, torch.tensor(ids, device=found.device)[:, None]).mean()
        scores = {"nll": float(nll)}
        if mode == "full":
            full = found
        if full is not None:
            scores["kl"] = float((full.exp() * (full - found)).sum(-1).mean())
        yield mode, parts, final, scores


_ANSWER_METRICS: dict[str, Callable[[str, Sequence[str]], float]] = {"contains": contains, "exact": exact, "f1": f1}


def summarise(measured: Sequence[_Answered]) -> dict[str, Any]:
    """Means over questions with 95 % intervals.

    ``rows``: by file and mode; ``by_passages``, ``by_gold``, ``by_position``: also by the number of documents, the
    number of gold ones and the position of the first gold block; ``by_place``: by the gold document's position with
    --places; ``of_full``: each mode's score as a share of full mode's.
    """
    return {
        "rows": _rows(measured, lambda about: {}),
        "of_full": _ratios_to_full(measured),
        "by_passages": _rows(measured, lambda about: {"n_passages": about["n_passages"]}),
        "by_gold": _rows(measured, lambda about: {"n_gold": about["n_gold"]}),
        "by_position": _rows(measured, lambda about: {"position": about["position"]}),
        "by_place": _rows([each for each in measured if each.about["place"] is not None], _place),
    }


def _place(about: dict[str, Any]) -> dict[str, Any]:
    return {"place": about["place"]}


def _sample_answers(measured: Sequence[_Answered], n: int) -> list[dict[str, Any]]:
    """The first `n` questions of each file with the gold answers and each mode's answer."""
    samples: dict[tuple[str, str], dict[str, Any]] = {}
    for each in measured:
        row = each.row
        known = {"data": row["dataset"], "id": row["id"], "question": row["question"], "answers": row["answers"]}
        samples.setdefault((row["dataset"], row["id"]), known)[each.mode] = each.answer
    return list(first_of_each(samples.values(), n, "data")) if n else []


def _ratios_to_full(measured: Sequence[_Answered]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], dict[str, _Scores]] = defaultdict(dict)
    for each in measured:
        groups[each.row["dataset"], each.mode][each.row["id"]] = each.scores
    shares = []
    for (data, mode), by_id in groups.items():
        full = groups.get((data, "full"), {})
        for name in ("contains", "f1") if full and mode != "full" else ():
            bounds = ratio_interval([by_id[id][name] for id in full], [full[id][name] for id in full])
            shares.append(
                {"data": data, "mode": mode, "metric": name, **dict(zip(("share", "low", "high"), bounds, strict=True))}
            )
    return shares


def _rows(measured: Sequence[_Answered], key: Callable[[dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple, list[_Scores]] = defaultdict(list)
    for each in measured:
        groups[(("data", each.row["dataset"]), ("mode", each.mode), *key(each.about).items())].append(each.scores)
    return [{**dict(known), "n": len(scores), **_means(scores, METRICS)} for known, scores in groups.items()]


def _means(scores: Sequence[_Scores], names: Sequence[str]) -> dict[str, float | None]:
    """Mean and interval of each metric; null if it was not measured."""
    found: dict[str, float | None] = {}
    for name in names:
        values = [each[name] for each in scores if name in each]
        bounds = interval([values]) if values else (None, None, None)
        found |= dict(zip((name, f"{name}_low", f"{name}_high"), bounds, strict=True))
    return found


def table(result: dict[str, Any]) -> str:
    """The rows as a Markdown table."""
    lines = ["| data | mode | n | contains | exact | F1 | F1 to full | NLL | KL from full |", "|---" * 9 + "|"]
    for row in result["rows"]:
        cells = [_cell(row, name, 100 if name in (*_ANSWER_METRICS, "agreement") else 1) for name in METRICS]
        lines.append(f"| {row['data']} | {row['mode']} | {row['n']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any], name: str, unit: int) -> str:
    if row[name] is None:
        return "-"
    mean, low, high = (unit * row[key] for key in (name, f"{name}_low", f"{name}_high"))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})" if unit > 1 else f"{mean:.3f} ({low:.3f} to {high:.3f})"
