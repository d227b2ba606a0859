"""Answers in full, naive block and block mode: contains, exact, F1, likelihood, divergence from full mode."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from blockrag.kv.block_kv import BlockKV
from training.commit import commit
from training.corpus import first_of_each
from training.evaluate import blocks, readers
from training.evaluate.answers import contains, contains_all, exact, f1
from training.evaluate.bootstrap import interval, share_interval
from training.evaluate.readers import Reader, Writer, open_readers
from training.qa import QARow, passage, read_questions, said_answer

METRICS = ("contains", "exact", "f1", "agreement", "nll", "kl")
POSITIONS = ("first third", "middle third", "last third")
MOST_FORCED = 64
"""Tokens of a given answer whose likelihood is looked at."""

MOST_AROUND = 1024
"""Room for the prefix, the sinks and the question, in tokens."""

Scores = dict[str, float]


@dataclass(frozen=True)
class Answered:
    """One question in one mode: the answer, its scores, and `about` its blocks."""

    row: QARow
    mode: str
    about: dict[str, Any]
    answer: str
    scores: Scores


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--data", nargs="+", required=True, help="files in the schema of training/qa.py")
    parser.add_argument("--modes", default="full,naive,block", help="with commas between (default: %(default)s)")
    parser.add_argument("--split", default="test", help="which rows (default: test)")
    parser.add_argument("--limit", type=int, default=0, help="most questions of a file (default: all)")
    parser.add_argument("--passages", type=int, default=5, help="of a question, gold ones first; 0: all (default: 5)")
    parser.add_argument(
        "--places", action="store_true", help="ask each question once for each place that its gold passage can have"
    )
    parser.add_argument("--max-tokens", type=int, default=2048, help="most of a question's blocks (default: 2048)")
    parser.add_argument("--max-new-tokens", type=int, default=32, help="longest answer; four times that if long-form")
    parser.add_argument("--show", type=int, default=0, help="also tell the answers to a file's first questions")
    blocks.add_flags(parser)
    readers.add_flags(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; see `summarise` for what comes of it."""
    modes = args.modes.split(",")
    opened = open_readers(modes, args.model, args.adapter, args.device)
    rows = list(first_of_each(read_questions(args.data, args.split), args.limit, "dataset"))
    if not rows:
        raise ValueError(f"these files have no questions of the split {args.split!r}.")
    if args.places:
        rows = [moved for row in rows for moved in in_all_places(row, args.passages)]
    chooser = Chooser(args, opened[modes[0]])
    asked: dict[tuple[int, str], tuple[dict[str, Any], Scores]] = {}
    answers: dict[Hashable, str] = {}
    writer = Writer(args.rows, args.max_tokens + 4 * args.max_new_tokens + MOST_AROUND)
    for number, row in enumerate(tqdm(rows, desc="questions", file=sys.stderr)):
        chosen, about = chooser.choose(row)
        for mode, parts, final, scores in force_all(opened, row, chosen):
            asked[number, mode] = about, scores
            most = longest(row, args.max_new_tokens)
            answers |= dict(writer.answer((number, mode), opened[mode], parts, final, most))
    answers |= dict(writer.rest())
    measured = []
    for (number, mode), (about, scores) in asked.items():
        said, row = answers[number, mode], rows[number]
        scores |= of_answer(said, row, answers.get((number, "full")))
        measured.append(Answered(row, mode, about, said, scores))
    settings = {name: getattr(args, name) for name in ("split", "passages", "granularity", "segmenter", "device")}
    about_run = {"commit": commit(), **readers.about(args), **settings}
    return {**summarise(measured), "answers": shown(measured, args.show), **about_run}


def in_all_places(row: QARow, n_passages: int) -> Iterator[QARow]:
    """The question with its first gold document in each place in turn among `n_passages`; 0 takes all passages.

    Raises
    ------
    ValueError
        If the row has no gold document.
    """
    gold = next((document for document in row["documents"] if document["is_gold"]), None)
    if gold is None:
        raise ValueError(f"question {row['id']} has no gold document, whose place could change.")
    others = [document for document in row["documents"] if not document["is_gold"]]
    others = others[: n_passages - 1] if n_passages else others
    for place in range(len(others) + 1):
        documents = [*others[:place], gold, *others[place:]]
        yield {**row, "id": f"{row['id']}@{place}", "documents": documents, "place": place}


class Chooser:
    """A row -> its blocks, as many as fit: those of gold documents first, then the others; in the row's order."""

    def __init__(self, args: argparse.Namespace, reader: Reader):
        self._args, self._prompt = args, reader.prompt
        self._cutter = blocks.Cutter(args, reader.model.tokenizer)

    def choose(self, row: QARow) -> tuple[list[list[int]], dict[str, Any]]:
        """Token ids of the blocks, and how many documents they are of and where the gold one stands."""
        documents = row["documents"]
        by_need = sorted(range(len(documents)), key=lambda i: not documents[i]["is_gold"])
        taken = by_need[: self._args.passages or None]
        room, kept = self._args.max_tokens, []
        for number in taken:
            for place, text in enumerate(self._cut(passage(documents[number]))):
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

    def _cut(self, text: str) -> Sequence[str]:
        """A passage is one block; a long text is cut by the segmenter."""
        is_short = self._cutter.counter.count(text) <= self._cutter.bounds.maximum
        return [text] if text.strip() and is_short else self._cutter.cut(text)


