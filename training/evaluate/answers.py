"""How good an answer is, as SQuAD scores it (Rajpurkar et al., arXiv 1606.05250): pure functions of strings."""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def contains(answer: str, golds: Sequence[str]) -> float:
    """1 where the answer contains one of the right ones, as words."""
    said = f" {normalise(answer)} "
    return float(any(f" {normalise(gold)} " in said for gold in golds if normalise(gold)))


def contains_all(answer: str, golds: Sequence[str]) -> float:
    """Share of the right answers that the answer contains, as words."""
    return sum(contains(answer, [gold]) for gold in golds) / len(golds)


def exact(answer: str, golds: Sequence[str]) -> float:
    """1 where the answer is one of the right ones."""
    return float(any(normalise(answer) == normalise(gold) for gold in golds))


def f1(answer: str, golds: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of words, of the right answer that suits best."""
    return max((_f1(normalise(answer).split(), normalise(gold).split()) for gold in golds), default=0.0)


def _f1(said: list[str], gold: list[str]) -> float:
    common = sum((Counter(said) & Counter(gold)).values())
    return 2 * common / (len(said) + len(gold)) if common else float(said == gold)
