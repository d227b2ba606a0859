"""Options shared by several commands. Model libraries are imported only when needed."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrag.models import DEFAULT_EMBEDDER, DEFAULT_MODEL
from blockrag.segment import DEFAULT_GRANULARITY, DEFAULT_SEGMENTER, SEGMENTERS, SizeBounds

GIB = 1 << 30

ADAPTER_HELP = (
    "adapter for block mode: a folder, the name of a shipped adapter, none, or auto for the model's shipped adapter, "
    "if any (default: auto)"
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
    group.add_argument("--device", help="such as cpu or cuda (default: a GPU if there is one)")
    group.add_argument("--allow-unverified", action="store_true", help="allow model families that are not verified")


def add_kv_options(parser: argparse.ArgumentParser) -> None:
    """``--kv-device-gb --kv-memory-gb --kv-disk-gb --kv-remote --kv-remote-read-only --kv-at-rest``."""
    group = parser.add_argument_group("block KV")
    for tier, default, where in (
        ("device", 8, "GPU memory"),
        ("memory", 4, "host memory"),
        ("disk", 20, "disk"),
    ):
        budget = f"budget in {where}, in GiB (default: %(default)s)"
        group.add_argument(f"--kv-{tier}-gb", type=float, default=default, help=budget)
    group.add_argument("--kv-remote", metavar="URL", help="shared store: s3://..., gs://..., file:///...")
    group.add_argument("--kv-remote-read-only", action="store_true", help="only read from the shared store")
    group.add_argument(
        "--kv-at-rest",
        choices=("exact", "int8"),
        default="exact",
        help="format of files; int8 is smaller but not exact (default: exact)",
    )


def kv_settings(args: argparse.Namespace) -> dict[str, Any]:
    """These options as arguments of `Engine.from_pretrained`."""
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
    group.add_argument(
        "--segmenter", default=DEFAULT_SEGMENTER, choices=SEGMENTERS, help="segmenter (default: %(default)s)"
    )
    group.add_argument(
        "--granularity",
        type=_granularity,
        default=DEFAULT_GRANULARITY,
        help="0 (coarsest) to 1 (finest) (default: %(default)s)",
    )
    bounds = SizeBounds()
    group.add_argument("--min-tokens", type=int, default=bounds.minimum, help="smallest block (default: %(default)s)")
    group.add_argument("--max-tokens", type=int, default=bounds.maximum, help="largest block (default: %(default)s)")


def add_store_option(parser: argparse.ArgumentParser) -> None:
    """``--store``."""
    parser.add_argument("--store", type=Path, required=True, help="folder of the index and its block KV")


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


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
    """Warn if block mode has no adapter."""
    if engine.model.full is None:
        print("blockrag: no adapter: the weights were not trained for block mode", file=sys.stderr)


def print_json(result: dict[str, Any]) -> None:
    """Print the result as the last line."""
    print(json.dumps(result, ensure_ascii=False), flush=True)


def positive(text: str) -> int:
    """Parse a positive integer."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive integer")
    return value


def _granularity(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 (coarsest) and 1 (finest)")
    return value
