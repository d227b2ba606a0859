"""Blocks of the texts in `qa` and `perplexity`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from blockrag.documents.document import Document
from blockrag.models import local_path
from blockrag.segment import DEFAULT_SEGMENTER, HFTokenCounter, Segmentation, Segmenter, SizeBounds, make_segmenter


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the segmentation."""
    parser.add_argument(
        "--segmenter", default=DEFAULT_SEGMENTER, help="neural, structural, fixed or similarity (default: %(default)s)"
    )
    parser.add_argument("--neural", type=Path, help="folder of the learned segmenter (default: the shipped one)")
    parser.add_argument("--granularity", type=float, default=0.5, help="0 coarsest to 1 finest (default: 0.5)")
    parser.add_argument("--block-tokens", type=int, nargs=2, default=(32, 512), help="minimum and maximum of a block")


class BlockSegmenter:
    """Segments texts by the flags of `add_flags`.

    Parameters
    ----------
    args : argparse.Namespace
    tokenizer : PreTrainedTokenizerBase
        Counts the tokens of blocks.

    Attributes
    ----------
    counter : HFTokenCounter
    bounds : SizeBounds
    """

    def __init__(self, args: argparse.Namespace, tokenizer: PreTrainedTokenizerBase):
        self.counter = HFTokenCounter(tokenizer)
        self.bounds = SizeBounds(*args.block_tokens)
        self._granularity = args.granularity
        self._segmenter = _segmenter(args, self.counter)

    def blocks(self, text: str) -> Sequence[str]:
        """The blocks of a text in order; none if the text is blank."""
        if not text.strip():
            return []
        document = Document("text", "text/plain", text)
        segmentation = Segmentation.create(document, self._segmenter, self.counter, self.bounds)
        return [text[block.start : block.end] for block in segmentation.blocks(self._granularity)]


def _segmenter(args: argparse.Namespace, counter: HFTokenCounter) -> Segmenter:
    if args.segmenter == "neural":
        from blockrag.segment.neural.segmenter import SHIPPED, Neural  # noqa: PLC0415  (slow to import)

        return Neural(args.neural or SHIPPED, args.device)
    if args.segmenter != "similarity":
        return make_segmenter(args.segmenter, counter=counter)
    from blockrag.retrieve.embedder import Embedder  # noqa: PLC0415  (slow to import)

    return make_segmenter("similarity", counter=counter, embed=Embedder(local_path("minilm"), "", args.device).embed)
