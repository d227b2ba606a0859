"""Fuse rankings: what two searches find, in one order."""

from collections.abc import Sequence

K = 60
"""The constant k of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)."""


def fuse(*rankings: Sequence[int]) -> list[int]:
    """The ids of all rankings by the sum of ``1 / (K + rank)``, best first; equal ones in the order of the first."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, id in enumerate(ranking, start=1):
            scores[id] = scores.get(id, 0.0) + 1 / (K + rank)
    return sorted(scores, key=lambda id: -scores[id])
