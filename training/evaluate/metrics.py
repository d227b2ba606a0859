"""Metrics of answers as in SQuAD (Rajpurkar et al., arXiv 1606.05250), and bootstrap intervals (Efron 1979)."""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_RESAMPLES = 1000


def normalise(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def contains(answer: str, golds: Sequence[str]) -> float:
    """1 if the answer contains a gold answer as whole words, else 0."""
    words = f" {normalise(answer)} "
    return float(any(f" {normalise(gold)} " in words for gold in golds if normalise(gold)))


def contains_all(answer: str, golds: Sequence[str]) -> float:
    """Share of the gold answers that the answer contains."""
    return sum(contains(answer, [gold]) for gold in golds) / len(golds)


def exact(answer: str, golds: Sequence[str]) -> float:
    """1 if the answer equals a gold answer, else 0."""
    return float(any(normalise(answer) == normalise(gold) for gold in golds))


def f1(answer: str, golds: Sequence[str]) -> float:
    """Highest token F1 of the answer with any gold answer."""
    return max((_f1(normalise(answer).split(), normalise(gold).split()) for gold in golds), default=0.0)


def _f1(answer: list[str], gold: list[str]) -> float:
    common = sum((Counter(answer) & Counter(gold)).values())
    return 2 * common / (len(answer) + len(gold)) if common else float(answer == gold)


def interval(groups: Sequence[Sequence[float]], seed: int = 0) -> tuple[float, float, float]:
    """Mean over groups of the groups' means, and its 95 % interval; documents are resampled within their group."""
    random = np.random.default_rng(seed)
    means = np.array([float(np.mean(group)) for group in groups])
    drawn = np.zeros(_RESAMPLES)
    for group in groups:
        values = np.asarray(group)
        drawn += values[random.integers(0, len(values), (_RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(drawn / len(groups), (0.025, 0.975))
    return float(means.mean()), float(low), float(high)


def ratio_interval(
    values: Sequence[float], of: Sequence[float], seed: int = 0
) -> tuple[float | None, float | None, float | None]:
    """Ratio of the means of two paired sequences, and its 95 % interval; all None if the mean of `of` is 0."""
    random = np.random.default_rng(seed)
    above, below = np.asarray(values), np.asarray(of)
    if not below.mean():
        return None, None, None
    drawn = random.integers(0, len(above), (_RESAMPLES, len(above)))
    ratios = above[drawn].mean(1) / np.maximum(below[drawn].mean(1), 1e-9)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(above.mean() / below.mean()), float(low), float(high)