def _wants_all(row: QARow) -> bool:
    """Whether each of the answers must be found, not any of them."""
    return bool(row.get("meta", {}).get("all_answers"))


def longest(row: QARow, most: int) -> int:
    """Most tokens of an answer: four times as many for a long-form question."""
    return 4 * most if row.get("meta", {}).get("long_form") else most


def of_answer(answer: str, row: QARow, full: str | None) -> Scores:
    """Scores of an answer against the right ones, and its F1 against full mode's answer where there is one."""
    scores = {name: function(answer, row["answers"]) for name, function in _OF_ANSWER.items()}
    if _wants_all(row):
        scores["contains"] = contains_all(answer, row["answers"])
    return scores if full is None else scores | {"agreement": f1(answer, [full])}


def force_all(
    opened: dict[str, Reader], row: QARow, chosen: Sequence[Sequence[int]]
) -> Iterator[tuple[str, list[BlockKV], list[int], Scores]]:
    """Each mode's KV of the blocks, the final block's tokens, and the likelihood of the given answer.

    The scores hold the divergence where full mode reads too.
    """
    full: torch.Tensor | None = None
    for mode, reader in sorted(opened.items(), key=lambda item: item[0] != "full"):
        final = reader.prompt.final_ids(row["question"])
        said = ", ".join(row["answers"]) if _wants_all(row) else said_answer(row)
        ids = reader.model.tokenizer(said, add_special_tokens=False).input_ids[:MOST_FORCED]
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


_OF_ANSWER: dict[str, Callable[[str, Sequence[str]], float]] = {"contains": contains, "exact": exact, "f1": f1}


def summarise(measured: Sequence[Answered]) -> dict[str, Any]:
    """What was measured, as means over questions with 95 % intervals.

    ``rows`` for each file and mode; ``by_passages``, ``by_gold`` and ``by_position`` the same by number of documents,
    the number of gold ones and where the first gold block stands, ``by_place`` by its place with --places; ``of_full``
    each mode's score as a share of full mode's.
    """
    return {
        "rows": _rows(measured, lambda about: {}),
        "of_full": _shares(measured),
        "by_passages": _rows(measured, lambda about: {"n_passages": about["n_passages"]}),
        "by_gold": _rows(measured, lambda about: {"n_gold": about["n_gold"]}),
        "by_position": _rows(measured, lambda about: {"position": about["position"]}),
        "by_place": _rows([each for each in measured if each.about["place"] is not None], _place),
    }


def _place(about: dict[str, Any]) -> dict[str, Any]:
    return {"place": about["place"]}


def shown(measured: Sequence[Answered], n: int) -> list[dict[str, Any]]:
    """The first `n` questions of each file, whatever came of them: right answers, and each mode's."""
    told: dict[tuple[str, str], dict[str, Any]] = {}
    for each in measured:
        row = each.row
        known = {"data": row["dataset"], "id": row["id"], "question": row["question"], "answers": row["answers"]}
        told.setdefault((row["dataset"], row["id"]), known)[each.mode] = each.answer
    return list(first_of_each(told.values(), n, "data")) if n else []


def _shares(measured: Sequence[Answered]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], dict[str, Scores]] = defaultdict(dict)
    for each in measured:
        groups[each.row["dataset"], each.mode][each.row["id"]] = each.scores
    told = []
    for (data, mode), by_id in groups.items():
        full = groups.get((data, "full"), {})
        for name in ("contains", "f1") if full and mode != "full" else ():
            bounds = share_interval([by_id[id][name] for id in full], [full[id][name] for id in full])
            told.append(
                {"data": data, "mode": mode, "metric": name, **dict(zip(("share", "low", "high"), bounds, strict=True))}
            )
    return told


def _rows(measured: Sequence[Answered], key: Callable[[dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple, list[Scores]] = defaultdict(list)
    for each in measured:
        groups[(("data", each.row["dataset"]), ("mode", each.mode), *key(each.about).items())].append(each.scores)
    return [{**dict(known), "n": len(scores), **means(scores, METRICS)} for known, scores in groups.items()]


def means(scores: Sequence[Scores], names: Sequence[str]) -> dict[str, float | None]:
    """Mean of each metric with the bounds of its interval; null where it was not measured."""
    found: dict[str, float | None] = {}
    for name in names:
        values = [each[name] for each in scores if name in each]
        bounds = interval([values]) if values else (None, None, None)
        found |= dict(zip((name, f"{name}_low", f"{name}_high"), bounds, strict=True))
    return found


def table(result: dict[str, Any]) -> str:
    """The rows, for reading."""
    lines = ["| data | mode | n | contains | exact | F1 | F1 to full | NLL | KL from full |", "|---" * 9 + "|"]
    for row in result["rows"]:
        cells = [_cell(row, name, 100 if name in (*_OF_ANSWER, "agreement") else 1) for name in METRICS]
        lines.append(f"| {row['data']} | {row['mode']} | {row['n']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any], name: str, unit: int) -> str:
    if row[name] is None:
        return "-"
    mean, low, high = (unit * row[key] for key in (name, f"{name}_low", f"{name}_high"))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})" if unit > 1 else f"{mean:.3f} ({low:.3f} to {high:.3f})"
