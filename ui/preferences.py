"""What a visitor may set, with bounds and a sentence for each. Knows no page and no database."""

from dataclasses import dataclass
from typing import Any

from blockrag.errors import BlockRAGError
from blockrag.segment import DEFAULT_GRANULARITY, DEFAULT_SEGMENTER, SEGMENTERS, SizeBounds

MODES = ("compare", "block", "full")


class PreferenceError(BlockRAGError):
    """A setting is out of its bounds."""


@dataclass(frozen=True)
class Preference:
    """One setting: its default, its bounds or choices, and what it does."""

    default: Any
    says: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def checked(self, name: str, value: Any) -> Any:
        """The value as it is kept. Raises PreferenceError."""
        if self.choices:
            if value not in self.choices:
                raise PreferenceError(f"{name} is {value!r}; choose one of {', '.join(self.choices)}")
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise PreferenceError(f"{name} is {value!r}; give a number from {self.low:g} to {self.high:g}")
        if not self.low <= value <= self.high:  # type: ignore[operator]
            raise PreferenceError(f"{name} is {value:g}; give a number from {self.low:g} to {self.high:g}")
        return type(self.default)(value)


@dataclass(frozen=True)
class Started:
    """The models that the application was started with, by the names that were given; to read, not to set."""

    model: str = ""
    adapter: str = ""
    embedder: str = ""


_BOUNDS = SizeBounds()

PREFERENCES: dict[str, Preference] = {
    "segmenter": Preference(
        DEFAULT_SEGMENTER,
        "Finds where blocks of documents you load from now on may begin.",
        choices=(*SEGMENTERS,),
    ),
    "granularity": Preference(DEFAULT_GRANULARITY, "How finely new documents are cut: 0 coarsest, 1 finest.", 0, 1),
    "min_tokens": Preference(_BOUNDS.minimum, "No block of a new document is smaller.", 1, 4096),
    "max_tokens": Preference(_BOUNDS.maximum, "No block of a new document is larger.", 16, 8192),
    "mode": Preference("compare", "How questions are answered: block mode, full mode, or both.", choices=MODES),
    "k": Preference(8, "Blocks given to the model for a question; more cost more and may distract it.", 1, 32),
    "max_new_tokens": Preference(96, "An answer that is longer is cut off there.", 8, 512),
}

DEFAULTS: dict[str, Any] = {name: preference.default for name, preference in PREFERENCES.items()}


def checked(values: dict[str, Any]) -> dict[str, Any]:
    """Settings as they are kept.

    Raises
    ------
    PreferenceError
        If there is no such setting, or a value is out of its bounds.
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
