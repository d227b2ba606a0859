"""Write the tables of docs/results.md from the JSON files that hold the results.

    python -m benchmarks.tables            # rewrites the tables
    python -m benchmarks.tables --check    # exits with 1 if a table differs from its files

A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
MEASURED, TRAINED = ROOT / "benchmarks" / "results", ROOT / "training" / "results"

QA_SETS = {
    "nq_open_20doc": "Natural Questions, 20 passages",
    "hotpotqa_distractor": "HotpotQA",
    "2wikimultihopqa": "2WikiMultihopQA",
    "covidqa": "COVID-QA",
    "qmsum": "QMSum",
}
READER_SETS = {
    "nq_open_20doc": "Natural Questions, 20 passages",
    "hotpotqa_distractor": "HotpotQA",
    "covidqa": "COVID-QA",
    "tatqa": "TAT-QA, never trained on",
    "qmsum": "QMSum (F1)",
}
SEGMENTERS = {
    "neural": "**neural**",
    "structural": "structural: headings, paragraphs, turns, definitions",
    "similarity": "similarity (MiniLM, ours)",
    "chonkie": "Chonkie, SemanticChunker",
    "fixed": "fixed: equal pieces",
    "llamaindex": "LlamaIndex, SemanticSplitter",
    "texttiling": "TextTiling (NLTK)",
}


def compare() -> Iterable[Sequence[str]]:
    """Block mode and full mode on two CPU cores, from ``ask --mode compare``."""
    result = _load(MEASURED / "compare-cpu.json")["result"]
    blocks = f"{result['report']['n_context_tokens']:,} tokens in {len(result['sources'])} blocks"
    yield blocks, "retrieval", "KV load", "assembly", "prefill", "first token"
    for mode in ("block", "full"):
        report = result[mode]["report"]
        stages = (f"{report[f'{stage}_ms']:,.0f} ms" for stage in ("retrieval", "kv_load", "assemble", "prefill"))
        yield f"{mode} mode", *stages, f"**{report['ttft_ms']:,.0f} ms**"


def retrieval() -> Iterable[Sequence[str]]:
    """Retrieval time by the size of the collection, on two CPU cores."""
    yield (
        "characters",
        "blocks",
        "embed",
        "vectors",
        "words",
        "read 8 blocks",
        "retrieval",
        "open index",
        "add a document",
    )
    for row in _load(MEASURED / "retrieval-cpu.json")["rows"]:
        times = (f"{row[f'{stage}_ms']:,.1f} ms" for stage in ("embed", "faiss", "words", "read"))
        total = f"**{row['retrieval_ms']:,.0f} ms**"
        yield (
            f"{row['chars']:,}",
            f"{row['blocks']:,}",
            *times,
            total,
            f"{row['open_ms']:,.0f} ms",
            f"{row['add_ms']:,.0f} ms",
        )


def search() -> Iterable[Sequence[str]]:
    """How often the right block is found."""
    yield "questions about", "blocks", "found by", "among 1", "among 4", "among 8", "MRR", "search"
    for row in _load(MEASURED / "search-cpu.json")["rows"]:
        hits = (f"{row[f'hit_{k}']:.2f}" for k in (1, 4, 8))
        subject = f"{row['set']} ({row['questions']})"
        yield subject, f"{row['blocks']:,}", row["by"], *hits, f"{row['mrr']:.2f}", f"{row['search_ms']:.1f} ms"


def ttft() -> Iterable[Sequence[str]]:
    """Time to first token on a GPU, by context length."""
    yield (
        "context",
        "8B full, ms",
        "block, ms",
        "speed-up",
        "× floor",
        "4B full, ms",
        "block, ms",
        "speed-up",
        "× floor",
    )
    models = (_load(MEASURED / f"ttft-{model}.json")["rows"] for model in ("llama-3.1-8b", "qwen3-4b"))
    for rows in zip(*models, strict=True):
        n = rows[0]["context"]
        yield f"{n // 1024}K" if n >= 1024 else str(n), *(cell for row in rows for cell in _ttft_cells(row))


def _ttft_cells(row: dict[str, float]) -> tuple[str, ...]:
    ratio = row["ratio"]
    speed_up = f"{ratio:.1f}×" if ratio < 10 else f"{ratio:.0f}×"
    return f"{row['full_ms']:,.0f}", f"**{row['block_ms']:.1f}**", speed_up, f"{row['times_floor']:.2f}"


def answers() -> Iterable[Sequence[str]]:
    """F1 and divergence of the shipped adapter on the test splits."""
    yield (
        "test split", "n", "full mode", "naive block mode", "**block mode**", "share of full mode",
        "divergence from full mode: naive", "**block**",
    )  # fmt: skip
    for name, title in QA_SETS.items():
        found = _load(TRAINED / "distill" / "sixth" / f"shipped-test-{name}.json")
        full, naive, block = ({row["mode"]: row for row in found["rows"]}[mode] for mode in ("full", "naive", "block"))
        (share,) = (s for s in found["of_full"] if s["mode"] == "block" and s["metric"] == "f1")
        of_full = "{:.0f} % ({:.0f} to {:.0f})".format(*(100 * share[key] for key in ("share", "low", "high")))
        yield (
            title, str(full["n"]), _with_interval(full, "f1"), _with_interval(naive, "f1"),
            _with_interval(block, "f1", bold=True), of_full,
            f"{naive['kl']:.3f}", f"**{block['kl']:.3f}**",
        )  # fmt: skip


def readers() -> Iterable[Sequence[str]]:
    """Right answers, agreement and divergence of Qwen2.5-Coder on dev questions, by size, set and mode."""
    runs = _load(TRAINED / "distill" / "qwen-second" / "runs.json")["dev_48_questions"]
    yield (
        "reader", "dev split, 48 questions", "right: full", "naive", "**block**", "share of full",
        "answers agree: naive", "**block**", "KL: naive", "**block**", "of naive's",
    )  # fmt: skip
    for size, title in (("15", "1.5B"), ("05", "0.5B")):
        for name, data in READER_SETS.items():
            found = {row["mode"]: row for row in runs[f"{size}-{name}"]["rows"]}
            full, naive, block = (found[mode] for mode in ("full", "naive", "block"))
            metric = "f1" if name == "qmsum" else "contains"
            yield (
                title, data, f"{100 * full[metric]:.1f}", f"{100 * naive[metric]:.1f}",
                _with_interval(block, metric, bold=True), f"{block[metric] / full[metric]:.0%}",
                f"{100 * naive['agreement']:.0f}", f"**{100 * block['agreement']:.0f}**",
                f"{naive['kl']:.3f}", f"**{block['kl']:.3f}**", f"{block['kl'] / naive['kl']:.0%}",
            )  # fmt: skip


def _with_interval(row: dict[str, float], metric: str, bold: bool = False) -> str:
    value, low, high = (100 * row[key] for key in (metric, f"{metric}_low", f"{metric}_high"))
    mark = "**" if bold else ""
    return f"{mark}{value:.1f}{mark} ({low:.0f} to {high:.0f})"


def serve() -> Iterable[Sequence[str]]:
    """First tokens and throughput of vLLM with and without block KV."""
    yield (
        "two CPU cores, 16 clients",
        "questions",
        "first token: mean",
        "median",
        "95th percentile",
        "questions a second",
    )
    names = {"ordinary": "vLLM, prefix caching", "block": "**vLLM with block KV**"}
    for row in _load(MEASURED / "serve-smollm2-cpu.json")["totals"]:
        firsts = (f"{row[f'ttft_{name}_ms'] / 1e3:.1f} s" for name in ("mean", "p50", "p95"))
        yield names[row["side"]], str(row["questions"]), *firsts, f"{row['questions_per_s']:.2f}"


def sizing() -> Iterable[Sequence[str]]:
    """What the store and the network carry for 100 replicas, by simulation."""
    yield (
        "routed by",
        "found in host memory",
        "busiest replica",
        "read for a question",
        "a replica reads",
        "the store serves",
    )
    for row in _load(MEASURED / "sizing-replicas.json")["rows"]:
        yield (
            row["routed by"],
            f"{row['host_hits']:.0%}",
            f"{row['busiest']:.1f} × the mean",
            f"{row['read_mb_per_question']:.0f} MB",
            f"{row['replica_gb_per_s']:.2f} GB/s",
            f"{row['store_gb_per_s']:.0f} GB/s",
        )


def segmentation() -> Iterable[Sequence[str]]:
    """Segmenters against human boundaries on 204 test texts, at level 2, headings removed."""
    yield "test, level 2", "given the number: exact F1", "Pk", "WindowDiff", "default: F1", "Pk", "WindowDiff"
    macro = _load(TRAINED / "segmentation-test-204.json")["macro"]
    rows = {(row["segmenter"], row["at"]): row for row in macro if row["level"] == 2 and row["headings"] == "stripped"}
    for name, title in SEGMENTERS.items():
        yield title, *_cut_cells(rows.get((name, "gold count"))), *_cut_cells(rows.get((name, "default")))


def _cut_cells(row: dict[str, float] | None) -> tuple[str, str, str]:
    if row is None:
        return "-", "-", "-"
    return (
        f"{row['f1']:.3f} ({row['f1_low']:.3f} to {row['f1_high']:.3f})",
        f"{row['pk']:.3f}",
        f"{row['windowdiff']:.3f}",
    )


TABLES: dict[str, Callable[[], Iterable[Sequence[str]]]] = {
    "compare": compare,
    "retrieval": retrieval,
    "search": search,
    "ttft": ttft,
    "serve": serve,
    "sizing": sizing,
    "answers": answers,
    "readers": readers,
    "segmentation": segmentation,
}


def render(name: str) -> str:
    """The table `name` in Markdown."""
    header, *rows = TABLES[name]()
    lines = [f"| {' | '.join(row)} |" for row in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def rewrite(text: str) -> str:
    """`text` with every marked table rendered anew.

    Raises
    ------
    KeyError
        If a marker names no table of `TABLES`.
    """
    marked = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
    return marked.sub(lambda m: f"{m[1]}\n{render(m[2])}\n\n{m[3]}", text)


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite or check the tables of `PAGE`; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the tables of results from the files of results.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a table differs")
    args = parser.parse_args(argv)
    text = PAGE.read_text(encoding="utf-8")
    new = rewrite(text)
    if args.check:
        return int(new != text)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
