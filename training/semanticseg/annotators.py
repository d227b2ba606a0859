"""Annotators, which give a document its boundaries, by the name used in a source's configuration."""

from collections.abc import Callable

from training.corpus import Row
from training.semanticseg import language_model, structure
from training.semanticseg.config import LanguageModel

Annotate = Callable[[Row, LanguageModel], Row]
"""(row without boundaries, settings of the language model) -> row with boundaries."""


def _given(row: Row, settings: LanguageModel) -> Row:
    if not row["boundaries"]:
        raise ValueError(f"{row['id']} has no boundaries; choose another annotator for its source.")
    return row


ANNOTATE: dict[str, Annotate] = {
    "given": _given,
    "structure": lambda row, settings: structure.annotate(row),
    "language model": language_model.annotate,
}
