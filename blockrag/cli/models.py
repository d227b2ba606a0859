"""``models``: list, fetch and remove the default weights; which model families are supported."""

import argparse
import dataclasses
from typing import Any

from blockrag.cli import options
from blockrag.errors import WeightsError
from blockrag.models import DEFAULT_EMBEDDER, DEFAULT_MODEL
from blockrag.models.store import CatalogEntry, list_converted, list_models, local_path, remove

HELP = "List, fetch or remove model weights; families: which kinds of models are supported."
EPILOG = "Example: python -m blockrag models fetch qwen2.5-coder-0.5b"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", choices=("list", "fetch", "remove", "families"), nargs="?", default="list")
    parser.add_argument("names", nargs="*", help="models to fetch or remove; `fetch` alone fetches the defaults")
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Run the action, then list the models; `families` prints its table alone."""
    if args.action == "families":
        return _families(args.json)
    if args.action == "fetch":
        for name in args.names or [options.pick_model(DEFAULT_MODEL, None).name, DEFAULT_EMBEDDER]:
            local_path(name)
    if args.action == "remove":
        if not args.names:
            raise WeightsError("name the models to remove; `models list` shows them.")
        for name in args.names:
            remove(name)
    entries, converted = [_entry(entry) for entry in list_models()], list_converted()
    if args.json:
        options.print_json({"models": entries, "converted": [dataclasses.asdict(file) for file in converted]})
        return 0
    for entry in entries:
        state = f"{entry['nbytes'] / 1e6:.0f} MB in {entry['folder']}" if entry["nbytes"] else "not fetched"
        print(f"{entry['name']:18} {entry['kind']:7} {entry['licence']:11} {state}  ({entry['source']})")
    for file in converted:
        print(f"{file.name:26} {file.nbytes / 1e6:.0f} MB converted from {file.file}")
    return 0


def _families(as_json: bool) -> int:
    from blockrag.models.table import family_rows, markdown

    if as_json:
        options.print_json({"families": [dataclasses.asdict(row) for row in family_rows()]})
    else:
        print(markdown(), end="")
    return 0


def _entry(entry: CatalogEntry) -> dict[str, Any]:
    weights = entry.weights
    return {
        "name": weights.name,
        "kind": weights.kind,
        "licence": weights.licence,
        "source": weights.source,
        "folder": str(entry.folder),
        "nbytes": entry.nbytes,
    }
