"""Agreement of annotators on the same texts: Cohen's kappa and Krippendorff's alpha over candidates, by `nltk`."""

from collections.abc import Mapping, Sequence

from nltk.metrics.agreement import AnnotationTask

from blockrag.segment import find_candidates
from training.corpus import Row


def agreement(annotated: Mapping[str, Sequence[Row]], level: int) -> dict[str, float]:
    """Agreement on whether a block of `level` or coarser begins at each candidate.

    Parameters
    ----------
    annotated : Mapping[str, Sequence[Row]]
        The same texts, in the same order, by each annotator.
    level : int
        1 to 3.

    Returns
    -------
    dict[str, float]
        ``kappa`` (mean over pairs of annotators), ``alpha``, ``n_candidates``.

    Raises
    ------
    ValueError
        If the annotators were not given the same texts.
    """
    texts = {tuple(row["text"] for row in rows) for rows in annotated.values()}
    if len(texts) != 1 or len(annotated) < 2:
        raise ValueError("Agreement needs at least two annotators and the same texts for all of them.")
    marks = []
    for who, rows in annotated.items():
        for i, row in enumerate(rows):
            chosen = {boundary["char"] for boundary in row["boundaries"] if boundary["level"] <= level}
            marks += [(who, f"{i}/{char}", int(char in chosen)) for char in find_candidates(row["text"]).tolist()]
    task = AnnotationTask(data=marks)
    return {"kappa": task.kappa(), "alpha": task.alpha(), "n_candidates": len(marks) // len(annotated)}
