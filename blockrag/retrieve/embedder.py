"""Embed text with sentence-transformers."""

import hashlib
import re
import threading
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from blockrag import arguments
from blockrag.documents.document import without_surrogates
from blockrag.models import DEFAULT_EMBEDDER, local_path, weights_sha256

PREFIXES = (
    (r"(^|[/_-])e5-(small|base|large)", "query: ", "passage: "),
    (r"bge-(small|base|large)-en|mxbai-embed", "Represent this sentence for searching relevant passages: ", ""),
    (r"nomic-embed-text", "search_query: ", "search_document: "),
)
"""(name, prefix of questions, prefix of passages) of families that were trained with them and whose folders do not say
so."""


_CARD = re.compile(r"\A---\n(.*?)^---$", re.DOTALL | re.MULTILINE)
_LANGUAGES = re.compile(r"^languages?:[ \t]*(\S[^\n]*$|\n(?:[ \t]*-[^\n]*\n)+)", re.MULTILINE)
_CODE = re.compile(r"[a-z]{2,3}(?=$|[\s,\"'\]-])|multilingual")

OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet")
"""Model types whose first position follows that of the padding token."""


def load_embedder(
    name: str = DEFAULT_EMBEDDER,
    device: str | None = None,
    query_prefix: str | None = None,
    passage_prefix: str | None = None,
) -> "Embedder":
    """Load a sentence encoder, downloading it if needed.

    Parameters
    ----------
    name : str
        Any model of sentence-transformers; see `blockrag.models.local_path`.
    device : str, optional
        Such as ``"cpu"`` or ``"cuda"``.
    query_prefix, passage_prefix : str, optional
        Put before questions and before blocks; by default what the model's folder says, or `PREFIXES`.

    Raises
    ------
    ArgumentError, WeightsError
    """
    check_embedder(name, query_prefix, passage_prefix)
    folder = local_path(name)
    return Embedder(folder, weights_sha256(folder), device, (query_prefix, passage_prefix), str(name))


def check_embedder(name: Any, query_prefix: Any, passage_prefix: Any) -> None:
    """Raise ArgumentError if an argument of `load_embedder` is of a wrong type."""
    arguments.path_of("embedder", name, "the name or the folder of a model")
    for kind, prefix in (("query_prefix", query_prefix), ("passage_prefix", passage_prefix)):
        if prefix is not None:
            arguments.text(kind, prefix)


class Embedder:
    """A sentence encoder with unit vectors, so that inner product is cosine similarity.

    Parameters
    ----------
    folder : Path
        A sentence-transformers model.
    weights_id : str
        Hash of its weights; an index made by other weights is refused.
    device : str, optional
        Such as ``"cpu"`` or ``"cuda"``; chosen by sentence-transformers where absent.
    prefixes : (str or None, str or None)
        Before questions and before blocks; None is what the model was trained with.
    name : str
        Which model it is, for `PREFIXES`.

    Attributes
    ----------
    weights_id : str
        The given one, or, with a prefix before blocks, a hash of both.
    languages : frozenset of str
        Codes of the languages that the model's card names; empty if it names none, or "multilingual".
    """

    def __init__(
        self,
        folder: Path,
        weights_id: str,
        device: str | None = None,
        prefixes: tuple[str | None, str | None] = (None, None),
        name: str = "",
    ):
        self._made_from = (folder, weights_id, device, prefixes, name)
        # Imported here, since it takes seconds.
        self._model = import_module("sentence_transformers").SentenceTransformer(str(folder), device=device)
        own = _own_prefixes(self._model, name)
        self.query_prefix, self.passage_prefix = (
            theirs if given is None else given for given, theirs in zip(prefixes, own, strict=True)
        )
        marked = f"{weights_id} {self.passage_prefix}"
        self.weights_id = hashlib.sha256(marked.encode()).hexdigest() if self.passage_prefix else weights_id
        self._model.max_seq_length = _longest(self._model)
        self.languages = languages_of(folder)
        self._lock = threading.Lock()  # a fast tokenizer set to pad and truncate is not safe in two threads

    def __reduce__(self) -> tuple[type["Embedder"], tuple[Any, ...]]:
        """Another process loads the weights again."""
        return Embedder, self._made_from

    @cached_property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.embed([""]).shape[1]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of blocks, float32, shape ``(len(texts), dimension)``."""
        return self._embed(texts, self.passage_prefix)

    def embed_query(self, question: str) -> np.ndarray:
        """Unit vector of a question, float32, shape ``(dimension,)``."""
        return self._embed([question], self.query_prefix)[0]

    def _embed(self, texts: Sequence[str], prefix: str) -> np.ndarray:
        with self._lock:
            return self._model.encode(
                list(map(without_surrogates, texts)),
                prompt=prefix,
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )


def languages_of(folder: Path) -> frozenset[str]:
    """Codes of the languages that a model's card, ``README.md``, names; empty if it names none, or "multilingual"."""
    card = folder / "README.md"
    head = _CARD.match(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    found = _LANGUAGES.search(head[1]) if head else None
    codes = frozenset(_CODE.findall(found[1])) if found else frozenset()
    return frozenset() if "multilingual" in codes else codes


def _own_prefixes(model: Any, name: str) -> tuple[str, str]:
    """The prefixes of questions and of blocks that a model was trained with."""
    told = model.prompts or {}
    query = told.get("query", "")
    passage = next((told[kind] for kind in ("document", "passage", "corpus") if told.get(kind)), "")
    if query or passage:
        return query, passage
    known = (prefixes for pattern, *prefixes in PREFIXES if re.search(pattern, name, re.IGNORECASE))
    query, passage = next(known, ("", ""))
    return query, passage


def _longest(model: Any) -> int | None:
    """Most tokens of a text: what the model is set to, or 512 where it has positions for more. Blocks are longer than
    the 256 word pieces that MiniLM is set to."""
    config: Any = getattr(getattr(model[0], "auto_model", None), "config", None)
    n_positions = getattr(config, "max_position_embeddings", None)
    if n_positions is None or model.max_seq_length is None:
        return model.max_seq_length
    offset = config.pad_token_id + 1 if config.model_type in OFFSET_POSITIONS else 0
    return max(model.max_seq_length, min(n_positions - offset, 512))
