"""Plot the logs of runs: ``python -m training.curves RUNS --out FILE``."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PANELS = ("loss", "divergence_answer", "damage_answer", "lr", "tokens_per_s")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags and plot."""
    parser = argparse.ArgumentParser(prog="python -m training.curves", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders with a log.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="output file, .png or .svg")
    args = parser.parse_args(argv)
    draw({folder.name: read_log(folder) for folder in args.runs}, args.out)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Lines of a run's log, in order."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def draw(logs: dict[str, list[dict[str, Any]]], out: Path) -> None:
    """Plot one panel per quantity, one line per run."""
    import matplotlib  # noqa: PLC0415  (slow to import)

    matplotlib.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415

    panels = [name for name in PANELS if any(line.get(name) is not None for log in logs.values() for line in log)]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4 * len(panels), 3.2), squeeze=False)
    for name, axis in zip(panels, axes[0], strict=True):
        for run_name, log in logs.items():
            lines = [line for line in log if line.get(name) is not None]
            axis.plot([line["step"] for line in lines], [line[name] for line in lines], label=run_name)
        axis.set(title=name.replace("_", " "), xlabel="step")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    main()
