"""Choose a segmenter's default granularity on whole dev documents: ``python -m training.segmenter.scale --data FILES``.

Training chooses it on dev instances of the data set, which are cropped, balanced and partly packed, but users load
whole documents. The weights, and so the order of candidates, do not change.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from blockrag.segment.neural.segmenter import fast_dtype
from blockrag.segment.neural.weights import SHIPPED, load, save_scale
from training.corpus import read_rows, some_documents
from training.headings import without_headings
from training.segmenter.examples import make_example
from training.segmenter.scoring import fit_middle, predict


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags and choose."""
    parser = argparse.ArgumentParser(prog="python -m training.segmenter.scale", description=__doc__)
    parser.add_argument("--data", nargs="+", required=True, help="files in the schema of training/corpus.py")
    parser.add_argument(
        "--neural", type=Path, default=SHIPPED, help="folder of the segmenter (default: the shipped one)"
    )
    parser.add_argument("--split", default="dev", help="split to use (default: dev)")
    parser.add_argument("--limit", type=int, default=12, help="documents per source (default: 12)")
    parser.add_argument("--max-chars", type=int, default=40000, help="skip longer documents (default: 40000)")
    parser.add_argument("--write", action="store_true", help="write the scale to the segmenter's configuration")
    args = parser.parse_args(argv)
    print(json.dumps(choose(args)))


def choose(args: argparse.Namespace) -> dict:
    """The previous and the chosen scale, using each document with and without its headings."""
    network, tokenizer, before = load(args.neural)
    network.to(dtype=fast_dtype(network.head.weight.device))
    rows = some_documents(read_rows(args.data), args.split, args.limit, args.max_chars)
    both = (each for row in rows for each in (row, without_headings(row)))
    examples = [make_example(row, tokenizer) for row in tqdm(both, desc="encoding")]
    found = predict(network, examples)
    scale = fit_middle(found, examples, np.array(before.shares))
    if args.write:
        save_scale(args.neural, scale)
    return {"before": asdict(before), "scale": asdict(scale), "n": len(examples)}


if __name__ == "__main__":
    main()
