"""Means with 95 % intervals: documents drawn again and again with replacement (Efron 1979)."""

from collections.abc import Sequence

import numpy as np

_RESAMPLES = 1000


def interval(groups: Sequence[Sequence[float]], seed: int = 0) -> tuple[float, float, float]:
    """Mean over groups of the mean in each, and the bounds of its interval; documents are drawn within their group."""
    random = np.random.default_rng(seed)
    means = np.array([float(np.mean(group)) for group in groups])
    drawn = np.zeros(_RESAMPLES)
    for group in groups:
        values = np.asarray(group)
        drawn += values[random.integers(0, len(values), (_RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(drawn / len(groups), (0.025, 0.975))
    return float(means.mean()), float(low), float(high)


def share_interval(
    values: Sequence[float], of: Sequence[float], seed: int = 0
) -> tuple[float | None, float | None, float | None]:
    """Mean of `values` over mean of `of`, question by question the same, and its bounds; None where that one is 0."""
    random = np.random.default_rng(seed)
    above, below = np.asarray(values), np.asarray(of)
    if not below.mean():
        return None, None, None
    drawn = random.integers(0, len(above), (_RESAMPLES, len(above)))
    shares = above[drawn].mean(1) / np.maximum(below[drawn].mean(1), 1e-9)
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(above.mean() / below.mean()), float(low), float(high)
