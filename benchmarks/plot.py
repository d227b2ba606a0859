"""Plot results: ``python -m benchmarks.plot benchmarks/results/*.json``."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.use("Agg")

COLOURS = {"full": "#8a8f98", "block": "#3b5bdb", "floor": "#2b8a3e", "plain": "#e8590c"}


def draw_ttft(axes: Axes, result: dict[str, Any]) -> None:
    """Time to first token by context: both modes and the floor, on logarithmic axes."""
    _lines(axes, result, {"full_ms": "full", "block_ms": "block", "floor_ms": "floor"})
    axes.set_ylabel("time to first token, ms")
    for row in result["rows"]:
        at = row["context"], 1.15 * row["full_ms"]
        axes.text(*at, f"{row['ratio']:.3g}×", ha="center", color=COLOURS["full"])


def draw_decode(axes: Axes, result: dict[str, Any]) -> None:
    """Time of a decoded token by context."""
    _lines(axes, result, {"plain_token_ms": "plain", "token_ms": "block", "floor_ms": "floor"})
    axes.set_ylabel("time of a token, ms")


def draw_encode(axes: Axes, result: dict[str, Any]) -> None:
    """Tokens per second of encoding and of prefill."""
    rows = result["rows"]
    names = [f"{row['context']:,} tokens\n{row['blocks']}" for row in rows]
    full = [1e3 * row["context"] / row["full_ms"] for row in rows]
    for shift, values, name in ((-0.2, full, "full"), (0.2, [row["encode_tokens_per_s"] for row in rows], "block")):
        label = {"full": "full prefill", "block": "encoding of blocks"}[name]
        axes.bar([i + shift for i in range(len(rows))], values, 0.38, color=COLOURS[name], label=label)
    axes.set_xticks(range(len(rows)), names)
    axes.set_ylabel("tokens a second")
    axes.margins(y=0.2)


def draw_tiers(axes: Axes, result: dict[str, Any]) -> None:
    """Time to first token by context, one line per tier, and of computing everything again."""
    for tier in dict.fromkeys(row["tier"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["tier"] == tier]
        axes.plot([row["context"] for row in rows], [row["ttft_ms"] for row in rows], "o-", label=f"blocks on {tier}")
    pure = {"read_ms": "all read", "encode_ms": "all encoded again", "full_ms": "full prefill"}
    for name, label in pure.items() if "full_ms" in rows[-1] else ():
        axes.plot([row["context"] for row in rows], [row[name] for row in rows], ":", label=label)
    _logarithmic(axes, result)
    axes.set_ylabel("time to first token, ms")


def draw_queue(axes: Axes, result: dict[str, Any]) -> None:
    """Questions a second in both modes, by the number of answers at once."""
    for mode in ("full", "block"):
        rows = [row for row in result["rows"] if row["mode"] == mode]
        names = [f"{row['context']:,} tokens\n{mode}, {row['at_once']} at once" for row in rows]
        axes.barh(names, [row["questions_per_s"] for row in rows], color=COLOURS[mode], label=f"{mode} mode")
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("questions a second")


def draw_quantize(axes: Axes, result: dict[str, Any]) -> None:
    """Divergence of the next-token distribution for each format in 8 or 4 bits."""
    rows = result["rows"][1:]
    names = [f"{row['form']}\nkey scales per {row['keys']}, value scales per {row['values']}" for row in rows]
    axes.barh(names, [row["kl"] for row in rows], color=COLOURS["block"])
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("divergence of the next-token distribution from exact KV, nats")


def draw_compare(axes: Axes, result: dict[str, Any]) -> None:
    """Stages of the time to first token in both modes, from ``ask --mode compare --json``."""
    stages = {"retrieval_ms": "retrieval", "kv_load_ms": "KV load", "assemble_ms": "assembly", "prefill_ms": "prefill"}
    reports = [result["result"][mode]["report"] for mode in ("full", "block")]
    names = [f"{report['mode']} mode\n{report['ttft_ms']:,.0f} ms" for report in reports]
    start = [0.0, 0.0]
    for stage, name in stages.items():
        values = [report[stage] for report in reports]
        axes.barh(names, values, left=start, label=name)
        start = [before + value for before, value in zip(start, values, strict=True)]
    axes.set_xlabel(f"time to first token over {reports[1]['n_context_tokens']:,} tokens of blocks, ms")


def draw_visitors(axes: Axes, result: dict[str, Any]) -> None:
    """Memory of the application over time."""
    seconds, megabytes = zip(*result["memory_mb"], strict=True)
    axes.plot([second / 60 for second in seconds], [value / 1e3 for value in megabytes], color=COLOURS["block"])
    axes.set_ylim(0)
    axes.set_xlabel("minutes")
    axes.set_ylabel("memory of the application, GB")


def draw_retrieval(axes: Axes, result: dict[str, Any]) -> None:
    """Stages of retrieval by the blocks of the index."""
    rows = result["rows"]
    names, start = [f"{row['blocks']:,}" for row in rows], [0.0] * len(rows)
    stages = {"embed_ms": "embedding", "faiss_ms": "vectors", "words_ms": "words", "read_ms": "reading"}
    for stage, name in stages.items():
        values = [row[stage] for row in rows]
        axes.bar(names, values, bottom=start, label=name)
        start = [before + value for before, value in zip(start, values, strict=True)]
    axes.set_xlabel("blocks of 1,000 characters")
    axes.set_ylabel("retrieval, ms")
    axes.margins(y=0.2)


def draw_search(axes: Axes, result: dict[str, Any]) -> None:
    """Share of the questions whose block is among the first eight, by the way of finding it."""
    sets = list(dict.fromkeys(row["set"] for row in result["rows"]))
    ways = list(dict.fromkeys(row["by"] for row in result["rows"]))
    width = 0.8 / len(ways)
    for number, by in enumerate(ways):
        values = [row["hit_8"] for row in result["rows"] if row["by"] == by]
        axes.bar([x + number * width for x in range(len(sets))], values, width, label=by)
    axes.set_xticks([x + 0.4 - width / 2 for x in range(len(sets))], sets)
    axes.set_ylabel("questions with their block among the first 8")
    axes.margins(y=0.3)


def draw_loading(axes: Axes, result: dict[str, Any]) -> None:
    """Time to read a file by its size, a line for each type; a straight rise means time in step with size."""
    for name in dict.fromkeys(row["type"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["type"] == name]
        axes.loglog([row["bytes"] / 1e6 for row in rows], [row["load_s"] + row["layout_s"] for row in rows], label=name)
    axes.set_xlabel("size of the file, MB")
    axes.set_ylabel("time to read and lay out, s")
    axes.legend(frameon=False, ncols=4, fontsize=6)


def draw_serve(axes: Axes, result: dict[str, Any]) -> None:
    """Share of the questions whose first token has come, over time, on both sides."""
    for side, name in {"ordinary": "ordinary vLLM, prefix caching", "block": "vLLM with block KV"}.items():
        seconds = sorted(value / 1e3 for value in result["ttft_ms"][side])
        shares = [(n + 1) / len(seconds) for n in range(len(seconds))]
        axes.step(seconds, shares, where="post", color=COLOURS["full" if side == "ordinary" else side], label=name)
    axes.set_xscale("log")
    axes.set_xlabel("time to first token, s")
    axes.set_ylabel("share of the questions")
    axes.grid(alpha=0.25)


DRAWINGS: dict[str, Callable[[Axes, dict[str, Any]], None]] = {
    "ttft": draw_ttft,
    "decode": draw_decode,
    "encode": draw_encode,
    "tiers": draw_tiers,
    "queue": draw_queue,
    "quantize": draw_quantize,
    "compare": draw_compare,
    "visitors": draw_visitors,
    "retrieval": draw_retrieval,
    "search": draw_search,
    "loading": draw_loading,
    "serve": draw_serve,
}
"""Keyed by the first part of the file name, such as ``ttft-llama-3.1-8b.json``."""


def _lines(axes: Axes, result: dict[str, Any], columns: dict[str, str]) -> None:
    names = {"full": "full mode", "block": "block mode", "floor": "memory bandwidth floor", "plain": "plain code"}
    for column, kind in columns.items():
        x, y = ([row[name] for row in result["rows"]] for name in ("context", column))
        style = "--" if kind == "floor" else "o-"
        axes.plot(x, y, style, color=COLOURS[kind], label=names[kind])
    _logarithmic(axes, result)


def _logarithmic(axes: Axes, result: dict[str, Any]) -> None:
    contexts = sorted({row["context"] for row in result["rows"]})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(contexts, [f"{n // 1024}K" if n >= 1024 and n % 1024 == 0 else str(n) for n in contexts])
    axes.minorticks_off()
    axes.set_xlabel("tokens of context")
    axes.margins(y=0.12)
    axes.grid(alpha=0.25)


def _title(result: dict[str, Any]) -> str:
    if "visitors" in result:
        return f"{result['visitors']} visitors, {result['answers']:,} answers, {len(result['errors'])} errors"
    if "ttft_ratio" in result:
        return result["machine"]
    if "model" not in result:  # from the command line, with the machine in words
        return result["machine"].split(";")[0]
    weights = ", random weights" if result["random_weights"] else ""
    return f"{result['model']}{weights}, {result['dtype']}, {result['machine']['device']}"


def draw(source: Path) -> Path:
    """Plot one result next to its file; returns the plot's path."""
    result = json.loads(source.read_text())
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    DRAWINGS[source.stem.split("-")[0]](axes, result)
    axes.set_title(_title(result), fontsize=10)
    if axes.get_legend_handles_labels()[0] and axes.get_legend() is None:
        axes.legend(frameon=False)
    target = source.with_suffix(".png")
    figure.savefig(target, dpi=110, metadata={"Software": None})
    return target


def main(argv: Sequence[str] | None = None) -> None:
    """Plot every given file of a known kind."""
    parser = argparse.ArgumentParser(description="Plot benchmark results.")
    parser.add_argument("files", type=Path, nargs="+")
    for path in parser.parse_args(argv).files:
        if path.stem.split("-")[0] in DRAWINGS:
            print(draw(path))


if __name__ == "__main__":
    main()
