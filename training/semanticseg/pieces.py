"""Turn documents into instances: pack short ones, cut long ones, add copies without headings."""

import hashlib
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise

import numpy as np

from blockrag.models import local_path
from blockrag.segment import HFTokenCounter
from training.corpus import Boundary, Row
from training.headings import without_headings
from training.semanticseg.config import Pass


@cache
def counter(tokenizer: str) -> HFTokenCounter:
    """The token counter, loaded once per process."""
    from transformers import AutoTokenizer  # noqa: PLC0415  # in the worker

    return HFTokenCounter(AutoTokenizer.from_pretrained(local_path(tokenizer)))


def pack(rows: Iterable[Row], n_chars: int) -> Iterator[Row]:
    """Join short rows of the same data set and split, in order, to texts of at least `n_chars`; keep other rows.

    Each short text becomes a block of level 1, and its own levels go down by one. A shorter last text is kept.
    """
    waiting: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if not row["short"]:
            yield {**row, "packed": False}
            continue
        group = waiting.setdefault((row["dataset"], row["split"]), [])
        group.append(row)
        if sum(len(each["text"]) for each in group) >= n_chars:
            yield _join(group)
            group.clear()
    yield from (_join(group) for group in waiting.values() if group)


def _join(rows: list[Row]) -> Row:
    texts, boundaries, headings, end = [], [], [], 0
    for row in rows:
        for boundary in row["boundaries"]:
            level = min(3, boundary["level"] + 1) if boundary["char"] else 1
            boundaries.append({"char": boundary["char"] + end, "level": level})
        headings += [[a + end, b + end] for a, b in row["headings"]]
        texts.append(row["text"])
        end += len(row["text"])
    parent = f"{rows[0]['parent']}+{len(rows) - 1}"
    return {**rows[0], "id": parent, "parent": parent, "text": "".join(texts), "boundaries": boundaries,
            "headings": headings, "short": False, "packed": True}  # fmt: skip


def cut(row: Row, passes: tuple[Pass, ...], tokenizer: str, seed: int) -> Iterator[Row]:
    """Instances of each pass, in order. A remainder too short for an instance joins the last one.

    Instances begin and end at boundaries: the coarsest ones near the length drawn.
    """
    starts = counter(tokenizer).starts(row["text"])
    for number, each in enumerate(passes):
        edges = _edges(row, starts, each, f"{seed}/{number}/{row['id']}")
        for begin, end in pairwise(edges):
            n_tokens = int(np.searchsorted(starts, end) - np.searchsorted(starts, begin))
            if each.least <= n_tokens <= each.most:
                yield _slice(row, begin, end, number, n_tokens)


def _edges(row: Row, starts: np.ndarray, limits: Pass, key: str) -> list[int]:
    chars = [boundary["char"] for boundary in row["boundaries"]]
    at_token = np.searchsorted(starts, chars).tolist()
    edges, token, n_tokens = [0], 0, len(starts)
    while n_tokens - token > limits.most or (n_tokens - token >= 2 * limits.least and limits.most < n_tokens):
        wanted = _draw(f"{key}/{len(edges)}", limits)
        nearest = _choose(row["boundaries"], at_token, token + limits.least, token + wanted, token + limits.most)
        if nearest is None:  # a block longer than the maximum: skip it, start the next instance after it
            nearest = bisect_left(at_token, token + limits.most + 1)
        if nearest == len(chars) or n_tokens - at_token[nearest] < limits.least:
            break
        edges.append(chars[nearest])
        token = at_token[nearest]
    return [*edges, len(row["text"])]


def _draw(key: str, limits: Pass) -> int:
    """A log-uniform length, determined by `key`."""
    share = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest(), "big") / 2**48
    return round(math.exp(math.log(limits.least) + share * math.log(limits.most / limits.least)))


def _choose(boundaries: list[Boundary], at_token: list[int], least: int, wanted: int, most: int) -> int | None:
    """A boundary between `least` and `most`: the coarsest one near `wanted`, or else the nearest."""
    first, last = bisect_left(at_token, least), bisect_left(at_token, most + 1)
    if first >= last:
        return None
    near = [i for i in range(first, last) if abs(at_token[i] - wanted) <= (most - least) // 8]
    if near:
        return min(near, key=lambda i: (boundaries[i]["level"], abs(at_token[i] - wanted)))
    return min(range(first, last), key=lambda i: abs(at_token[i] - wanted))


def _slice(row: Row, begin: int, end: int, number: int, n_tokens: int) -> Row:
    inner = [{"char": b["char"] - begin, "level": b["level"]} for b in row["boundaries"] if begin < b["char"] < end]
    headings = [[a - begin, b - begin] for a, b in row["headings"] if begin <= a and b <= end]
    return {
        **row,
        "id": f"{row['id']}#{number}.{begin}",
        "text": row["text"][begin:end],
        "boundaries": [{"char": 0, "level": 1}, *inner],
        "headings": headings,
        "cut": number,
        "n_tokens": n_tokens,
    }


def variants(row: Row, tokenizer: str, stripped: bool) -> Iterator[Row]:
    """The instance, and a copy without headings if it has any."""
    yield {**row, "variant": "kept"}
    if stripped and row["headings"]:
        bare = without_headings(row)
        n_tokens = len(counter(tokenizer).starts(bare["text"]))
        yield {**bare, "id": row["id"] + "/stripped", "variant": "stripped", "n_tokens": n_tokens}
