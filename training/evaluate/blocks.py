"""How texts are cut where answers and long text are judged. Knows segmenters and token counts, no network."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from blockrag.documents.document import Document
from blockrag.models import local_path
from blockrag.segment import DEFAULT_SEGMENTER, HFTokenCounter, Segmentation, Segmenter, SizeBounds, make_segmenter


def add_flags(parser: argparse.ArgumentParser) -> None:
    """How long texts are cut."""
    parser.add_argument(
        "--segmenter", default=DEFAULT_SEGMENTER, help="or structural, fixed, similarity (default: %(default)s)"
    )
    parser.add_argument("--neural", type=Path, help="folder of the learned segmenter (default: the shipped one)")
    parser.add_argument("--granularity", type=float, default=0.5, help="0 coarsest to 1 finest (default: 0.5)")
    parser.add_argument("--block-tokens", type=int, nargs=2, default=(32, 512), help="fewest and most of a block")


class Cutter:
    """Cuts texts as the flags say.

    Parameters
    ----------
    args : argparse.Namespace
        Of `add_flags`.
    tokenizer : PreTrainedTokenizerBase
        Whose tokens count.

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

    def cut(self, text: str) -> Sequence[str]:
        """The blocks of a text, in order; none of a blank one."""
        if not text.strip():
            return []
        document = Document("text", "text/plain", text)
        segmentation = Segmentation.create(document, self._segmenter, self.counter, self.bounds)
        return [text[block.start : block.end] for block in segmentation.blocks(self._granularity)]


def _segmenter(args: argparse.Namespace, counter: HFTokenCounter) -> Segmenter:
    if args.segmenter == "neural":
        from blockrag.segment.neural.segmenter import SHIPPED, Neural  # noqa: PLC0415  (where it is asked for)

        return Neural(args.neural or SHIPPED, args.device)
    if args.segmenter != "similarity":
        return make_segmenter(args.segmenter, counter=counter)
    from blockrag.retrieve.embedder import Embedder  # noqa: PLC0415  (sentence-transformers, where it is asked for)

    return make_segmenter("similarity", counter=counter, embed=Embedder(local_path("minilm"), "", args.device).embed)
