"""Options that several commands share, and what is made of them. Model libraries are imported when they are needed."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrag.models import DEFAULT_EMBEDDER, DEFAULT_MODEL
from blockrag.segment import DEFAULT_GRANULARITY, DEFAULT_SEGMENTER, SEGMENTERS, SizeBounds

GIB = 1 << 30

ADAPTER_HELP = (
    "for block mode: a folder, the name of one that came with this release, none, or auto: the one that came for this "
    "model, if any (default: auto)"
)

if TYPE_CHECKING:
    from blockrag.engine import Engine
    from blockrag.pipeline import Pipeline


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """``--model --adapter --embedder --device --allow-unverified``."""
    group = parser.add_argument_group("models")
    where = "a name from `models list`, a Hugging Face hub name, or a folder"
    group.add_argument("--model", default=DEFAULT_MODEL, help=f"answering model: {where} (default: %(default)s)")
    group.add_argument("--adapter", default="auto", help=ADAPTER_HELP)
    group.add_argument("--embedder", default=DEFAULT_EMBEDDER, help=f"sentence encoder: {where} (default: %(default)s)")
    group.add_argument("--device", help="such as cpu or cuda (default: a GPU where there is one)")
    group.add_argument("--allow-unverified", action="store_true", help="accept model families that are not verified")


def add_kv_options(parser: argparse.ArgumentParser) -> None:
    """``--kv-device-gb --kv-memory-gb --kv-disk-gb --kv-remote --kv-remote-read-only --kv-at-rest``."""
    group = parser.add_argument_group("block KV")
    for tier, default, where in (
        ("device", 8, "a GPU's memory"),
        ("memory", 4, "the machine's memory"),
        ("disk", 20, "disk"),
    ):
        budget = f"{where} for it, in GiB (default: %(default)s)"
        group.add_argument(f"--kv-{tier}-gb", type=float, default=default, help=budget)
    group.add_argument("--kv-remote", metavar="URL", help="a store that a team shares: s3://..., gs://..., file:///...")
    group.add_argument("--kv-remote-read-only", action="store_true", help="write and delete nothing there")
    group.add_argument(
        "--kv-at-rest", choices=("exact", "int8"), default="exact", help="form in files; int8 is smaller, not exact"
    )


def kv_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What these options mean to `Engine.from_pretrained`."""
    return {
        "device_bytes": int(args.kv_device_gb * GIB),
        "memory_bytes": int(args.kv_memory_gb * GIB),
        "disk_bytes": int(args.kv_disk_gb * GIB),
        "kv_remote": args.kv_remote,
        "kv_remote_read_only": args.kv_remote_read_only,
        "kv_at_rest": args.kv_at_rest,
    }


def add_segment_options(parser: argparse.ArgumentParser) -> None:
    """``--segmenter --granularity --min-tokens --max-tokens``."""
    group = parser.add_argument_group("blocks")
    group.add_argument("--segmenter", default=DEFAULT_SEGMENTER, choices=SEGMENTERS, help="default: %(default)s")
    group.add_argument(
        "--granularity", type=_granularity, default=DEFAULT_GRANULARITY, help="0 coarsest to 1 finest (default: 0.5)"
    )
    bounds = SizeBounds()
    group.add_argument("--min-tokens", type=int, default=bounds.minimum, help="hard bound (default: %(default)s)")
    group.add_argument("--max-tokens", type=int, default=bounds.maximum, help="hard bound (default: %(default)s)")


def add_store_option(parser: argparse.ArgumentParser) -> None:
    """``--store``."""
    parser.add_argument("--store", type=Path, required=True, help="folder of the index and its block KV")


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")


def open_store(args: argparse.Namespace) -> "Pipeline":
    """Load the models and open the index in ``--store``."""
    from blockrag.engine import Engine
    from blockrag.pipeline import Pipeline

    engine = Engine.from_pretrained(
        args.model,
        adapter=args.adapter,
        embedder=args.embedder,
        kv_dir=args.store / "kv",
        device=args.device,
        allow_unverified=args.allow_unverified,
        **kv_settings(args),
    )
    tell_adapter(engine)
    return Pipeline.open(engine, args.store)


def tell_adapter(engine: "Engine") -> None:
    """Where block mode has no weights of its own, say so."""
    if engine.model.full is None:
        print("blockrag: no adapter, so block mode runs weights that were not made for it", file=sys.stderr)


def print_json(result: dict[str, Any]) -> None:
    """One line, the last."""
    print(json.dumps(result, ensure_ascii=False), flush=True)


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return value


def _granularity(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 (coarsest) and 1 (finest)")
    return value
