"""The data card: a description of the built data set with counts and two plots."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from huggingface_hub import DatasetCardData

from training.corpus import SPLITS, Row
from training.semanticseg.config import BuildConfig

_INTRODUCTION = """# SemanticSeg, built from {n_sources} sources

Texts with human boundaries at up to three levels (1 is the coarsest), for training and evaluating segmenters; modelled
on the data set of arXiv 2605.15913, from open sources.

{n} instances of {least:,} to {most:,} tokens ({tokenizer}) in {n_categories} categories: {n_kept} texts with their
headings, {n_stripped} of them also without (`variant`), so that a model does not learn to rely on headings. {n_packed}
are packed from several short documents (`packed`), where level 1 is the beginning of a document. Documents were cut
{n_passes} times to different lengths (`cut`), so a passage can be in {n_passes} instances. Without repeats, the text
has {n_unique:,} tokens. All instances of a parent document are in the same split.

Fields: `id`, `category`, `source`, `licence`, `split`, `text`, `boundaries` (`char`, `level`), `headings` (spans), and
`dataset` (the source's name here), `parent`, `annotator`, `packed`, `cut`, `n_tokens`, `variant`.
"""


def write_card(out: Path, config: BuildConfig, instances: Sequence[Row], drops: Sequence[dict[str, str]]) -> None:
    """Write ``README.md``, ``categories.png``, ``lengths.png`` and ``manifest.json`` into `out`."""
    _plot(out, instances)
    parts = [
        _introduce(config, instances),
        "## Categories\n\n![By category](categories.png)\n\n" + _table(instances, lambda row: row["category"]),
        "## Lengths\n\n![Tokens of an instance](lengths.png)\n",
        "## Sources\n\n" + _table(instances, lambda row: row["dataset"]),
        "## Licences\n\n" + _counts(Counter(row["licence"] or "unknown" for row in instances), "licence"),
        "## Left out\n\n" + _counts(Counter(_reason(drop) for drop in drops), "reason")
        + "\n`dropped.jsonl` lists each one with its reason.\n",
    ]  # fmt: skip
    (out / "README.md").write_text(f"---\n{_metadata(instances)}\n---\n\n" + "\n".join(parts), encoding="utf-8")
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(out.glob("*.parquet"))}
    (out / "manifest.json").write_text(json.dumps({"sha256": sums, "n_instances": len(instances)}, indent=1) + "\n")


def _metadata(instances: Sequence[Row]) -> str:
    """Return the card's metadata, by which Hugging Face finds, filters and opens the data set."""
    sizes = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K"}
    size = next((name for most, name in sizes.items() if len(instances) < most), "100K<n<1M")
    present = {row["split"] for row in instances}
    files = [{"split": split, "path": f"{split}.parquet"} for split in SPLITS if split in present]
    return DatasetCardData(
        pretty_name="SemanticSeg, from open sources",
        language="en",
        license="other",
        license_name="by-source",
        annotations_creators=["found"],
        task_categories=["token-classification"],
        size_categories=[size],
        tags=["text-segmentation", "semantic-chunking"],
        configs=[{"config_name": "default", "data_files": files}],
    ).to_yaml()


def _introduce(config: BuildConfig, instances: Sequence[Row]) -> str:
    kept = [row for row in instances if row["variant"] == "kept"]
    longest = [sum(row["n_tokens"] for row in kept if row["cut"] == i) for i in range(len(config.passes))]
    return _INTRODUCTION.format(
        n=f"{len(instances):,}",
        n_sources=len({row["dataset"] for row in instances}),
        n_categories=len({row["category"] for row in instances}),
        n_kept=f"{len(kept):,}",
        n_stripped=f"{len(instances) - len(kept):,}",
        n_packed=f"{sum(row['packed'] for row in kept):,}",
        n_passes=len(config.passes),
        n_unique=max(longest, default=0),
        tokenizer=config.tokenizer,
        least=min(each.least for each in config.passes),
        most=max(each.most for each in config.passes),
    )


def _table(instances: Sequence[Row], group: Callable[[Row], str]) -> str:
    groups = defaultdict(list)
    for row in instances:
        groups[group(row)].append(row)
    lines = [
        "| | train | dev | test | without headings | million tokens | boundaries of level 1, 2, 3 an instance |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in sorted(groups.items()):
        splits = Counter(row["split"] for row in rows)
        levels = Counter(boundary["level"] for row in rows for boundary in row["boundaries"])
        each = ", ".join(f"{levels[level] / len(rows):.1f}" for level in (1, 2, 3))
        stripped = sum(row["variant"] == "stripped" for row in rows)
        n_tokens = sum(row["n_tokens"] for row in rows) / 1e6
        counts = " | ".join(f"{splits[split]:,}" for split in SPLITS)
        lines.append(f"| {name} | {counts} | {stripped:,} | {n_tokens:.2f} | {each} |")
    return "\n".join(lines) + "\n"


def _counts(counts: Counter, title: str) -> str:
    lines = [f"| {title} | instances |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {n:,} |" for name, n in sorted(counts.items())]) + "\n"


def _reason(drop: dict[str, str]) -> str:
    return "near-duplicate" if drop["reason"].startswith("near-duplicate") else drop["reason"].split(":")[0]


def _plot(out: Path, instances: Sequence[Row]) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415  # slow to import

    by_category = Counter(row["category"] for row in instances)
    figure = Figure(figsize=(8, 0.3 * len(by_category) + 1), layout="constrained")
    names = sorted(by_category, key=lambda name: by_category[name])
    axes = figure.subplots()
    axes.barh(names, [by_category[name] for name in names], color="#4f46e5")
    axes.set_xlabel("instances")
    figure.savefig(out / "categories.png", metadata={"Software": None}, dpi=100)
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    tokens = [row["n_tokens"] for row in instances] or [1]
    axes.hist(tokens, bins=np.geomspace(min(tokens), max(tokens) + 1, 40).tolist(), color="#4f46e5")
    axes.set(xscale="log", xlabel="tokens of an instance", ylabel="instances")
    figure.savefig(out / "lengths.png", metadata={"Software": None}, dpi=100)
