"""Cache of encoded texts on disk: encoding a data set takes minutes, loading it a second."""

import hashlib
import json
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tqdm import tqdm

from blockrag.segment.neural.encoding import Encoded
from training.corpus import read_rows
from training.segmenter.examples import Example, make_example

VERSION = "1"
"""Version of the encoding; texts encoded by another version are encoded again."""

_KNOWN = ("category", "dataset", "headings")


def read_examples(
    paths: Iterable[Path | str], split: str, tokenizer: Tokenizer, n_workers: int, kept: Path | None = None
) -> list[Example]:
    """Texts of one split, encoded by `n_workers` processes.

    Parameters
    ----------
    paths : iterable of Path or str
        Files of the data set.
    split : str
        ``"train"``, ``"dev"`` or ``"test"``.
    tokenizer : Tokenizer
        See `make_example`.
    n_workers : int
        Processes.
    kept : Path, optional
        Cache folder; the same files, split and tokenizer are loaded from it later.
    """
    if kept is None:
        return _encode(paths, split, tokenizer, n_workers)
    path = kept / f"{_identity(paths, split, tokenizer)}.safetensors"
    if not path.exists():
        kept.mkdir(parents=True, exist_ok=True)
        save_examples(path, _encode(paths, split, tokenizer, n_workers))
    return load_examples(path)


def _encode(paths: Iterable[Path | str], split: str, tokenizer: Tokenizer, n_workers: int) -> list[Example]:
    rows = (row for row in read_rows(paths) if row["split"] == split)
    make = partial(make_example, tokenizer=tokenizer)
    with ProcessPoolExecutor(n_workers, multiprocessing.get_context("fork")) as pool:
        return list(tqdm(pool.map(make, rows, chunksize=16), desc=f"encoding {split}", unit="text", mininterval=2))


def _identity(paths: Iterable[Path | str], split: str, tokenizer: Tokenizer) -> str:
    digest = hashlib.sha256(json.dumps([VERSION, split, tokenizer.to_str()]).encode())
    for path in sorted(map(Path, paths)):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


def save_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write all texts to one file, atomically."""
    arrays = {
        "ids": np.concatenate([e.encoded.ids for e in examples]),
        "cases": np.concatenate([e.encoded.cases for e in examples]),
        "markers": np.concatenate([e.encoded.markers for e in examples]),
        "levels": np.concatenate([e.levels for e in examples]),
        "n_tokens": np.array([len(e.encoded.ids) for e in examples], np.int64),
        "n_markers": np.array([len(e.levels) for e in examples], np.int64),
    }
    known = [[getattr(e, name) for name in _KNOWN] for e in examples]
    aside = path.with_suffix(".tmp")
    save_file(arrays, aside, metadata={"known": json.dumps(known)})
    aside.replace(path)


def load_examples(path: Path) -> list[Example]:
    """Load a file of `save_examples`."""
    with safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        known = json.loads(file.metadata()["known"])
    tokens, markers = (np.cumsum([0, *arrays[name].tolist()]) for name in ("n_tokens", "n_markers"))
    return [
        Example(
            Encoded(arrays["ids"][t:t_end], arrays["cases"][t:t_end], arrays["markers"][m:m_end]),
            arrays["levels"][m:m_end],
            *fields,
        )
        for fields, t, t_end, m, m_end in zip(known, tokens, tokens[1:], markers, markers[1:], strict=False)
    ]
