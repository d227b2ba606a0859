"""F1 of a network's ordering of candidates, and the scale chosen by it on dev."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from blockrag.segment.neural.encoding import lay
from blockrag.segment.neural.network import SegmenterNetwork
from blockrag.segment.neural.segmenter import candidate_logits, read
from blockrag.segment.neural.weights import Scale
from training.segmenter.examples import Example

_GRID = 10


def predict(network: SegmenterNetwork, examples: Sequence[Example]) -> list[np.ndarray]:
    """Probabilities of each text, float32 ``(candidates, 3)``, computed as the library does."""
    found, config = [], network.config
    with torch.inference_mode():
        for example in examples:
            states = read(network, lay(example.encoded, config.window, config.overlap))
            found.append(candidate_logits(network, states)[1:].sigmoid().cpu().numpy())
    return found


def f1_at_gold_count(scores: np.ndarray, levels: np.ndarray, level: int) -> float | None:
    """Share of gold boundaries among the same number of highest scores; None without gold boundaries."""
    gold = levels <= level
    n = int(gold.sum())
    if not n:
        return None
    best = np.argsort(-scores, kind="stable")[:n]
    return float(gold[best].mean())


def macro_f1(
    found: Sequence[np.ndarray], examples: Sequence[Example], level: int = 2
) -> tuple[float, dict[str, float]]:
    """Mean over categories of the mean over texts (0 without gold boundaries), and the mean of each category."""
    return _macro([f1_at_gold_count(s, e.levels[1:], level) for s, e in zip(found, examples, strict=True)], examples)


def _macro(values: Sequence[float | None], examples: Sequence[Example]) -> tuple[float, dict[str, float]]:
    by_category = defaultdict(list)
    for value, example in zip(values, examples, strict=True):
        if value is not None:
            by_category[example.category].append(value)
    means = {name: float(np.mean(values)) for name, values in sorted(by_category.items())}
    return float(np.mean(list(means.values()) or 0.0)), means


def fit_scale(found: Sequence[np.ndarray], examples: Sequence[Example]) -> Scale:
    """Choose the shares with the best ordering at levels 1 and 2, then the middle with `fit_middle`."""
    shares = max(_simplex(), key=lambda s: sum(macro_f1([p @ s for p in found], examples, k)[0] for k in (1, 2, 2)))
    return fit_middle(found, examples, shares)


def fit_middle(found: Sequence[np.ndarray], examples: Sequence[Example], shares: np.ndarray) -> Scale:
    """With given shares, place 0.5 where F1 at level 2 by default is best. The order of candidates does not change."""
    raw = [p @ shares for p in found]
    golds = [example.levels[1:] <= 2 for example in examples]

    def f1_above(cut: float) -> float:
        return _macro([_f1(each >= cut, gold) for each, gold in zip(raw, golds, strict=True)], examples)[0]

    cut = max(np.linspace(0.02, 0.9, 89), key=f1_above)
    return Scale(tuple(shares.tolist()), (0.0, float(cut), 1.0), (0.0, 0.5, 1.0))


def _simplex() -> list[np.ndarray]:
    grid = range(_GRID + 1)
    return [np.array((a, b, _GRID - a - b)) / _GRID for a in grid for b in grid if a + b <= _GRID]


def _f1(taken: np.ndarray, gold: np.ndarray) -> float | None:
    return float(2 * (taken & gold).sum() / (taken.sum() + gold.sum())) if gold.any() else None
