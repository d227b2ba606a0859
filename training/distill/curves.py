"""``python -m training.distill curves``: the logs of runs as a picture. Knows log lines only."""

import argparse
from pathlib import Path
from typing import Any

from training.distill.train import read_log

PANELS = ("loss", "divergence_answer", "damage_answer", "lr", "tokens_per_s")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("runs", nargs="+", type=Path, help="folders with a log.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="the picture, .png or .svg")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Draw one panel a quantity, one line a run."""
    import matplotlib  # noqa: PLC0415  (where there are curves to draw)

    matplotlib.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415

    logs = {folder.name: read_log(folder) for folder in args.runs}
    panels = [name for name in PANELS if any(line.get(name) is not None for log in logs.values() for line in log)]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4 * len(panels), 3.2), squeeze=False)
    for name, axis in zip(panels, axes[0], strict=True):
        for run_name, log in logs.items():
            lines = [line for line in log if line.get(name) is not None]
            axis.plot([line["step"] for line in lines], [line[name] for line in lines], label=run_name)
        axis.set(title=name.replace("_", " "), xlabel="step")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(args.out, dpi=120)
    return {"picture": str(args.out), "runs": list(logs)}
