"""Compare results of `perplexity` by block size and segmenter, as a table and a plot."""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MODES = ("full", "naive", "block")
COLOURS = {"full": "tab:gray", "naive": "tab:red", "block": "tab:blue"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``curve``."""
    parser.add_argument(
        "--data", nargs="+", type=Path, required=True, help="JSON files from `perplexity`, with all modes"
    )
    parser.add_argument("--out", type=Path, help="plot, .png or .svg")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Summarise the results; plot them with --out."""
    points = sorted(map(_point, args.data), key=lambda each: each["mean_block_tokens"])
    if args.out:
        draw(points, args.out)
    return {"rows": points}


def _point(path: Path) -> dict[str, Any]:
    """Block size of a result, and each mode's likelihood and divergence per token, as means over files."""
    result = json.loads(path.read_text(encoding="utf-8"))
    known = {name: result[name] for name in ("segmenter", "block_tokens", "granularity", "mean_block_tokens")}
    return {"name": path.stem, **known, "modes": {mode: _means(result["rows"], mode) for mode in MODES}}


def _means(rows: list[dict[str, Any]], mode: str) -> dict[str, float]:
    of_file: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["mode"] == mode:
            of_file[row["data"]].append(row)
    weights = {data: [row["n_tokens"] for row in some] for data, some in of_file.items()}
    return {
        name: float(np.mean([np.average([r[name] for r in some], weights=weights[d]) for d, some in of_file.items()]))
        for name in ("nll", "kl")
    }


def table(result: dict[str, Any]) -> str:
    """A Markdown table, with the loss of block mode against full mode on the same blocks."""
    lines = ["| segmenter | most tokens of a block | mean | NLL full | naive | block | lost | KL naive | block |"]
    lines.append("|---" * 9 + "|")
    for row in result["rows"]:
        nll, kl = ({mode: row["modes"][mode][name] for mode in MODES} for name in ("nll", "kl"))
        sizes = f"{row['segmenter']} | {row['block_tokens'][1]} | {row['mean_block_tokens']:.0f}"
        scores = " | ".join(f"{nll[mode]:.3f}" for mode in MODES)
        lost = f"{nll['block'] - nll['full']:+.3f} | {kl['naive']:.3f} | {kl['block']:.3f}"
        lines.append(f"| {sizes} | {scores} | {lost} |")
    return "\n".join(lines)


def draw(points: list[dict[str, Any]], out: Path) -> None:
    """Plot likelihood and divergence over block size at granularity 0; marks show other segmenters."""
    import matplotlib  # noqa: PLC0415  (slow to import)

    matplotlib.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, (likelihood, divergence) = pyplot.subplots(1, 2, figsize=(10, 3.6))
    line = [each for each in points if each["granularity"] == 0]
    others = [each for each in points if each["granularity"] != 0]
    _draw_lines(likelihood, line, "nll", MODES)
    _draw_lines(divergence, line, "kl", MODES[1:])
    for each, marker in zip(others, "svD^", strict=False):
        place = each["mean_block_tokens"], each["modes"]["block"]["kl"]
        divergence.scatter(*place, marker=marker, color="black", zorder=3, label=f"block, {each['segmenter']}")
    likelihood.set(title="negative log-likelihood of the next block", xlabel="mean tokens of a block")
    divergence.set(title="divergence from full mode", xlabel="mean tokens of a block")
    for axis in (likelihood, divergence):
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(out, dpi=120)


def _draw_lines(axis: Any, line: list[dict[str, Any]], name: str, modes: Sequence[str]) -> None:
    sizes = [each["mean_block_tokens"] for each in line]
    for mode in modes:
        axis.plot(sizes, [each["modes"][mode][name] for each in line], marker="o", color=COLOURS[mode], label=mode)
    axis.set_xscale("log")
    axis.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    axis.minorticks_off()
