"""Options shared by several commands. Model libraries are imported only when needed."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrag.documents import Document
from blockrag.errors import ArgumentError
from blockrag.models import AUTO, DEFAULT_EMBEDDER, DEFAULT_MODEL, choose_model
from blockrag.models.choose import Choice, choose_for_store, note_model
from blockrag.segment import DEFAULT_GRANULARITY, DEFAULT_SEGMENTER, SEGMENTERS, SizeBounds

GIB = 1 << 30

MODEL_HELP = (
    "answering model: auto (what suits this machine, or what made the index), a name from `models list`, a folder, a "
    "GGUF file, or a Hugging Face hub name (default: auto)"
)
ADAPTER_HELP = (
    "adapter for block mode: a folder, the name of a shipped adapter, none, or auto for the model's shipped adapter, "
    "if any (default: auto)"
)

if TYPE_CHECKING:
    from blockrag.pipeline import Pipeline


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """``--model --adapter --embedder --query-prefix --passage-prefix --reranker --device --dtype --allow-unverified
    --engine``."""
    group = parser.add_argument_group("models")
    where = "a name from `models list`, a Hugging Face hub name, or a folder"
    group.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    group.add_argument("--adapter", default="auto", help=ADAPTER_HELP)
    group.add_argument("--embedder", default=DEFAULT_EMBEDDER, help=f"sentence encoder: {where} (default: %(default)s)")
    for kind, what in (("query", "questions"), ("passage", "blocks")):
        prefix = f"text that the encoder needs before {what} (default: what the model was trained with)"
        group.add_argument(f"--{kind}-prefix", metavar="TEXT", help=prefix)
    group.add_argument("--reranker", metavar="NAME", help=f"cross-encoder that orders the blocks found: {where}")
    group.add_argument("--device", help="such as cpu or cuda (default: a GPU if there is one)")
    add_dtype_option(group)
    group.add_argument("--allow-unverified", action="store_true", help="allow model families that are not verified")
    group.add_argument(
        "--engine",
        metavar="URL",
        help="a vLLM server with BlockRAG's connector, which computes instead of this machine and keeps the block KV; "
        "its key, if it has one, is read from $VLLM_API_KEY (see docs/guides/vllm.md)",
    )


def add_dtype_option(group: "argparse._ActionsContainer") -> None:
    """``--dtype``."""
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "int8"),
        default="auto",
        help="type to compute in; auto: bfloat16 on a GPU, and for weights stored in 16 bits on a CPU that multiplies "
        "it, else float32; int8: weights in 8 bits on a CPU, faster answers but not exact (default: auto)",
    )


def add_kv_options(parser: argparse.ArgumentParser) -> None:
    """``--kv-device-gb --kv-memory-gb --kv-disk-gb --kv-remote ... --kv-at-rest --kv-salt``."""
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
        "--kv-remote-secret", metavar="FILE", help="file with the secret that seals the shared store's files"
    )
    group.add_argument(
        "--kv-at-rest",
        choices=("exact", "int8", "int4"),
        default="exact",
        help="format of files; int8 is smaller and int4 smallest, but not exact (default: exact)",
    )
    salt = "parts tenants: with different salts they find none of each other's KV, nor open each other's index"
    group.add_argument("--kv-salt", default="", metavar="TEXT", help=salt)


def kv_settings(args: argparse.Namespace) -> dict[str, Any]:
    """These options as arguments of `Engine.from_pretrained`."""
    return {
        "device_bytes": int(args.kv_device_gb * GIB),
        "memory_bytes": int(args.kv_memory_gb * GIB),
        "disk_bytes": int(args.kv_disk_gb * GIB),
        "kv_remote": args.kv_remote,
        "kv_remote_read_only": args.kv_remote_read_only,
        "kv_remote_secret": args.kv_remote_secret,
        "kv_at_rest": args.kv_at_rest,
        "kv_salt": args.kv_salt,
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


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """``--store``, ``--json``, and the options of models and of KV."""
    parser.add_argument("--store", type=Path, required=True, help="folder of the index and its block KV")
    add_model_options(parser)
    add_kv_options(parser)
    add_json_option(parser)


def add_indexing_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of reading and segmenting to those of a store."""
    add_store_options(parser)
    add_reading_options(parser)
    add_segment_options(parser)


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """``--encoding --ocr``."""
    parser.add_argument(
        "--encoding", help="encoding of text files, such as cp1252 or shift_jis (default: found in each)"
    )
    parser.add_argument(
        "--ocr", action="store_true", help="read scanned pages of PDFs by OCR (pip install 'blockrag[ocr]')"
    )


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def open_store(args: argparse.Namespace) -> "Pipeline":
    """Load the models and open the index in ``--store``."""
    from blockrag.engine import Engine
    from blockrag.pipeline import Pipeline
    from blockrag.vllm.engine import ServedEngine

    name = pick_model(args.model, args.device, args.store).name
    engine: Engine
    common = {
        "adapter": args.adapter,
        "embedder": args.embedder,
        "query_prefix": args.query_prefix,
        "passage_prefix": args.passage_prefix,
        "reranker": args.reranker,
        "device": args.device,
        "allow_unverified": args.allow_unverified,
    }
    if args.engine and args.kv_salt:
        raise ArgumentError(
            "--kv-salt is for block KV on this machine; with --engine the server's cache_salt parts tenants"
        )
    if args.engine:
        engine = ServedEngine.connect(args.engine, name, api_key=os.environ.get("VLLM_API_KEY"), **common)
    else:
        engine = Engine.from_pretrained(name, kv_dir=args.store / "kv", dtype=args.dtype, **common, **kv_settings(args))
    pipeline = Pipeline.open(engine, args.store)
    note_model(args.store, name)
    return pipeline


def pick_model(model: str, device: str | None, store: Path | None = None) -> Choice:
    """The model that ``--model`` means; for auto, say on standard error which it is and why.

    For an index that is there already (`store`), auto is the model that made it.
    """
    if model != AUTO:
        return Choice(model, "")
    choice = choose_model(device) if store is None else choose_for_store(store, device)
    print(f"blockrag: model {choice} (another: --model NAME, see python -m blockrag models)", file=sys.stderr)
    return choice


def print_json(result: dict[str, Any]) -> None:
    """Print the result as the last line."""
    print(json.dumps(result, ensure_ascii=False), flush=True)


def print_notes(document: Document) -> None:
    """Print on standard error what was left out of a document, or guessed."""
    for note in document.notes:
        print(f"blockrag: {document.name}: {note}", file=sys.stderr)


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
