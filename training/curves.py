"""``python -m training.curves RUNS --out FILE``: the logs of runs as a picture. Knows log lines only."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PANELS = ("loss", "divergence_answer", "damage_answer", "lr", "tokens_per_s")


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags and draw."""
    parser = argparse.ArgumentParser(prog="python -m training.curves", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders with a log.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="the picture, .png or .svg")
    args = parser.parse_args(argv)
    draw({folder.name: read_log(folder) for folder in args.runs}, args.out)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Lines of a run's log, in order."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def draw(logs: dict[str, list[dict[str, Any]]], out: Path) -> None:
    """One panel a quantity, one line a run."""
    import matplotlib  # noqa: PLC0415  (where there are curves to draw)

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
