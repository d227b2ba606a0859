"""``python -m training.cards``: write the metadata of the shipped model cards, with their evaluation results.

The metadata follows Hugging Face's model card specification (``model-index``), so that the hub shows the figures beside
the model. The figures come from the files of results; the text of a card is left as it is.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from blockrag.models.catalog import CATALOG
from blockrag.models.shipped import shipped_adapters

ROOT = Path(__file__).resolve().parents[1]
SEGMENTER = ROOT / "blockrag/segment/neural/shipped"
SEGMENTER_RESULTS = ROOT / "training/results/segmentation-test-204.json"
MODES = {"full": "full mode", "naive": "block mode without the adapter", "block": "block mode"}
METRICS = {
    "f1": ("f1", "F1 of words"),
    "contains": ("accuracy", "contains a correct answer"),
    "kl": ("kl", "KL divergence from full mode, nats a token"),
}
BOUNDARY_METRICS = {"f1": ("f1", "exact F1"), "pk": ("pk", "Pk"), "windowdiff": ("windowdiff", "WindowDiff")}


def adapter_metadata(base: str, rows: Sequence[dict[str, Any]]) -> ModelCardData:
    """Return the metadata of a shipped adapter for the catalog's model `base`, from the metrics in its record."""
    results = [
        EvalResult(
            task_type="question-answering",
            task_name="Answers from retrieved passages",
            dataset_type=row["data"],
            dataset_name=row["data"],
            dataset_split=row["split"],
            metric_type=type,
            metric_name=f"{title}, {MODES[row['mode']]}",
            metric_value=round(row[key], 4),
        )
        for row in rows
        for key, (type, title) in METRICS.items()
        if key in row and (key, row["mode"]) != ("kl", "full")
    ]
    return ModelCardData(
        model_name=f"BlockRAG adapter for {base}",
        language="en",
        license="apache-2.0",
        library_name="blockrag",
        base_model=CATALOG[base].source.split(",")[0],
        pipeline_tag="text-generation",
        tags=["retrieval-augmented-generation", "block-attention", "lora"],
        eval_results=results,
    )


def segmenter_metadata(macro: Sequence[dict[str, Any]]) -> ModelCardData:
    """Return the metadata of the segmenter, from the mean over categories (``macro`` of `training.evaluate`)."""
    results = [
        EvalResult(
            task_type="token-classification",
            task_name=f"Boundaries of level {row['level']}, {row['at']}, without headings",
            dataset_type="semanticseg",
            dataset_name="SemanticSeg, mean over categories",
            dataset_split="test",
            dataset_config=f"level {row['level']}, {row['at']}",  # results of one configuration are one group
            metric_type=type,
            metric_name=title,
            metric_value=round(row[key], 4),
        )
        for row in macro
        if row["segmenter"] == "neural"
        for key, (type, title) in BOUNDARY_METRICS.items()
    ]
    return ModelCardData(
        model_name="BlockRAG segmenter",
        language="en",
        license="apache-2.0",
        library_name="blockrag",
        base_model="sentence-transformers/all-MiniLM-L6-v2",
        pipeline_tag="token-classification",
        tags=["text-segmentation", "semantic-chunking"],
        eval_results=results,
    )


def cards() -> dict[Path, str]:
    """Return every shipped card as it should be, by path."""
    macro = json.loads(SEGMENTER_RESULTS.read_text(encoding="utf-8"))["macro"]
    metadata = {SEGMENTER / "README.md": segmenter_metadata(macro)}
    for folder in shipped_adapters().values():
        record = json.loads((folder / "adapter.json").read_text(encoding="utf-8"))
        metadata[folder / "README.md"] = adapter_metadata(record["base"], record["about"]["metrics"])
    return {path: f"---\n{data.to_yaml()}\n---\n\n{_text(path)}" for path, data in metadata.items()}


def _text(path: Path) -> str:
    return ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True).text.lstrip("\n")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.cards", description=__doc__.split("\n")[0])
    parser.parse_args(argv)
    for path, text in cards().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
