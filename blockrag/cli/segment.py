"""``segment``: show the blocks of a file."""

import argparse
import sys
from functools import cache
from typing import TYPE_CHECKING

from tqdm import tqdm

from blockrag.cli import options
from blockrag.documents import load
from blockrag.segment import Block, HFTokenCounter, Segmentation, SizeBounds, make_segmenter

if TYPE_CHECKING:
    from blockrag.retrieve.embedder import Embedder

HELP = "Split a file into blocks and print them."
EPILOG = "Example: python -m blockrag segment README.md --granularity 0.4 --json"

_SHORT_S = 1
"""Seconds before the progress bar appears."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file", help="document to split")
    options.add_reading_options(parser)
    options.add_segment_options(parser)
    options.add_model_options(parser)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print the blocks."""
    from blockrag.models.load import load_tokenizer

    document = load(args.file, encoding=args.encoding, ocr=args.ocr)
    options.print_notes(document)
    counter = HFTokenCounter(load_tokenizer(args.model))
    segmenter = make_segmenter(
        args.segmenter, counter=counter, embed=lambda texts: _embedder(args.embedder, args.device).embed(texts)
    )
    bounds = SizeBounds(args.min_tokens, args.max_tokens)
    length = len(document.text)
    with tqdm(desc="scoring", total=length, unit="char", file=sys.stderr, delay=_SHORT_S, leave=False) as bar:
        segmentation = Segmentation.create(
            document, segmenter, counter, bounds, lambda step: bar.update(step.done - bar.n)
        )
    blocks = segmentation.blocks(args.granularity)
    if not args.json:
        for number, block in enumerate(blocks, start=1):
            print(_line(number, block, document.text))
        return 0
    options.print_json(
        {
            "document": document.name,
            "encoding": document.encoding,
            "notes": document.notes,
            "granularity": args.granularity,
            "segmenter": args.segmenter,
            "n_blocks": len(blocks),
            "blocks": [
                {"start": b.start, "end": b.end, "n_tokens": b.n_tokens, "score": round(b.score, 4)} for b in blocks
            ],
        }
    )
    return 0


@cache
def _embedder(name: str, device: str | None) -> "Embedder":
    from blockrag.retrieve.embedder import load_embedder

    return load_embedder(name, device)


def _line(number: int, block: Block, text: str) -> str:
    first = " ".join(text[block.start : block.end].split())[:90]
    return f"{number:4}  {block.n_tokens:5} tokens  {block.score:.2f}  {first}"
