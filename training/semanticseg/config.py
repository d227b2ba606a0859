"""Configuration of a build, read from TOML and validated."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = ("folder", "jsonl", "hub", "git", "passages")
ANNOTATORS = ("given", "structure", "language model")
ENGINES = ("datasets", "ray", "inline")


@dataclass(frozen=True)
class Source:
    """A source of documents.

    Attributes
    ----------
    name : str
        Name of the source. If a pattern matches several files, each file's own name is used.
    kind : str
        ``folder`` and ``git`` (files that `blockrag.documents` reads), ``jsonl`` (rows with at least ``text``; Parquet
        too), ``hub`` (a Hugging Face data set by name), ``passages`` (rows of short titled passages, to be packed).
    path : str
        File pattern, folder, address or name; relative to the configuration.
    category, licence : str
        For rows without their own.
    annotator : str
        ``given`` (the rows have boundaries), ``structure`` or ``language model``.
    pattern : str
        Selects files of a folder or checkout.
    text_field, split : str
        For a hub data set: text column, and split to read.
    passages_field : str
        For passages: the column with the list of ``{title, text}``.
    splits : tuple[str, ...]
        Splits to keep; empty for all.
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
    """Limits on documents and instances; those outside are dropped with the limit as the reason."""

    least_chars: int = 200
    most_symbols: float = 0.6
    """Largest share of characters that are neither letters, digits nor white space."""
    most_repeated: float = 0.5
    """Largest share of the text in repeated lines."""
    most_in_one_block: float = 0.98
    """Largest share of an instance in one block of level 2 or coarser."""
    duplicate: float = 0.8
    """Jaccard similarity of shingles at which a document is a near-duplicate of an earlier one; 0 keeps all."""


@dataclass(frozen=True)
class Pass:
    """One cut of all documents: lengths from `least` to `most` tokens, log-uniformly distributed."""

    least: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(f"Instances of {self.least} to {self.most} tokens: expected 1 <= least <= most.")


@dataclass(frozen=True)
class LanguageModel:
    """Settings of the annotator ``language model``.

    Attributes
    ----------
    endpoint : str
        Address of an OpenAI-compatible service, such as ``http://localhost:8000/v1``; empty for a local model.
    model : str
        Name at the service, or a folder or hub name.
    key_variable : str
        Environment variable with the service's key.
    prompt : str
        A file in ``prompts/``.
    candidates : int
        Largest number of candidates in one request.
    attempts : int
        Largest number of requests for one usable answer.
    """

    endpoint: str = ""
    model: str = "smollm2"
    key_variable: str = "OPENAI_API_KEY"
    prompt: str = "boundaries.txt"
    candidates: int = 120
    attempts: int = 3


@dataclass(frozen=True)
class BuildConfig:
    """Settings of a build."""

    sources: tuple[Source, ...]
    folder: Path
    passes: tuple[Pass, ...] = (Pass(2000, 32000),)
    filters: Filters = field(default_factory=Filters)
    language_model: LanguageModel = field(default_factory=LanguageModel)
    tokenizer: str = "smollm2"
    stripped: bool = True
    """Whether to add a copy without headings of each instance that has them."""
    engine: str = "datasets"
    seed: int = 0

    def __post_init__(self) -> None:
        _choose("engine", self.engine, ENGINES)
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"Sources need distinct names; given: {', '.join(names) or 'none'}.")


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
        raise ValueError(f"Unknown {name} {value!r}; choose: {', '.join(among)}.")
