"""The seam between a document and its boundaries: who annotates, by the name that a source's configuration uses."""

from collections.abc import Callable

from training.corpus import Row
from training.semanticseg import language_model, structure
from training.semanticseg.config import LanguageModel

Annotate = Callable[[Row, LanguageModel], Row]
"""A row without boundaries, and the language model's settings, to the row with them."""


def _given(row: Row, settings: LanguageModel) -> Row:
    if not row["boundaries"]:
        raise ValueError(f"{row['id']} has no boundaries of its own; give its source another annotator.")
    return row


ANNOTATE: dict[str, Annotate] = {
    "given": _given,
    "structure": lambda row, settings: structure.annotate(row),
    "language model": language_model.annotate,
}
