"""The stages of a build. Finished stages are saved, so an interrupted build resumes."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from blockrag.models.store import write_aside
from training.corpus import SPLITS, Row
from training.semanticseg.annotators import ANNOTATE
from training.semanticseg.card import write_card
from training.semanticseg.config import BuildConfig, Source
from training.semanticseg.duplicates import find_duplicates, signature
from training.semanticseg.engines import ENGINES
from training.semanticseg.filters import refuse_document, refuse_instance
from training.semanticseg.pieces import cut, pack, variants
from training.semanticseg.sources import expand, read_source

VERSION = 2
"""Version of the stages; a build started by another version starts over."""

_CHARS_A_TOKEN = 5
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "category", "source", "licence", "split", "text")]
    + [("boundaries", pa.list_(pa.struct([("char", pa.int64()), ("level", pa.int8())])))]
    + [("headings", pa.list_(pa.list_(pa.int64()))), ("dataset", pa.string()), ("parent", pa.string())]
    + [("annotator", pa.string()), ("packed", pa.bool_()), ("cut", pa.int8())]
    + [("n_tokens", pa.int32()), ("variant", pa.string())]
)
"""Schema of the data set: the fields of `training.corpus`, and how the instance was made."""

Drop = dict[str, str]


def build(config: BuildConfig, out: Path, n_workers: int) -> dict[str, int]:
    """Write ``train``, ``dev`` and ``test.parquet``, ``dropped.jsonl`` and the data card into `out`.

    Returns
    -------
    dict[str, int]
        Number of instances by split.
    """
    run = ENGINES[config.engine]
    drops: list[Drop] = []
    documents = []
    for source in config.sources:
        for name, path in expand(source, config.folder):
            make = partial(_prepare, config, source, name, path, run, n_workers)
            documents += _kept(out, config, (name, _state(path)), make, drops)
    documents = _without_duplicates(documents, config, drops)
    packed = list(pack(documents, _CHARS_A_TOKEN * min(each.least for each in config.passes)))
    results = run(partial(_instances, config=config), packed, n_workers, "cutting")
    instances = [each for each in results if "reason" not in each]
    drops += [each for each in results if "reason" in each]
    counts = {split: _write(out, split, instances) for split in SPLITS}
    (out / "dropped.jsonl").write_text("".join(json.dumps(drop, ensure_ascii=False) + "\n" for drop in drops))
    write_card(out, config, instances, drops)
    return counts


def _prepare(
    config: BuildConfig, source: Source, name: str, path: Path, run: Callable, n_workers: int
) -> tuple[list[Row], list[Drop]]:
    """Read, filter and annotate one source, and compute the signatures for finding duplicates."""
    drops: list[Drop] = []
    rows = list(read_source(source, name, path, lambda i, why: drops.append({"id": f"{name}/{i}", "reason": why})))
    results = run(partial(_document, config=config, annotator=source.annotator), rows, n_workers, name)
    return [r for r in results if "reason" not in r], drops + [r for r in results if "reason" in r]


def _document(row: Row, config: BuildConfig, annotator: str) -> list[dict[str, Any]]:
    reason = refuse_document(row, config.filters)
    if reason:
        return [_drop(row, reason)]
    row = {**row, "split": row["split"] or assign_split(row["parent"]), "annotator": annotator}
    return [{**ANNOTATE[annotator](row, config.language_model), "signature": signature(row["text"])}]


def assign_split(parent: str) -> str:
    """Split 80/10/10 by the SHA-1 of the parent document, so that its pieces stay together."""
    share = int(hashlib.sha1(parent.encode()).hexdigest(), 16) % 100
    return "train" if share < 80 else "dev" if share < 90 else "test"


def _without_duplicates(rows: list[Row], config: BuildConfig, drops: list[Drop]) -> list[Row]:
    signatures = [row.pop("signature") for row in rows]
    if not config.filters.duplicate:
        return rows
    repeated = find_duplicates(rows, signatures, config.filters.duplicate)
    for i, other in sorted(repeated.items()):
        drops.append(_drop(rows[i], f"near-duplicate of {rows[other]['id']}"))
    return [row for i, row in enumerate(rows) if i not in repeated]


def _instances(row: Row, config: BuildConfig) -> list[dict[str, Any]]:
    """All instances of a document, or the reason why there are none."""
    results: list[dict[str, Any]] = []
    for piece in cut(row, config.passes, config.tokenizer, config.seed):
        reason = refuse_instance(piece, config.filters)
        if reason:
            results.append(_drop(piece, reason))
        else:
            results += variants(piece, config.tokenizer, config.stripped)
    least = min(each.least for each in config.passes)
    return results or [_drop(row, f"under {least} tokens")]


def _drop(row: Row, reason: str) -> Drop:
    return {"id": row["id"], "dataset": row["dataset"], "reason": reason}


def _kept(
    out: Path, config: BuildConfig, source: tuple, make: Callable[[], tuple[list[Row], list[Drop]]], drops: list[Drop]
) -> list[Row]:
    """Result of `make`, from this build or an interrupted one with the same configuration and files."""
    made_by = json.dumps([VERSION, source, asdict(config)], sort_keys=True, default=str)
    path = out / ".stages" / f"{source[0]}-{hashlib.sha256(made_by.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, json.dumps(make()))
    rows, dropped = json.loads(path.read_text(encoding="utf-8"))
    drops += dropped
    return rows


def _state(source: Path) -> list[list]:
    """Names, sizes and times of a source's local files."""
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files if path.is_file()]


def _write(out: Path, split: str, instances: list[Row]) -> int:
    """Write one Parquet file. An instance and its copy without headings are adjacent, which compresses well."""
    rows = [{name: row[name] for name in SCHEMA.names} for row in instances if row["split"] == split]
    table = pa.Table.from_pylist(rows, SCHEMA)
    aside = out / f".{split}.parquet"
    options = {"compression": "zstd", "compression_level": 12, "data_page_size": 8 << 20, "use_dictionary": False}
    pq.write_table(table, aside, row_group_size=512, **options)
    aside.replace(out / f"{split}.parquet")
    return len(rows)
