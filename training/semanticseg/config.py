"""The configuration of a build, read from TOML and checked. Knows no text."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = ("folder", "jsonl", "hub", "git", "passages")
ANNOTATORS = ("given", "structure", "language model")
ENGINES = ("datasets", "ray", "inline")


@dataclass(frozen=True)
class Source:
    """Where documents come from.

    Attributes
    ----------
    name : str
        Of the source; for a pattern that matches several files, each file's own name is used.
    kind : str
        ``folder`` and ``git`` (files that `blockrag.documents` reads), ``jsonl`` (rows with at least ``text``; Parquet
        too), ``hub`` (a Hugging Face data set by name), ``passages`` (rows of short titled passages, to be packed).
    path : str
        File pattern, folder, address or name; relative to the configuration.
    category, licence : str
        For rows that do not say.
    annotator : str
        ``given`` (the rows have boundaries), ``structure`` or ``language model``.
    pattern : str
        Which files of a folder or checkout.
    text_field, split : str
        Of a hub data set: the column of the text, and the split to read.
    passages_field : str
        Of passages: the column that lists them, each ``{title, text}``.
    splits : tuple[str, ...]
        Rows of other splits are left out; empty for all.
    """

    name: str
    kind: str
    path: str
    category: str = ""
    licence: str = ""
    annotator: str = "given"
    pattern: str = "**/*"
    text_field: str = "text"
    split: str = "train"
    passages_field: str = "documents"
    splits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _choose("kind", self.kind, KINDS)
        _choose("annotator", self.annotator, ANNOTATORS)


@dataclass(frozen=True)
class Filters:
    """What a document must be; each limit is the reason of a drop."""

    least_chars: int = 200
    most_symbols: float = 0.6
    """Share of characters that are neither letters, digits nor white space."""
    most_repeated: float = 0.5
    """Share of the text in lines that came before."""
    most_in_one_block: float = 0.98
    """Share of an instance in its largest block of level 2 or coarser."""
    duplicate: float = 0.8
    """Jaccard similarity of shingles from which a document is a near-duplicate of an earlier one; 0 keeps all."""


@dataclass(frozen=True)
class Pass:
    """One way to cut documents: lengths between `least` and `most` tokens, drawn evenly on a logarithmic scale."""

    least: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(f"Instances of {self.least} to {self.most} tokens: the least comes first, from 1 on.")


@dataclass(frozen=True)
class LanguageModel:
    """Who annotates where a source asks for a language model.

    Attributes
    ----------
    endpoint : str
        Of an OpenAI-compatible service, such as ``http://localhost:8000/v1``; empty for a local model.
    model : str
        Its name there, or a folder or hub name.
    key_variable : str
        Environment variable with the service's key.
    prompt : str
        A file in ``prompts/``.
    candidates : int
        Most candidates of one request.
    attempts : int
        How often an answer that cannot be used is asked for again.
    """

    endpoint: str = ""
    model: str = "smollm2"
    key_variable: str = "OPENAI_API_KEY"
    prompt: str = "boundaries.txt"
    candidates: int = 120
    attempts: int = 3


@dataclass(frozen=True)
class BuildConfig:
    """A whole build."""

    sources: tuple[Source, ...]
    folder: Path
    passes: tuple[Pass, ...] = (Pass(2000, 32000),)
    filters: Filters = field(default_factory=Filters)
    language_model: LanguageModel = field(default_factory=LanguageModel)
    tokenizer: str = "smollm2"
    stripped: bool = True
    """Whether each instance with headings comes a second time without them."""
    engine: str = "datasets"
    seed: int = 0

    def __post_init__(self) -> None:
        _choose("engine", self.engine, ENGINES)
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"Sources need names of their own; there are {', '.join(names) or 'none'}.")


def load_config(path: Path) -> BuildConfig:
    """Read a TOML file.

    Raises
    ------
    ValueError
        If it has an unknown field or a value out of range.
    """
    with path.open("rb") as file:
        given: dict[str, Any] = tomllib.load(file)
    try:
        sources = tuple(Source(**_tuples(each)) for each in given.pop("sources", ()))
        passes = tuple(Pass(**each) for each in given.pop("passes", ())) or BuildConfig.passes
        filters, model = Filters(**given.pop("filters", {})), LanguageModel(**given.pop("language_model", {}))
        return BuildConfig(sources, path.parent, passes, filters, model, **given)
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _choose(name: str, value: str, among: tuple[str, ...]) -> None:
    if value not in among:
        raise ValueError(f"There is no {name} {value!r}; choose: {', '.join(among)}.")
