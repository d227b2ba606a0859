"""What visitors can set: default, bounds and explanation of each setting. No gradio."""

from dataclasses import dataclass
from typing import Any

from blockrag.errors import BlockRAGError
from blockrag.retrieval import DEFAULT_BY
from blockrag.segment import DEFAULT_GRANULARITY, DEFAULT_SEGMENTER, SEGMENTERS, SizeBounds

MODES = ("compare", "block", "full")
BY = ("hybrid", "dense", "lexical")


class PreferenceError(BlockRAGError):
    """A setting is unknown or out of bounds."""


@dataclass(frozen=True)
class Preference:
    """One setting: default, explanation, and bounds or choices."""

    default: Any
    info: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def checked(self, name: str, value: Any) -> Any:
        """Return the value to store. Raises PreferenceError."""
        if self.choices:
            if value not in self.choices:
                raise PreferenceError(f"{name} is {value!r}; choose one of {', '.join(self.choices)}")
            return value
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise PreferenceError(f"{name} is {value!r}; give true or false")
            return value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self.high:  # NaN fails
            raise PreferenceError(f"{name} is {value!r}; give a number from {self.low:g} to {self.high:g}")
        return type(self.default)(value)


_BOUNDS = SizeBounds()

PREFERENCES: dict[str, Preference] = {
    "segmenter": Preference(
        DEFAULT_SEGMENTER, "Finds where the blocks of new documents can start.", choices=(*SEGMENTERS,)
    ),
    "granularity": Preference(DEFAULT_GRANULARITY, "For new documents: 0 is coarsest, 1 is finest.", 0, 1),
    "min_tokens": Preference(_BOUNDS.minimum, "No block of a new document is smaller.", 1, 4096),
    "max_tokens": Preference(_BOUNDS.maximum, "No block of a new document is larger.", 16, 8192),
    "auto_index": Preference(True, "Index documents as soon as they are added or cut differently."),
    "mode": Preference("block", "How questions are answered: block mode, full mode, or both.", choices=MODES),
    "by": Preference(
        DEFAULT_BY, "How blocks are found: by meaning and words, by meaning alone, or by words alone.", choices=BY
    ),
    "k": Preference(8, "Blocks given to the model per question. More cost more and can distract it.", 1, 32),
    "max_new_tokens": Preference(96, "Longer answers are cut off here.", 8, 512),
    "temperature": Preference(0.0, "At 0 the most likely token is taken; above, tokens are drawn.", 0, 2),
    "top_p": Preference(1.0, "Share of the probability that tokens are drawn from.", 0.01, 1),
}

DEFAULTS: dict[str, Any] = {name: preference.default for name, preference in PREFERENCES.items()}


def checked(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings to store.

    Raises
    ------
    PreferenceError
        If a setting is unknown or out of bounds.
    SegmentationError
        If the sizes contradict each other.
    """
    for name in values:
        if name not in PREFERENCES:
            raise PreferenceError(f"there is no setting {name!r}; there are {', '.join(PREFERENCES)}")
    kept = {name: PREFERENCES[name].checked(name, value) for name, value in values.items()}
    both = {**DEFAULTS, **kept}
    SizeBounds(both["min_tokens"], both["max_tokens"])
    return kept
